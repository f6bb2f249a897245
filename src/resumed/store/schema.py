"""Owns our schema: its numbered migrations, the index on `checkpoints`, and whether a database fits this release.

`migrate` takes its lock by trying in a loop: one that waited in Postgres would hold a snapshot, deadlock with the
concurrent index build of the one it waits for, and keep vacuum from its work.
"""

import asyncio
import re
from datetime import timedelta
from importlib import resources

import psycopg

from resumed.errors import DatabaseUnusableError
from resumed.store import watermark
from resumed.store.checkpoint_index import Tell, ensure_index, has_index
from resumed.store.connection import Session, Target, one_row, open_session
from resumed.store.database_errors import explain, first_line
from resumed.store.locks import identifier_key
from resumed.store.sql_files import load_sql

SCHEMA_VERSION = 9
COMPATIBLE_FROM = 1
__all__ = ["has_index"]
_SQL = load_sql("schema")
_LOCK = {"key": identifier_key("resumed migrate")}
_FILE = re.compile(r"(\d{4})_\w+\.sql")
_RETRY_INTERVAL = timedelta(milliseconds=300)


def _silent(_: str) -> None:
    """Report nothing."""


async def migrate(target: Target, *, build_index: bool = True, tell: Tell = _silent) -> None:
    """Create or upgrade our schema and build the index on `checkpoints.checkpoint_id` concurrently.

    Safe to interrupt, to repeat and to run in many processes at once. Where LangGraph's tables are not there yet the
    index waits for the next time. `tell` is called with a sentence on each step. Raises DatabaseError.
    """
    async with open_session(target, "resumed migrate", silence=None) as session:
        try:
            await session.execute(
                "select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)"
            )
            await _take_lock(session, tell)
            await _upgrade(session, tell)
            if build_index:
                await _build_index(session, target, tell)
            await session.execute(_SQL["unlock"], _LOCK)
        except psycopg.errors.InsufficientPrivilege as error:
            message = f"this role may not migrate: {first_line(error)}; run migrate as the owner of the tables"
            raise DatabaseUnusableError(message) from None
        except psycopg.Error as error:
            raise explain(error) from None


async def check(session: Session, *, writing: bool = True) -> None:
    """Check that this release can work with the database; raises DatabaseUnusableError with the remedy.

    With `writing` False only the rights of a command that reads are required.
    """
    await check_fit(session, writing=writing)
    await require_visible(session)


async def check_fit(session: Session, *, writing: bool = True) -> None:
    """Check all that `check` does except that every row is visible; raises DatabaseUnusableError."""
    await _check_grants(session, writing=writing)
    version, compatible_from = await _read_version(session)
    if version == 0:
        message = "the schema `resumed` is not in this database: run `resumed migrate`"
        raise DatabaseUnusableError(message)
    if version < SCHEMA_VERSION:
        message = (
            f"the schema `resumed` has version {version}, this release needs {SCHEMA_VERSION}: run `resumed migrate`"
        )
        raise DatabaseUnusableError(message)
    if compatible_from > SCHEMA_VERSION:
        message = (
            f"the schema `resumed` has version {version}, which needs a newer release than this one "
            f"(version {SCHEMA_VERSION}): upgrade resumed"
        )
        raise DatabaseUnusableError(message)
    if other := await watermark.other_schema(session):
        message = (
            f"the schema `resumed` of this database is about LangGraph's tables in {other!r}: set "
            "RESUMED_CHECKPOINT_SCHEMA to that, or keep applications of other schemas in databases of their own"
        )
        raise DatabaseUnusableError(message)
    if missing := await missing_tables(session):
        message = (
            f"LangGraph's tables are missing ({', '.join(missing)}): run the application's `checkpointer.setup()`, "
            "or name their schema with RESUMED_CHECKPOINT_SCHEMA"
        )
        raise DatabaseUnusableError(message)
    await _check_columns(session)
    writes = await one_row(session, _SQL["read_only"])
    if writing and writes["standby"]:
        message = "the database is a standby (in recovery): give resumed the primary's address"
        raise DatabaseUnusableError(message)
    if writing and writes["read_only"]:
        message = (
            "the database is read-only: give the primary's address, or set default_transaction_read_only to off for "
            "this role or database"
        )
        raise DatabaseUnusableError(message)


