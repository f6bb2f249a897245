"""Owns our schema: its numbered migrations, the index on `checkpoints`, and whether a database fits this release.

`migrate` takes its lock by trying in a loop: one that waited in Postgres would hold a snapshot, deadlock with the
concurrent index build of the one it waits for, and keep vacuum from its work.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from importlib import resources

import psycopg

from resumed.errors import DatabaseUnusableError
from resumed.store import watermarks
from resumed.store.connect import Session, Target, opened
from resumed.store.faults import explain, first_line
from resumed.store.locks import identifier_key
from resumed.store.queries import load

SCHEMA_VERSION = 3
COMPATIBLE_FROM = 1
_SQL = load("schema")
_LOCK = {"key": identifier_key("resumed migrate")}
_FILE = re.compile(r"(\d{4})_\w+\.sql")
_TRY_AGAIN = timedelta(milliseconds=300)
_LOOK = timedelta(seconds=2)

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    """Tell nobody."""


async def migrate(target: Target, *, build_index: bool = True, tell: Tell = _silent) -> None:
    """Create or upgrade our schema and build the index on `checkpoints.checkpoint_id` concurrently.

    Safe to interrupt, to repeat and to run in many processes at once. Where LangGraph's tables are not there yet the
    index waits for the next time. `tell` is called with a sentence for each step. Raises DatabaseError.
    """
    async with opened(target, "resumed migrate", silence=None) as session:
        try:
            await session.execute(
                "select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)"
            )
            await _take_lock(session, tell)
            await _upgrade(session, tell)
            if build_index:
                await _ensure_index(session, target, tell)
            await session.execute(_SQL["unlock"], _LOCK)
        except psycopg.errors.InsufficientPrivilege as error:
            message = f"this role may not migrate: {first_line(error)}; run migrate as the owner of the tables"
            raise DatabaseUnusableError(message) from None
        except psycopg.Error as error:
            raise explain(error) from None


async def check(session: Session, *, writing: bool = True) -> None:
    """Make sure that this release can work with the database; raises DatabaseUnusableError with the remedy.

    `writing` False asks for no more rights than a command needs that only reads.
    """
    await _check_grants(session, writing=writing)
    version, compatible_from = await _version(session)
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
    if other := await watermarks.other_schema(session):
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


async def missing_grants(session: Session, *, writing: bool = True) -> list[str]:
    """Say what the role lacks, such as `INSERT, UPDATE on table resumed.cases`, schemas first."""
    return [row["missing"] async for row in await session.execute(_SQL["missing_grants"], {"writing": writing})]


async def missing_tables(session: Session) -> list[str]:
    """Name those of LangGraph's tables that the schema on the search path lacks."""
    return [row["name"] async for row in await session.execute(_SQL["tables"])]


async def has_index(session: Session) -> bool:
    """Say whether a finished index on `checkpoints.checkpoint_id` is there, whoever built it."""
    return any([row["valid"] async for row in await session.execute(_SQL["indexes"])])


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
            tell("another migrate is at work; waiting for it")
        waited = True
        await asyncio.sleep(_TRY_AGAIN.total_seconds())


async def _version(session: Session) -> tuple[int, int]:
    have = await (await session.execute(_SQL["have_versions"])).fetchone()
    if not have or not have["have"]:
        return 0, 0
    row = await (await session.execute(_SQL["version"])).fetchone()
    return (row["version"], row["compatible_from"]) if row else (0, 0)


async def _upgrade(session: Session, tell: Tell) -> None:
    version, compatible_from = await _version(session)
    if compatible_from > SCHEMA_VERSION:
        message = f"the schema `resumed` has version {version}, newer than this release knows: upgrade resumed"
        raise DatabaseUnusableError(message)
    for number, statements in _migrations():
        if number <= version:
            continue
        async with session.transaction():
            await session.execute(statements)
            await session.execute(_SQL["record_version"], {"version": number, "compatible_from": COMPATIBLE_FROM})
        tell(f"schema resumed: migration {number} applied")
    if version >= SCHEMA_VERSION:
        tell(f"schema resumed: version {version}, nothing to do")


def _migrations() -> list[tuple[int, bytes]]:
    folder = resources.files("resumed.store") / "migrations"
    found = [(_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir()]
    return sorted((int(match[1]), entry.read_bytes()) for match, entry in found if match)


async def _ensure_index(session: Session, target: Target, tell: Tell) -> None:
    if await missing_tables(session):
        tell("LangGraph's tables are not there yet; the index waits for the next `resumed migrate`")
        return
    if await has_index(session):
        tell("index on checkpoints (checkpoint_id): already there")
        return
    await session.execute(_SQL["drop_index"])
    tell("index on checkpoints (checkpoint_id): building, without blocking writers")
    building = asyncio.create_task(_report_progress(target, tell))
    try:
        await session.execute(_SQL["build_index"])
    finally:
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)
    tell("index on checkpoints (checkpoint_id): built")


async def _report_progress(target: Target, tell: Tell) -> None:
    await asyncio.sleep(_LOOK.total_seconds())
    async with opened(target, "resumed migrate") as watching:
        while True:
            row = await (await watching.execute(_SQL["progress"])).fetchone()
            if row:
                tell(f"index on checkpoints (checkpoint_id): {row['phase']}, {row['percent'] or 0} %")
            await asyncio.sleep(_LOOK.total_seconds())
