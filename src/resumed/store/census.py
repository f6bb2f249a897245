"""Counts open cases for the gauges of the whole database; the same numbers on every replica."""

from resumed.model import ThreadCount
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("census")


async def count(session: Session) -> list[ThreadCount]:
    """Count the open cases by workflow, state and verdict."""
    cursor = await session.execute(_SQL["threads"])
    return [ThreadCount(**row) async for row in cursor]
