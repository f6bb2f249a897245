"""Owns the audit: who asked for what, and why; append only. A reason is a person's own words: shown, never logged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from resumed.store import watermark
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("audit")


class Act(StrEnum):
    """An operator's command."""

    RESUME = "resume"
    RELEASE = "release"
    QUARANTINE = "quarantine"
    CANCEL = "cancel"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command; `at` is the database's time, None until it is written. A pause without a workflow is of all."""

    actor: str
    action: Act
    thread_id: str | None = None
    workflow: str | None = None
    reason: str | None = None
    at: datetime | None = None


async def write(session: Session, entries: Sequence[Entry]) -> None:
    """Append entries, in the transaction of what they record."""
    async with session.cursor() as cursor:
        await cursor.executemany(_SQL["write"], [asdict(entry) for entry in entries])


async def of_thread(session: Session, thread_id: str) -> list[Entry]:
    """Read the commands on a thread, in their order."""
    cursor = await session.execute(_SQL["of_thread"], {"thread": thread_id})
    return [Entry(**{**row, "action": Act(row["action"])}) async for row in cursor]


async def since(session: Session, length: timedelta, rows: int) -> list[Entry]:
    """Read the commands of the last `length` of time, the newest first, at most `rows`."""
    parameters = {"since": await watermark.database_clock(session) - length, "rows": rows}
    cursor = await session.execute(_SQL["since"], parameters)
    return [Entry(**{**row, "action": Act(row["action"])}) async for row in cursor]
