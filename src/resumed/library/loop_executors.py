"""The asynchronous executors of a synchronous one: one for each event loop on which a bound graph of it is called."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from weakref import WeakKeyDictionary

from resumed.library.executor import AsyncWorkflowExecutor

_CLOSE_PATIENCE = timedelta(seconds=15)


class LoopExecutors:
    """Opens an executor where it is first asked for on a loop, once for all that ask at that moment."""

    def __init__(self, build: Callable[[], AsyncWorkflowExecutor]) -> None:
        """Open nothing yet."""
        self._build = build
        self._guard = threading.Lock()
        self._opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[AsyncWorkflowExecutor]] = (
            WeakKeyDictionary()
        )

    async def on_this_loop(self) -> AsyncWorkflowExecutor:
        """Return the executor of the running loop. Raises DatabaseError, and tries again at the next call."""
        loop = asyncio.get_running_loop()
        with self._guard:
            opening = self._opening.get(loop)
            if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
                opening = self._opening[loop] = loop.create_task(self._build().__aenter__())
        return await asyncio.shield(opening)

    def close(self) -> None:
        """Close them all, each on its loop, and wait for those of other threads; a loop's end has ended its own."""
        with self._guard:
            opened, self._opening = dict(self._opening), WeakKeyDictionary()
        for loop, opening in opened.items():
            if loop.is_closed() or not loop.is_running():
                continue
            closing = asyncio.run_coroutine_threadsafe(_close(opening), loop)
            if not _is_running_here(loop):
                with suppress(TimeoutError):
                    closing.result(_CLOSE_PATIENCE.total_seconds())


async def _close(opening: asyncio.Task[AsyncWorkflowExecutor]) -> None:
    await (await opening).__aexit__()


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
