"""Hands the spans of closed attempts to the exporter, with the links that only the database knows."""

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resumed import timings
from resumed.daemon.task_context import TaskContext
from resumed.errors import DatabaseError
from resumed.model import Attempt
from resumed.observability.traces import Traces
from resumed.rows import AttemptOrigin
from resumed.store import attempts
from resumed.store.connection import PostgresError

_MOST_TRIES = 3
_POLL = 0.02


@dataclass(slots=True)
class SpanTask:
    """Exports what was closed since the last turn. A failing database delays spans, then costs them their links."""

    context: TaskContext
    _failures: int = 0

    async def run_once(self) -> int:
        """Export spans of closed attempts; return how many."""
        traces = self.context.events.traces
        closed = traces.waiting() if traces is not None else []
        if traces is None or not closed:
            return 0
        origins = await self._read_origins(closed)
        if origins is None:
            return 0
        await asyncio.to_thread(traces.emit, closed, origins)
        return len(closed)

    async def close(self) -> None:
        """Export what is left, for as long as the end of the process may take."""
        traces = self.context.events.traces
        if traces is None:
            return
        limit = timings.current().trace_close.total_seconds()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while await self.run_once():
                    pass
        _emit_rest(traces)
        closing = threading.Thread(target=traces.export.close, daemon=True)  # may wait for the collector
        closing.start()
        deadline = asyncio.get_running_loop().time() + limit
        while closing.is_alive() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL)

    async def _read_origins(self, closed: Sequence[Attempt]) -> Mapping[tuple[str, int], AttemptOrigin] | None:
        """Read the links; None where they are to be asked for again. Nothing here is reason not to be ready."""
        try:
            async with self.context.session() as session:
                origins = await attempts.origins(session, closed)
        except (DatabaseError, PostgresError, OSError, TimeoutError):
            self._failures += 1
            return None if self._failures < _MOST_TRIES else {}
        self._failures = 0
        return origins


def _emit_rest(traces: Traces) -> None:
    while waiting := traces.waiting():
        traces.emit(waiting, {})
