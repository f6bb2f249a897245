"""Knows whether a synchronous node still works for a run: it cannot be cancelled, and keeps the thread locked."""

import asyncio
from datetime import timedelta

from resumed.engine.threads import TrackedExecutor

_THREADS = 128
_LOOK = timedelta(milliseconds=50)


class NodeThreads:
    """The threads of an event loop, counted per run; where the application chose its own, nothing is known of them."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._executor: TrackedExecutor | None = None

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the threads of a loop that has made none yet and was given no executor."""
        if getattr(loop, "_default_executor", loop) is None:
            self._executor = TrackedExecutor(_THREADS)
            loop.set_default_executor(self._executor)

    def busy(self, run_id: str) -> bool:
        """Say whether a thread is known to work for this run."""
        return self._executor is not None and self._executor.busy(run_id)

    async def quiet(self, run_id: str) -> None:
        """Wait until no thread works for this run."""
        while self.busy(run_id):
            await asyncio.sleep(_LOOK.total_seconds())
