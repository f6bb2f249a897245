"""Reads what `doctor` says of a server: version, connections, lock table, and how long steps of threads have taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.checkpoint_id import made_at, plausible_span
from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("vitals")


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    version: str
    standby: bool
    read_only: bool
    encoding: str
    uptime: timedelta


@dataclass(frozen=True, slots=True)
class Room:
    """How much of something there is in all, and how much of it is taken."""

    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Step:
    """A root checkpoint; `ours` was saved by an attempt, `stood` says that a question or an error followed it."""

    thread_id: str
    checkpoint_id: str
    source: str | None
    ours: bool
    stood: bool


async def server(session: Session) -> Server:
    """Ask the server who it is."""
    return Server(**await one_row(session, _SQL["server"]))


async def connections(session: Session) -> Room:
    """Count the sessions against those that an ordinary role may have."""
    row = await one_row(session, _SQL["connections"])
    return Room(row["allowed"], row["used"])


async def lock_table(session: Session) -> Room:
    """Count the locks against the size of the server's lock table."""
    return Room(**await one_row(session, _SQL["lock_table"]))


async def newest_checkpoint(session: Session, now: datetime) -> datetime | None:
    """When the newest checkpoint was made, by the clock of the application that made it; ids of no time left out."""
    parameters = {"highest": plausible_span(now)[1]}
    row = await (await session.execute(_SQL["newest_checkpoint"], parameters)).fetchone()
    return made_at(row["checkpoint_id"]) if row else None


async def recent_threads(session: Session, rows: int) -> list[str]:
    """Name the threads of the newest `rows` checkpoints, the newest first."""
    return [row["thread_id"] async for row in await session.execute(_SQL["recent_threads"], {"rows": rows})]


async def steps(session: Session, threads: Sequence[str]) -> list[Step]:
    """Read the root checkpoints of these threads, thread by thread in their order."""
    cursor = await session.execute(_SQL["steps"], {"threads": list(threads)})
    return [Step(**row) async for row in cursor]
