"""Collects what a save writes, so that a session which others use is taken when all of it is there.

LangGraph's saver serialises values while it has the cursor. A class of the user's that takes its time there, or never
ends, would hold up every thread whose lock is on the session.
"""

from dataclasses import dataclass, field
from typing import Any, cast

from psycopg import AsyncCursor
from psycopg.rows import DictRow


@dataclass(slots=True)
class SaveBatch:
    """The statements of one save, in their order. A save reads nothing."""

    _statements: list[tuple[str, Any, Any]] = field(default_factory=list)

    def as_cursor(self) -> AsyncCursor[DictRow]:
        """Return this as what a saver executes its statements on."""
        return cast("AsyncCursor[DictRow]", self)

    async def execute(self, query: Any, params: Any = None) -> None:
        """Have a statement executed when the batch is sent."""
        self._statements.append(("execute", query, params))

    async def executemany(self, query: Any, params: Any) -> None:
        """Have a statement executed for each of `params` when the batch is sent."""
        self._statements.append(("executemany", query, params))

    async def send(self, cursor: AsyncCursor[DictRow]) -> None:
        """Execute what was collected."""
        for how, query, params in self._statements:
            await getattr(cursor, how)(query, params)