async def _check_columns(session: Session) -> None:
    missing = await missing_columns(session)
    if "checkpoints.checkpoint_id" in missing:
        message = (
            "LangGraph's tables are those of a ShallowPostgresSaver, which keeps no checkpoints to go on from: let the "
            "application save with a PostgresSaver, in tables of its own"
        )
        raise DatabaseUnusableError(message)
    if missing:
        message = (
            f"LangGraph's tables are of an older release, without {', '.join(missing)}: run `checkpointer.setup()` of "
            "the application's current release"
        )
        raise DatabaseUnusableError(message)


async def missing_grants(session: Session, *, writing: bool = True) -> list[str]:
    """Return what the role lacks, such as `INSERT, UPDATE on table resumed.cases`, schemas first."""
    return [row["missing"] async for row in await session.execute(_SQL["missing_grants"], {"writing": writing})]


async def missing_tables(session: Session) -> list[str]:
    """Return those of LangGraph's tables that the schema on the search path lacks."""
    return [row["name"] async for row in await session.execute(_SQL["tables"])]


async def missing_columns(session: Session) -> list[str]:
    """Return the columns that LangGraph's tables lack, those of `checkpoints` last."""
    return [row["name"] async for row in await session.execute(_SQL["missing_columns"])]


async def require_visible(session: Session) -> None:
    """Check that this role sees every row; raises DatabaseUnusableError where row-level security may hide any."""
    hidden = [row["name"] async for row in await session.execute(_SQL["hidden_tables"])]
    if hidden:
        message = (
            f"row-level security may hide rows of {', '.join(hidden)} from the role {session.info.user}, and what is "
            "hidden would be taken for what is not there; give the role BYPASSRLS (alter role ... bypassrls), or "
            "connect as the tables' owner without `force row level security`"
        )
        raise DatabaseUnusableError(message)


async def _check_grants(session: Session, *, writing: bool) -> None:
    if missing := await missing_grants(session, writing=writing):
        message = (
            f"the role {session.info.user} lacks {'; '.join(missing)}: grant it, as deploy/sql/roles.sql does for the "
            "runner, or connect as another role"
        )
        raise DatabaseUnusableError(message)


async def _take_lock(session: Session, tell: Tell) -> None:
    waited = False
    while True:
        row = await (await session.execute(_SQL["try_lock"], _LOCK)).fetchone()
        if row and row["locked"]:
            return
        if not waited:
            tell("another migrate is running; waiting for it")
        waited = True
        await asyncio.sleep(_RETRY_INTERVAL.total_seconds())


async def _read_version(session: Session) -> tuple[int, int]:
    have = await (await session.execute(_SQL["have_versions"])).fetchone()
    if not have or not have["have"]:
        return 0, 0
    row = await (await session.execute(_SQL["version"])).fetchone()
    return (row["version"], row["compatible_from"]) if row else (0, 0)


async def _upgrade(session: Session, tell: Tell) -> None:
    version, compatible_from = await _read_version(session)
    if compatible_from > SCHEMA_VERSION:
        message = f"the schema `resumed` has version {version}, newer than this release knows: upgrade resumed"
        raise DatabaseUnusableError(message)
    folder = resources.files("resumed.store") / "migrations"
    files = [(int(match[1]), entry) for entry in folder.iterdir() if (match := _FILE.fullmatch(entry.name))]
    for number, file in sorted(files, key=lambda pair: pair[0]):
        if number <= version:
            continue
        async with session.transaction():
            await session.execute(file.read_bytes())
            await session.execute(_SQL["record_version"], {"version": number, "compatible_from": COMPATIBLE_FROM})
        tell(f"schema resumed: migration {number} applied")
    if version >= SCHEMA_VERSION:
        tell(f"schema resumed: version {version}, nothing to do")


async def _build_index(session: Session, target: Target, tell: Tell) -> None:
    if await missing_tables(session):
        tell("LangGraph's tables are not there yet; the index waits for the next `resumed migrate`")
        return
    await _check_columns(session)
    await ensure_index(session, target, tell)
