"""Knows whether a synchronous node still works for a run: it cannot be cancelled, and keeps the thread locked."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from typing import TypeVar

from resumed.runtime.node_threads import TrackedExecutor

T = TypeVar("T")

_THREADS = 128
_LOOK = timedelta(milliseconds=50)


class NodeThreads:
    """The threads of an event loop, counted per run; where the application chose its own, nothing is known of them."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._executor: TrackedExecutor | None = None
        self._own = TrackedExecutor(_THREADS)

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the threads of a loop that has made none yet and was given no executor."""
        if getattr(loop, "_default_executor", loop) is None:
            self._executor = TrackedExecutor(_THREADS)
            loop.set_default_executor(self._executor)

    def busy(self, run_id: str) -> bool:
        """Say whether a thread is known to work for this run."""
        return self._own.busy(run_id) or (self._executor is not None and self._executor.busy(run_id))

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Do the work of a whole run in a thread, in the caller's context and on the account of its run."""
        return asyncio.get_running_loop().run_in_executor(self._own, copy_context().run, work)

    async def quiet(self, run_id: str) -> None:
        """Wait until no thread works for this run."""
        while self.busy(run_id):
            await asyncio.sleep(_LOOK.total_seconds())
