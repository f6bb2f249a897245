"""Owns the watermark of the sweep; its row is also the lock that keeps two replicas from sweeping at once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from resumed.store.connection import Cursor, Session, fetch_one, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("watermark")


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the narrow window has been read, and when the wide one was last read.

    Every transaction with an id below `horizon` had ended when this was read.
    """

    position: datetime
    wide_at: datetime
    horizon: int


async def database_clock(session: Session, now: datetime | None = None) -> datetime:
    """Read the database's clock; return `now` instead where it is given."""
    return await fetch_clock(await select_clock(session, now))


async def select_clock(session: Session, now: datetime | None = None) -> Cursor:
    """Ask for the database's clock, or for `now` where it is given; in a pipeline the answer comes later."""
    return await session.execute(_SQL["clock"], {"now": now})


async def fetch_clock(cursor: Cursor) -> datetime:
    """Return the time that `select_clock` has asked for."""
    return cast("datetime", (await fetch_one(cursor))["now"])


async def take_watermark(session: Session, first_position: datetime) -> Watermark | None:
    """Lock the watermark until the transaction ends; None where another replica has it."""
    row = await (await session.execute(_SQL["take"])).fetchone()
    if row is None:  # another replica has it, or there is none yet
        await session.execute(_SQL["ensure"], {"position": first_position})
        row = await (await session.execute(_SQL["take"])).fetchone()
    return Watermark(row["position"], row["wide_at"], row["horizon"]) if row else None


async def other_schema(session: Session) -> str | None:
    """Return the schema of LangGraph's tables that the cases here are about, where it is not this session's."""
    row = await (await session.execute(_SQL["other_schema"])).fetchone()
    return str(row["checkpoint_schema"]) if row else None


async def move_watermark(session: Session, watermark: Watermark) -> None:
    """Record how far the window has been read, in the transaction that took the watermark."""
    await session.execute(_SQL["move"], {"position": watermark.position, "wide_at": watermark.wide_at})


async def watermark_position(session: Session) -> datetime | None:
    """Read how far the sweep has read, without a lock; None before the first sweep."""
    row = await (await session.execute(_SQL["position"])).fetchone()
    return row["position"] if row else None


async def uptime(session: Session) -> timedelta:
    """Return how long the server has been up; after a restart every lock is free while every application lives."""
    row = await one_row(session, _SQL["uptime"])
    return cast("timedelta", row["uptime"])
