"""Owns the index on `checkpoints.checkpoint_id`: whether it is there, and building it while applications write.

Each partition of a partitioned table gets one, built concurrently and attached to that of the level above. Each step is
read from the catalogue, so that a build which was killed continues where it stopped.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import psycopg

from resumed.errors import DatabaseUnusableError
from resumed.store.connection import Session, Target, open_session
from resumed.store.sql_files import load_sql

_SQL = load_sql("schema")
_POLL_INTERVAL = timedelta(seconds=2)
_LOCK_PATIENCE = timedelta(seconds=2)
_INDEX = "index on checkpoints (checkpoint_id)"

Tell = Callable[[str], None]


async def has_index(session: Session) -> bool:
    """Return whether every table that holds checkpoints has a finished index on `checkpoint_id`, ours or another."""
    row = await (await session.execute(_SQL["has_index"])).fetchone()
    return bool(row and row["indexed"])


async def ensure_index(session: Session, target: Target, tell: Tell) -> None:
    """Build the index where it is missing; `session` has no time limits. `tell` is called with each step."""
    row = await (await session.execute(_SQL["has_index"])).fetchone()
    if row and row["indexed"] and (row["covered"] or not row["partitioned"]):
        tell(f"{_INDEX}: already there")
        return
    tell(f"{_INDEX}: building, without blocking writers")
    watching = asyncio.create_task(_report_progress(target, tell))
    try:
        if row and row["partitioned"]:
            await _build_on_partitions(session, tell)
        else:
            await session.execute(_SQL["drop_index"])
            await session.execute(_SQL["build_index"])
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    tell(f"{_INDEX}: built")


async def _build_on_partitions(session: Session, tell: Tell) -> None:
    """Make the steps for a partitioned table, one by one, until none is left."""
    last: str | None = None
    while step := await (await session.execute(_SQL["next_step"])).fetchone():
        if step["statement"] == last:
            message = f"the index cannot be built: {last} changed nothing; see what the table's owner has there"
            raise DatabaseUnusableError(message)
        last = step["statement"]
        tell(f"{_INDEX}: {step['table_name']}, {step['left_over']} steps left")
        if step["brief"]:
            await _run_with_short_waits(session, step["statement"], tell)
        else:
            await session.execute(step["statement"].encode())


async def _run_with_short_waits(session: Session, statement: str, tell: Tell) -> None:
    """Run a statement that needs a short exclusive lock, for which it waits briefly: writers queue behind it."""
    reported = False
    await session.execute(_SQL["lock_patience"], {"lock_timeout": f"{_LOCK_PATIENCE.total_seconds():g}s"})
    while not await _try_statement(session, statement):
        if not reported:
            tell(f"{_INDEX}: waiting for a transaction that writes to the table to end")
        reported = True
        await asyncio.sleep(_POLL_INTERVAL.total_seconds())
    await session.execute(_SQL["lock_patience"], {"lock_timeout": "0"})


async def _try_statement(session: Session, statement: str) -> bool:
    """Run a statement; return False where the lock that it needs stayed held."""
    try:
        await session.execute(statement.encode())
    except psycopg.errors.LockNotAvailable:
        return False
    return True


async def _report_progress(target: Target, tell: Tell) -> None:
    await asyncio.sleep(_POLL_INTERVAL.total_seconds())
    async with open_session(target, "resumed migrate") as watching:
        while True:
            row = await (await watching.execute(_SQL["progress"])).fetchone()
            if row:
                tell(f"{_INDEX}: {row['phase']}, {row['percent'] or 0} %")
            await asyncio.sleep(_POLL_INTERVAL.total_seconds())
