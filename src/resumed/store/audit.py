"""Owns the table of who asked for what, and why: append only. A reason is a person's own words: shown, never logged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from resumed.store import watermark
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("audit")


class Act(StrEnum):
    """What a person can ask for."""

    RESUME = "resume"
    RELEASE = "release"
    QUARANTINE = "quarantine"
    CANCEL = "cancel"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Entry:
    """One act; `at` is the database's time, none before it is written. No workflow with a pause means every one."""

    actor: str
    action: Act
    thread_id: str | None = None
    workflow: str | None = None
    reason: str | None = None
    at: datetime | None = None


async def write(session: Session, entries: Sequence[Entry]) -> None:
    """Append entries, in the transaction of what they tell of."""
    async with session.cursor() as cursor:
        await cursor.executemany(_SQL["write"], [asdict(one) for one in entries])


async def of_thread(session: Session, thread_id: str) -> list[Entry]:
    """Read what was asked for on a thread, in its order."""
    cursor = await session.execute(_SQL["of_thread"], {"thread": thread_id})
    return [Entry(**{**row, "action": Act(row["action"])}) async for row in cursor]


async def since(session: Session, length: timedelta, rows: int) -> list[Entry]:
    """Read what was asked for within this length of time, the newest first, at most so many."""
    parameters = {"since": await watermark.database_clock(session) - length, "rows": rows}
    cursor = await session.execute(_SQL["since"], parameters)
    return [Entry(**{**row, "action": Act(row["action"])}) async for row in cursor]
