"""Owns running one graph under watch: its timeout, its session's sign of life, the request to stop.

What it never does: say how the attempt ended (rows decide that), or let go of a node that still runs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.pregel import Pregel
from langgraph.types import Durability

from resumed.engine.desk import Ticket
from resumed.engine.saver import FencedSaver
from resumed.engine.unsaved import holds_unsaved
from resumed.errors import LockLostError, SessionFailedError, SupersededError
from resumed.model import Outcome
from resumed.store.connect import alive

_POLL = timedelta(seconds=1)
_GRACE = timedelta(seconds=5)
_CONTEXT_GRACE = timedelta(milliseconds=200)


class Stopped(Enum):
    """Why a run was ended from outside."""

    TIMED_OUT = Outcome.TIMED_OUT
    LOCK_LOST = Outcome.LOCK_LOST
    DRAINED = Outcome.DRAINED


@dataclass(frozen=True, slots=True)
class Return:
    """How the call of the graph ended: it returned (nothing is set), raised, or was stopped.

    `lasting` is a run that was cancelled and has not ended, `stuck` that its node can only be ended with its process.
    """

    error: BaseException | None = None
    stopped: Stopped | None = None
    lasting: asyncio.Future[Any] | None = None
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A graph bound to its saver, and what it is called with; `context` is asked for within the time of the attempt."""

    graph: Pregel[Any, Any, Any, Any]
    config: RunnableConfig
    context: Callable[[], Awaitable[Any]]
    given: Any = None


async def run(call: Call, saver: FencedSaver, ticket: Ticket) -> Return:
    """Run the graph until it ends, its session dies, its time is over or a shutdown cannot wait for it."""
    running = asyncio.ensure_future(_called(call, ticket))
    watches = {
        asyncio.ensure_future(_session_dies(saver)): Stopped.LOCK_LOST,
        asyncio.ensure_future(ticket.stop.wait()): Stopped.DRAINED,
        asyncio.ensure_future(asyncio.sleep(ticket.registration.numbers.timeout.total_seconds())): Stopped.TIMED_OUT,
    }
    try:
        done, _ = await asyncio.wait({running, *watches}, return_when=asyncio.FIRST_COMPLETED)
        if running in done and not await _fails_with_context(running, ticket):
            return _returned(running, saver)
        return await _stop(running, next((watches[one] for one in done if one in watches), Stopped.DRAINED))
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _fails_with_context(running: asyncio.Future[Any], ticket: Ticket) -> bool:
    """Return whether a run failed because the context that its graph lives in ends, which is not the thread's fault.

    A node may notice a moment before the context does that what both use is gone.
    """
    if running.cancelled() or running.exception() is None or not ticket.in_context:
        return False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ticket.stop.wait(), _CONTEXT_GRACE.total_seconds())
    return ticket.stop.is_set()


async def _called(call: Call, ticket: Ticket) -> None:
    saved, context = durability(call.graph), await call.context()
    await call.graph.ainvoke(call.given, call.config, context=context, durability=saved, control=ticket.control)


def durability(graph: Pregel[Any, Any, Any, Any]) -> Durability:
    """Save before the next superstep starts; a subgraph without a checkpointer cannot do that (facts section 4.14)."""
    return "async" if holds_unsaved(graph) else "sync"


def meaning(error: BaseException) -> Outcome:
    """Say what an exception of the run means for the attempt."""
    chain = list(_chain(error))
    if any(isinstance(one, LockLostError) for one in chain):
        return Outcome.LOCK_LOST
    if any(isinstance(one, SupersededError) for one in chain):
        return Outcome.SUPERSEDED
    if isinstance(error, GraphDrained):
        return Outcome.DRAINED
    return Outcome.FAILED


def database_error(error: BaseException | None) -> psycopg.Error | None:
    """Return what the database said where it failed an attempt on a session that lives."""
    failed = next((one for one in _chain(error) if isinstance(one, SessionFailedError)), None)
    return failed.__cause__ if failed is not None and isinstance(failed.__cause__, psycopg.Error) else None


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _returned(running: asyncio.Future[Any], saver: FencedSaver) -> Return:
    if running.cancelled():
        return Return(error=asyncio.CancelledError())
    error = running.exception()
    if error is not None and not alive(saver.session):
        return Return(error=error, stopped=Stopped.LOCK_LOST)
    return Return(error=error)


async def _stop(running: asyncio.Future[Any], why: Stopped) -> Return:
    running.cancel()
    running.add_done_callback(_heard)
    await asyncio.wait({running}, timeout=_GRACE.total_seconds())
    return Return(stopped=why, lasting=None if running.done() else running)


def _heard(running: asyncio.Future[Any]) -> None:
    """Take note of what an abandoned run raised, lest asyncio prints it with all its values."""
    if not running.cancelled():
        running.exception()


async def _session_dies(saver: FencedSaver) -> None:
    try:
        while True:
            await asyncio.sleep(_POLL.total_seconds())
            await saver.poll()
    except LockLostError:
        return
