"""The asynchronous executors of a synchronous one: one for each event loop on which a bound graph of it is called."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

from resumed.errors import ExecutorClosedError
from resumed.library.executor import AsyncWorkflowExecutor

_CLOSE_PATIENCE = timedelta(seconds=15)


class _LoopExecutor:
    """An executor that a task of its loop keeps open: what ends the loop cancels its tasks, and so closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, build: Callable[[], AsyncWorkflowExecutor]) -> None:
        self.opened: asyncio.Future[AsyncWorkflowExecutor] = loop.create_future()
        self.closed = threading.Event()
        self.task = loop.create_task(self._keep_open(build))

    async def _keep_open(self, build: Callable[[], AsyncWorkflowExecutor]) -> None:
        try:
            async with build() as executor:
                self.opened.set_result(executor)
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self.opened.done():
                self.opened.set_exception(ExecutorClosedError(ExecutorClosedError.__doc__))
                self.opened.exception()  # nobody may be waiting: then nobody is to be told
        except Exception as error:
            if self.opened.done():
                raise
            self.opened.set_exception(error)


class LoopExecutors:
    """Opens an executor where it is first asked for on a loop, once for all that ask at that moment."""

    def __init__(self, build: Callable[[], AsyncWorkflowExecutor]) -> None:
        """Open nothing yet."""
        self._build = build
        self._guard = threading.Lock()
        self._kept: dict[asyncio.AbstractEventLoop, _LoopExecutor] = {}

    async def on_this_loop(self) -> AsyncWorkflowExecutor:
        """Return the executor of the running loop. Raises DatabaseError, and tries again at the next call."""
        loop = asyncio.get_running_loop()
        with self._guard:
            kept = self._kept.get(loop)
            if kept is None:
                kept = self._kept[loop] = _LoopExecutor(loop, self._build)
                kept.task.add_done_callback(lambda _: self._forget(loop))
        return await asyncio.shield(kept.opened)

    def close(self) -> None:
        """Close them all, each on its loop, and wait for those of other threads."""
        with self._guard:
            kept = dict(self._kept)
        for loop, one in kept.items():
            try:
                loop.call_soon_threadsafe(one.task.cancel)
            except RuntimeError:  # its thread has closed it, maybe at this moment
                self._forget(loop)
        for loop, one in kept.items():
            if loop.is_running() and not _is_running_here(loop):
                one.closed.wait(_CLOSE_PATIENCE.total_seconds())

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._guard:
            kept = self._kept.pop(loop, None)
        if kept is not None:
            kept.closed.set()


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
