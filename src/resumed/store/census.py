"""Counts open cases for the gauges of the whole database; the same numbers on every replica."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from resumed.store.connect import Session
from resumed.store.queries import load

_SQL = load("census")


@dataclass(frozen=True, slots=True)
class Count:
    """How many open cases one workflow has in one state with one verdict; `workflow` is empty for unclaimed ones."""

    workflow: str
    state: str
    verdict: str
    threads: int
    due: int
    oldest_at: datetime

    def as_fields(self) -> dict[str, Any]:
        """Give the fields by their names."""
        return asdict(self)


async def count(session: Session) -> list[Count]:
    """Count the open cases by workflow, state and verdict."""
    cursor = await session.execute(_SQL["threads"])
    return [Count(**row) async for row in cursor]
