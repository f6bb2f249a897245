"""Runs a graph for as long as its hold on the thread lasts, and stops it when that is over."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any

from resumed.engine.threads import CURRENT
from resumed.library.hold import Hold

_GRACE = timedelta(seconds=5)
_END = object()


async def kept(hold: Hold, work: Coroutine[Any, Any, Any]) -> Any:
    """Give what the work gives. Raises what ended the hold, once the work has been cancelled."""
    return await _kept(hold, work, _account(hold))


async def kept_stream(hold: Hold, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Give the parts of a stream, each under the hold. Raises what ended the hold."""
    context = _account(hold)
    try:
        while (part := await _kept(hold, _next(stream), context)) is not _END:
            yield part
    finally:
        if (close := getattr(stream, "aclose", None)) is not None:
            await asyncio.get_running_loop().create_task(close(), context=context)


async def _kept(hold: Hold, work: Coroutine[Any, Any, Any], context: Context) -> Any:
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
            await _ended(running)


async def to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Wait for work that may not be cut off; a cancellation is raised after it, a second one leaves it to itself."""
    ending = asyncio.ensure_future(work)
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.shield(ending)
        raise


async def _ended(running: "asyncio.Task[Any]") -> None:
    """Cancel what runs, give it time to end, and note what it raised, lest asyncio prints it with its values."""
    running.cancel()
    await asyncio.wait({running}, timeout=_GRACE.total_seconds())
    running.add_done_callback(lambda task: task.cancelled() or task.exception())


async def _next(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream, _END)


def _account(hold: Hold) -> Context:
    """Give the caller's context, in which threads count for this run."""
    context = copy_context()
    context.run(CURRENT.set, hold.run_id)
    return context
