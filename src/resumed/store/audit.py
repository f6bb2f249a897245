"""Owns the audit: who asked for what, and why; append only. A reason is a person's own words: shown, never logged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from resumed.store import watermark
from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("audit")


@dataclass(frozen=True, slots=True)
class Entry:
    """One act; `at` is the database's time, None until it is written. A pause without a workflow is of all.

    `action` and `via` are words of `Act` and `Via`, or of a newer release; `via` is None where an older one wrote it.
    """

    actor: str
    action: str
    thread_id: str | None = None
    workflow: str | None = None
    reason: str | None = None
    at: datetime | None = None
    via: str | None = None


@dataclass(frozen=True, slots=True)
class NumberedAct:
    """The id and the words of an entry, as the database has them."""

    id: int
    action: str
    via: str | None


async def write(session: Session, entries: Sequence[Entry]) -> None:
    """Append entries, in the transaction of what they record."""
    async with session.cursor() as cursor:
        await cursor.executemany(_SQL["write"], [asdict(entry) for entry in entries])


async def of_thread(session: Session, thread_id: str) -> list[Entry]:
    """Read what was done to a thread, in its order."""
    return [Entry(**row) async for row in await session.execute(_SQL["of_thread"], {"thread": thread_id})]


async def since(session: Session, length: timedelta, rows: int) -> list[Entry]:
    """Read what was done in the last `length` of time, the newest first, at most `rows`."""
    parameters = {"since": await watermark.database_clock(session) - length, "rows": rows}
    cursor = await session.execute(_SQL["since"], parameters)
    return [Entry(**row) async for row in cursor]


async def newest_id(session: Session) -> int:
    """Return the highest id, 0 where there is none."""
    return int((await one_row(session, _SQL["newest_id"]))["id"])


async def newest_ids(session: Session, rows: int) -> list[int]:
    """Return the ids of the newest entries, at most `rows`."""
    return [row["id"] async for row in await session.execute(_SQL["newest_ids"], {"rows": rows})]


async def after(session: Session, id: int, rows: int) -> list[NumberedAct]:  # noqa: A002 - the column's name
    """Read the entries with a higher id, in the order of their ids, at most `rows`."""
    cursor = await session.execute(_SQL["after"], {"id": id, "rows": rows})
    return [NumberedAct(**row) async for row in cursor]


async def writers(session: Session) -> set[str]:
    """Name the transactions that write to the audit now: each from before its entries have ids until it ends."""
    return {row["writer"] async for row in await session.execute(_SQL["writers"])}
