"""Reads counts and sizes: open cases, the server's version, connections and lock table, how long steps have taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.checkpoint_id import made_at, plausible_span
from resumed.model import ThreadCount
from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("statistics")


@dataclass(frozen=True, slots=True)
class Server:
    """The server's version, mode, encoding and time since its start."""

    version: str
    standby: bool
    read_only: bool
    encoding: str
    uptime: timedelta


@dataclass(frozen=True, slots=True)
class Usage:
    """How many of something there can be, and how many are in use."""

    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Step:
    """A root checkpoint; `ours`: saved by an attempt, `stood`: a question or an error came before the next one."""

    thread_id: str
    checkpoint_id: str
    source: str | None
    ours: bool
    stood: bool


async def count_cases(session: Session) -> list[ThreadCount]:
    """Count the open cases by workflow, state and verdict."""
    return [ThreadCount(**row) async for row in await session.execute(_SQL["open_cases"])]


async def server(session: Session) -> Server:
    """Read what the server reports of itself."""
    return Server(**await one_row(session, _SQL["server"]))


async def connections(session: Session) -> Usage:
    """Count the sessions against those that an ordinary role may have."""
    row = await one_row(session, _SQL["connections"])
    return Usage(row["allowed"], row["used"])


async def lock_table(session: Session) -> Usage:
    """Count the locks against the size of the server's lock table."""
    return Usage(**await one_row(session, _SQL["lock_table"]))


async def newest_checkpoint(session: Session, now: datetime) -> datetime | None:
    """Return when the newest checkpoint was made, by its application's clock; ids that tell no time are left out."""
    parameters = {"highest": plausible_span(now)[1]}
    row = await (await session.execute(_SQL["newest_checkpoint"], parameters)).fetchone()
    return made_at(row["checkpoint_id"]) if row else None


async def recent_threads(session: Session, rows: int) -> list[str]:
    """Name the threads of the newest `rows` checkpoints, the newest first."""
    return [row["thread_id"] async for row in await session.execute(_SQL["recent_threads"], {"rows": rows})]


async def steps(session: Session, threads: Sequence[str], rows: int | None = None) -> list[Step]:
    """Read the root checkpoints of these threads, thread by thread in their order; at most `rows` unless it is None."""
    cursor = await session.execute(_SQL["steps"], {"threads": list(threads), "rows": rows})
    return [Step(**row) async for row in cursor]
