"""Owns running one graph under watch: its timeout, its session's sign of life, the request to stop.

What it never does: say how the attempt ended (rows decide that), or let go of a node that still runs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphInterrupt
from langgraph.pregel import Pregel
from langgraph.types import Durability

from resumed import timings
from resumed.errors import LockLostError, SessionFailedError, SupersededError
from resumed.model import Outcome
from resumed.runtime.call_mode import CallMode, call_graph, refused_mode, remember_mode, repeatable_input
from resumed.runtime.context import AttemptRequest
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.langgraph_loops import let_unsaved_graphs_run
from resumed.store.connection import is_alive

_POLL = timedelta(seconds=1)
_CONTEXT_GRACE = timedelta(milliseconds=200)


class StopReason(Enum):
    """Why a run was ended from outside."""

    TIMED_OUT = Outcome.TIMED_OUT
    LOCK_LOST = Outcome.LOCK_LOST
    DRAINED = Outcome.DRAINED


@dataclass(frozen=True, slots=True)
class RunResult:
    """How the call of the graph ended: it returned (nothing is set), raised, or was stopped.

    `lasting` is a run that was cancelled and has not ended, `stuck` that its node can only be ended with its process.
    """

    error: BaseException | None = None
    stopped: StopReason | None = None
    lasting: asyncio.Future[Any] | None = None
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class GraphCall:
    """A graph bound to its saver, and what it is called with; `context` is asked for within the time of the attempt.

    `face` is the one that is tried first, `unbound` the graph as it was loaded.
    """

    graph: Pregel[Any, Any, Any, Any]
    config: RunnableConfig
    context: Callable[[], Awaitable[Any]]
    given: Any = None
    face: CallMode = CallMode.ASYNC
    unbound: Pregel[Any, Any, Any, Any] | None = None


async def run_graph(call: GraphCall, saver: FencedSaver, request: AttemptRequest) -> RunResult:
    """Run the graph until it ends, its session dies, its time is over or a shutdown cannot wait for it."""
    running = asyncio.ensure_future(_called(call, saver, request))
    watches = {
        asyncio.ensure_future(_session_dies(saver)): StopReason.LOCK_LOST,
        asyncio.ensure_future(request.stop.wait()): StopReason.DRAINED,
        asyncio.ensure_future(
            asyncio.sleep(request.registration.numbers.timeout.total_seconds())
        ): StopReason.TIMED_OUT,
    }
    try:
        done, _ = await asyncio.wait({running, *watches}, return_when=asyncio.FIRST_COMPLETED)
        if running in done and not await _fails_with_context(running, request):
            return _returned(running, saver)
        return await _stop(running, next((watches[one] for one in done if one in watches), StopReason.DRAINED))
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _fails_with_context(running: asyncio.Future[Any], request: AttemptRequest) -> bool:
    """Return whether a run failed because the context that its graph lives in ends, which is not the thread's fault.

    A node may notice a moment before the context does that what both use is gone.
    """
    if running.cancelled() or running.exception() is None or not request.in_context:
        return False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(request.stop.wait(), _CONTEXT_GRACE.total_seconds())
    return request.stop.is_set()


async def _called(call: GraphCall, saver: FencedSaver, request: AttemptRequest) -> None:
    """Call the graph; where a node refuses the way it is called before it has run, go on from there the other way.

    That ends where a node refuses both: the other way has to get further.
    """
    options = {"durability": durability(call.graph), "context": await call.context(), "control": request.control}
    refusals = 0
    while True:
        before = saver.head
        try:
            return await _faced(call.face, call, options, saver)
        except Exception as error:
            refusals = 1 if saver.head != before else refusals + 1
            if refusals > 1 or not refused_mode(error):
                raise
            remember_mode(call.unbound or call.graph, call.face)
            again, given = repeatable_input(call.given, moved=saver.head != before)
            if not again:
                raise
            await saver.rest()
        call = replace(call, face=call.face.other, given=given)


async def _faced(face: CallMode, call: GraphCall, options: Mapping[str, Any], saver: FencedSaver) -> None:
    try:
        await call_graph(face, call.graph, call.given, call.config, options)
    except asyncio.CancelledError:
        if face is CallMode.SYNC:
            # Its thread goes on to the end of the superstep; what it leaves is no longer this attempt's to save.
            options["control"].request_drain()
            await saver.shut()
        raise


def durability(_: Pregel[Any, Any, Any, Any]) -> Durability:
    """Save before the next superstep starts, whatever graphs without a checkpointer it may call on its way."""
    let_unsaved_graphs_run()
    return "sync"


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


def _returned(running: asyncio.Future[Any], saver: FencedSaver) -> RunResult:
    if running.cancelled():
        return RunResult(error=asyncio.CancelledError())
    error = running.exception()
    guard = saver.guard
    if guard is not None and (guard.refusal is not None or isinstance(error, GraphInterrupt)):
        error = None  # it was stopped, by us or at a breakpoint; whatever came of that is no failure of the thread
    if error is not None and not is_alive(saver.session):
        return RunResult(error=error, stopped=StopReason.LOCK_LOST)
    return RunResult(error=error)


async def _stop(running: asyncio.Future[Any], why: StopReason) -> RunResult:
    running.cancel()
    running.add_done_callback(_heard)
    await asyncio.wait({running}, timeout=timings.current().stop_grace.total_seconds())
    return RunResult(stopped=why, lasting=None if running.done() else running)


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
