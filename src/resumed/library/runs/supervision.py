"""Runs a graph for as long as its run is ours, stops it when that is over, and knows what still works for a run."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl

from resumed.library.event_loop import END, next_part
from resumed.library.runs.run_handle import RunHandle, cancel_once
from resumed.runtime.call_mode import is_mode_refused, repeatable_input
from resumed.runtime.node_threads import CURRENT_THREAD_ID, TrackedExecutor
from resumed.workflows.loaded_workflow import Graph

T = TypeVar("T")

_GRACE = timedelta(seconds=5)
_MAX_THREADS = 128
_BUSY_CHECK_INTERVAL = timedelta(milliseconds=50)
# What loops that do not tell their executor were given; another executor on such a loop must not take its place.
_GIVEN: WeakKeyDictionary[asyncio.AbstractEventLoop, TrackedExecutor] = WeakKeyDictionary()


@dataclass(slots=True)
class RegisteredRun:
    """A run whose thread is locked and that is on record.

    `graph` saves through the session with the lock; `given` is what it is given, `options` are those of its calls.
    """

    graph: Graph
    handle: RunHandle
    given: Any
    config: RunnableConfig
    options: Mapping[str, Any]
    head_before: str

    def call_async(self, name: str) -> Any:
        """Call `ainvoke` or `astream` of the graph."""
        return getattr(self.graph, name)(self.given, self.config, **self.options)

    def call(self, name: str) -> Any:
        """Call `invoke` or `stream` of the graph in this thread; it is drained where the run is over.

        Nothing else ends it: a synchronous node cannot be cancelled.
        """
        control = self.handle.work.control = self.options.get("control") or RunControl()
        self.handle.raise_if_ended()
        return getattr(self.graph, name)(self.given, self.config, **{**self.options, "control": control})

    def switch_mode(self, error: BaseException) -> bool:
        """Return whether the graph refused the way it was called, and can be called the other way from where it stands.

        Then `given` becomes what goes on from there.
        """
        moved = self.handle.head != self.head_before
        repeatable, given = repeatable_input(self.given, moved=moved)
        # Without saves on the way, the other way would begin again.
        unsaved = self.options.get("durability") == "exit" and not moved
        if unsaved or not repeatable or self.handle.error is not None or not is_mode_refused(error):
            return False
        self.given, self.head_before = given, self.handle.head
        return True


class NodeThreads:
    """The threads in which synchronous nodes work, counted per run."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._own = TrackedExecutor(_MAX_THREADS)
        self._counted = {self._own}

    def track(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count what a loop's default executor runs, whichever code made or chose it; it goes on running it.

        Asked before each run: an application may choose another one at any time, and what the earlier one still runs
        counts on. A loop that does not tell its executor (uvloop) is given ours, once for all that ask.
        """
        found = getattr(loop, "_default_executor", _GIVEN.get(loop))
        if not isinstance(found, TrackedExecutor):
            found = TrackedExecutor(_MAX_THREADS, found)
            loop.set_default_executor(found)
            if not hasattr(loop, "_default_executor"):
                _GIVEN[loop] = found
        self._counted.add(found)

    def is_busy(self, run_id: str) -> bool:
        """Return whether a thread is known to work for this run."""
        return any(executor.busy(run_id) for executor in self._counted)

    async def wait_until_idle(self, run_id: str) -> None:
        """Wait until no thread works for this run."""
        while self.is_busy(run_id):
            await asyncio.sleep(_BUSY_CHECK_INTERVAL.total_seconds())

    async def invoke(self, run: RegisteredRun) -> Any:
        """Run the graph by its `invoke` in a thread, which is counted for the caller's run.

        Where this is cancelled, the graph stops at its next superstep.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._own, copy_context().run, lambda: run.call("invoke"))
        except asyncio.CancelledError:
            run.handle.work.drain()
            raise


async def supervise(handle: RunHandle, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns. Raises the error that ended the run, once the work has been cancelled."""
    return await _supervise(handle, work, _counting_context(handle))


async def supervise_stream(handle: RunHandle, stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Yield the parts of a stream for as long as the run is ours. Raises the error that ended the run."""
    context = _counting_context(handle)
    try:
        while (part := await _supervise(handle, next_part(stream), context)) is not END:
            yield part
    finally:
        if (close := getattr(stream, "aclose", None)) is not None:
            await _close_stream(handle, close, context)


async def _supervise(handle: RunHandle, work: Coroutine[Any, Any, T], context: Context) -> T:
    running = asyncio.get_running_loop().create_task(work, context=context)
    handle.work.running = running
    try:
        await asyncio.wait({running})
        handle.raise_if_ended()
        return running.result()
    finally:
        handle.work.running = None
        if not running.done():
            handle.work.let_linger(running)
            cancel_once(running)
            await asyncio.wait({running}, timeout=_GRACE.total_seconds())


async def _close_stream(handle: RunHandle, close: Callable[[], Coroutine[Any, Any, None]], context: Context) -> None:
    """Close a stream; one that still makes its last part is closed in the background after that."""
    making = handle.work.lingering if handle.work.is_lingering else None
    closing = asyncio.get_running_loop().create_task(_close_after(making, close), context=context)
    handle.work.let_linger(closing)
    if making is None:
        await asyncio.shield(closing)


async def _close_after(earlier: "asyncio.Task[Any] | None", close: Callable[[], Awaitable[None]]) -> None:
    if earlier is not None:
        await asyncio.wait({earlier})
    await close()


def _counting_context(handle: RunHandle) -> Context:
    """Return the caller's context, in which threads count for this run."""
    context = copy_context()
    context.run(CURRENT_THREAD_ID.set, handle.run_id)
    return context
