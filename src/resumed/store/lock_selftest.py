"""Owns the proof that advisory locks work: not behind a transaction pooler, on a standby, on a mere look-alike."""

import asyncio
import secrets
from datetime import timedelta

import psycopg

from resumed.errors import DatabaseUnreachableError, DatabaseUnusableError
from resumed.store.connection import Session, Target, one_row, open_session
from resumed.store.database_errors import ErrorKind, explain, first_line, is_transient, kind_of
from resumed.store.sql_files import load_sql

_SQL = load_sql("locks")
_PATIENCE = timedelta(seconds=5)
_POOLED = (
    "the connection goes through a transaction pooler (PgBouncer?), which loses session locks: "
    "give resumed a direct connection to Postgres, or a pool in session mode"
)


async def run_lock_selftest(target: Target) -> None:
    """Check on three sessions that locks exclude; raises DatabaseUnusableError with the reason and the remedy."""
    try:
        async with (
            asyncio.timeout(_PATIENCE.total_seconds() * 4),
            open_session(target, "resumed self-test") as first,
            open_session(target, "resumed self-test") as second,
            open_session(target, "resumed self-test") as third,
        ):
            await _check(first, second, third)
    except TimeoutError:
        message = "the self-test of the locks was not answered in time: see what holds the database up, and try again"
        raise DatabaseUnreachableError(message) from None
    except psycopg.Error as error:
        if is_transient(error):
            message = f"the self-test of the locks was cut off: {first_line(error)}; try again"
            raise DatabaseUnreachableError(message) from None
        if kind_of(error) is ErrorKind.OTHER:
            raise DatabaseUnusableError(_POOLED) from None
        raise explain(error) from None


async def _check(first: Session, second: Session, third: Session) -> None:
    before = await _backend(first)
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()), second.transaction(), third.transaction():
            await second.execute("select 1")
            await third.execute("select 1")
            after = await _backend(first)
    except (TimeoutError, psycopg.errors.ProtocolViolation):
        raise DatabaseUnusableError(_POOLED) from None
    if before != after:
        raise DatabaseUnusableError(_POOLED)
    await _check_lock(first, second)


async def _backend(session: Session) -> int:
    row = await one_row(session, _SQL["backend"])
    if row["standby"]:
        message = "the database is a standby (in recovery): give resumed the primary's address"
        raise DatabaseUnusableError(message)
    return int(row["pid"])


async def _check_lock(first: Session, second: Session) -> None:
    key = {"key": secrets.randbits(63)}
    taken = await _ask(first, "try_lock", key, "locked")
    taken_twice = await _ask(second, "try_lock", key, "locked")
    visible = await _ask(second, "visible", key, "visible")
    returned = await _ask(first, "unlock", key, "unlocked")
    if not taken or taken_twice or not visible or not returned:
        message = "advisory locks of this database do not lock; resumed needs PostgreSQL itself"
        raise DatabaseUnusableError(message)


async def _ask(session: Session, query: str, parameters: dict[str, int], column: str) -> bool:
    row = await one_row(session, _SQL[query], parameters)
    return bool(row[column])
