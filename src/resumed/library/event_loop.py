"""Owns the event loop, in a thread of its own, on which the synchronous faces of the library work."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import CancelledError, Future, wait
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

END = object()
_CANCEL_TIMEOUT = timedelta(seconds=30)
_TURN = timedelta(milliseconds=250)


class _Loop:
    """A loop that runs for as long as its process; a forked child makes its own."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.process = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None

    def get_running(self) -> asyncio.AbstractEventLoop:
        with self.guard:
            if self.loop is None or self.process != os.getpid():
                self.loop, self.process = asyncio.new_event_loop(), os.getpid()
                self.thread = threading.Thread(target=self.loop.run_forever, name="resumed-loop", daemon=True)
                self.thread.start()
            return self.loop


_LOOP = _Loop()
# Held over a fork, so that the child does not inherit a lock that a thread of its parent has taken.
os.register_at_fork(before=_LOOP.guard.acquire, after_in_parent=_LOOP.guard.release, after_in_child=_LOOP.guard.release)


def is_loop_thread() -> bool:
    """Return whether this is the loop's own thread, which must wait for nothing that the loop does."""
    return _LOOP.process == os.getpid() and threading.current_thread() is _LOOP.thread


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Do asynchronous work and wait for it; an interrupt of the caller cancels the work and waits for its end.

    That wait is bounded, and a second interrupt ends it: the work then goes on to its end by itself.

    Raises RuntimeError on the loop's own thread, where it would wait for itself for ever, and all others with it.
    """
    loop = _LOOP.get_running()
    if is_loop_thread():
        work.close()
        message = "a synchronous call in an awaited node would wait for itself: await it, such as by `ainvoke`"
        raise RuntimeError(message)
    begun: list[asyncio.Task[T]] = []
    ended: Future[asyncio.Task[T]] = Future()

    def begin() -> None:
        begun.append(loop.create_task(work))
        begun[0].add_done_callback(ended.set_result)

    def cancel() -> None:
        begun[0].cancel()

    loop.call_soon_threadsafe(begin)
    try:
        _wait(ended)
    except BaseException:
        if not ended.done():
            loop.call_soon_threadsafe(cancel)
            _wait(ended, _CANCEL_TIMEOUT)
        raise
    task = ended.result()
    if task.cancelled():
        raise CancelledError  # that of futures: asyncio's would end a caller's task
    return task.result()


def _wait(ended: Future[Any], limit: timedelta = timedelta.max) -> None:
    """Wait for the end, for so long at most; in short turns, since an interrupt just before one begins waits for it."""
    deadline = time.monotonic() + limit.total_seconds()
    while wait({ended}, _TURN.total_seconds()).not_done and time.monotonic() < deadline:
        pass


async def next_part(stream: AsyncIterator[Any]) -> Any:
    """Return the next part of a stream, or `END`."""
    return await anext(stream, END)


async def run_to_end(work: Coroutine[Any, Any, object]) -> None:
    """Wait for work that must not be cut off; a cancellation is raised after it, a second one leaves it to itself."""
    ending = asyncio.ensure_future(work)
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.shield(ending)
        raise
