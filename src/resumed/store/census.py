"""Counts open cases for the gauges of the whole database; the same numbers on every replica."""

from resumed.model import ThreadCount
from resumed.store.connect import Session
from resumed.store.queries import load

_SQL = load("census")


async def count(session: Session) -> list[ThreadCount]:
    """Count the open cases by workflow, state and verdict."""
    cursor = await session.execute(_SQL["threads"])
    return [ThreadCount(**row) async for row in cursor]
