"""Runs a graph for as long as its hold on the thread lasts, and stops it when that is over."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any

from resumed.library.runs.run_handle import RunHandle, cancel_once
from resumed.runtime.node_threads import CURRENT_THREAD_ID

_GRACE = timedelta(seconds=5)
_END = object()


async def supervise(hold: RunHandle, work: Coroutine[Any, Any, Any]) -> Any:
    """Give what the work gives. Raises what ended the hold, once the work has been cancelled."""
    return await _kept(hold, work, _account(hold))


async def supervise_stream(hold: RunHandle, stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Give the parts of a stream, each under the hold. Raises what ended the hold."""
    context = _account(hold)
    try:
        while (part := await _kept(hold, _next(stream), context)) is not _END:
            yield part
    finally:
        if (close := getattr(stream, "aclose", None)) is not None:
            await _closed(hold, close, context)


async def _kept(hold: RunHandle, work: Coroutine[Any, Any, Any], context: Context) -> Any:
    running = asyncio.get_running_loop().create_task(work, context=context)
    hold.running = running
    try:
        await asyncio.wait({running})
        if hold.error is not None:
            raise hold.error
        return running.result()
    finally:
        hold.running = None
        if not running.done():
            await _ended(hold, running)


async def run_to_end(work: Coroutine[Any, Any, object]) -> None:
    """Wait for work that may not be cut off; a cancellation is raised after it, a second one leaves it to itself."""
    ending = asyncio.ensure_future(work)
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.shield(ending)
        raise


async def _ended(hold: RunHandle, running: "asyncio.Task[Any]") -> None:
    """Cancel what runs and give it time to end; where that is not enough, the hold knows of it."""
    _left(hold, running)
    cancel_once(running)
    await asyncio.wait({running}, timeout=_GRACE.total_seconds())


async def _closed(hold: RunHandle, close: Callable[[], Coroutine[Any, Any, None]], context: Context) -> None:
    """Close a stream; one that is still making its last part is closed after that, and nobody waits for it here."""
    making = hold.lasting if hold.working else None
    closing = asyncio.get_running_loop().create_task(_after(making, close), context=context)
    _left(hold, closing)
    if making is None:
        await asyncio.shield(closing)


async def _after(earlier: "asyncio.Task[Any] | None", close: Callable[[], Awaitable[None]]) -> None:
    if earlier is not None:
        await asyncio.wait({earlier})
    await close()


def _left(hold: RunHandle, lasting: "asyncio.Task[Any]") -> None:
    """Keep the lock until this has ended, and note what it raises, or asyncio would print it with its values."""
    hold.lasting = lasting
    lasting.add_done_callback(lambda task: task.cancelled() or task.exception())


async def _next(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream, _END)


def _account(hold: RunHandle) -> Context:
    """Give the caller's context, in which threads count for this run."""
    context = copy_context()
    context.run(CURRENT_THREAD_ID.set, hold.run_id)
    return context
