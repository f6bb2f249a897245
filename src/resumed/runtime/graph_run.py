"""Runs one graph under watch: its timeout, its session, the request to stop.

It never decides how the attempt ended (rows do), and never abandons a node that still runs.
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
from resumed.runtime.call_mode import CallMode, call_graph, is_mode_refused, remember_refusal, repeatable_input
from resumed.runtime.context import AttemptRequest
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.langgraph_internals import let_unsaved_graphs_run
from resumed.store.connection import is_alive

_POLL = timedelta(seconds=1)
_CONTEXT_GRACE = timedelta(milliseconds=200)


class StopReason(Enum):
    """Why a run was stopped from outside."""

    TIMED_OUT = Outcome.TIMED_OUT
    LOCK_LOST = Outcome.LOCK_LOST
    DRAINED = Outcome.DRAINED


@dataclass(frozen=True, slots=True)
class RunResult:
    """How the call of the graph ended: it returned (nothing is set), raised, or was stopped.

    `cancelled_run` is a run that was cancelled and has not ended; `stuck`: a node of it can only be ended with its
    process.
    """

    error: BaseException | None = None
    stop_reason: StopReason | None = None
    cancelled_run: asyncio.Future[Any] | None = None
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class GraphCall:
    """A graph bound to its saver, and what it is called with; `build_context` runs within the attempt's timeout.

    `mode` is the one to begin with, `unbound` the graph as it was loaded.
    """

    graph: Pregel[Any, Any, Any, Any]
    config: RunnableConfig
    build_context: Callable[[], Awaitable[Any]]
    graph_input: Any = None
    mode: CallMode = CallMode.ASYNC
    unbound: Pregel[Any, Any, Any, Any] | None = None


async def run_graph(call: GraphCall, saver: FencedSaver, request: AttemptRequest) -> RunResult:
    """Run the graph until it ends, its session dies, its timeout is over or it is asked to stop."""
    running = asyncio.ensure_future(_call_either_way(call, saver, request))
    watches = {
        asyncio.ensure_future(_wait_for_session_loss(saver)): StopReason.LOCK_LOST,
        asyncio.ensure_future(request.stop.wait()): StopReason.DRAINED,
        asyncio.ensure_future(
            asyncio.sleep(request.registration.numbers.timeout.total_seconds())
        ): StopReason.TIMED_OUT,
    }
    try:
        done, _ = await asyncio.wait({running, *watches}, return_when=asyncio.FIRST_COMPLETED)
        if running in done and not await _fails_with_context(running, request):
            return _result_of(running, saver)
        return await _stop(running, next((watches[watch] for watch in done if watch in watches), StopReason.DRAINED))
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _fails_with_context(running: asyncio.Future[Any], request: AttemptRequest) -> bool:
    """Return whether a run failed because the context of its graph ends, which is not the thread's fault.

    A node may notice a moment before the context does that what both use is gone, so wait for a moment.
    """
    if running.cancelled() or running.exception() is None or not request.graph_may_close:
        return False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(request.stop.wait(), _CONTEXT_GRACE.total_seconds())
    return request.stop.is_set()


async def _call_either_way(call: GraphCall, saver: FencedSaver, request: AttemptRequest) -> None:
    """Call the graph; where a node refuses the mode before it has run, continue from there in the other mode.

    That ends where a node refuses both: each change of mode has to get further.
    """
    options = {"durability": durability(call.graph), "context": await call.build_context(), "control": request.control}
    refusals = 0
    while True:
        before = saver.head
        try:
            return await _call(call, options, saver)
        except Exception as error:
            refusals = 1 if saver.head != before else refusals + 1
            if refusals > 1 or not is_mode_refused(error):
                raise
            remember_refusal(call.unbound or call.graph, call.mode)
            again, graph_input = repeatable_input(call.graph_input, moved=saver.head != before)
            if not again:
                raise
            await saver.wait_for_saves()
        call = replace(call, mode=call.mode.other, graph_input=graph_input)


async def _call(call: GraphCall, options: Mapping[str, Any], saver: FencedSaver) -> None:
    try:
        await call_graph(call.mode, call.graph, call.graph_input, call.config, options)
    except asyncio.CancelledError:
        if call.mode is CallMode.SYNC:
            # Its thread runs to the end of the superstep; this attempt must not save what it leaves.
            options["control"].request_drain()
            await saver.close()
        raise


def durability(_: Pregel[Any, Any, Any, Any]) -> Durability:
    """Return the durability of a run, `sync`, and prepare LangGraph for graphs without a checkpointer inside it."""
    let_unsaved_graphs_run()
    return "sync"


def outcome_of_error(error: BaseException) -> Outcome:
    """Return the outcome of an attempt whose run raised this."""
    chain = _chain(error)
    if any(isinstance(link, LockLostError) for link in chain):
        return Outcome.LOCK_LOST
    if any(isinstance(link, SupersededError) for link in chain):
        return Outcome.SUPERSEDED
    if isinstance(error, GraphDrained):
        return Outcome.DRAINED
    return Outcome.FAILED


def find_database_error(error: BaseException | None) -> psycopg.Error | None:
    """Return the database's own error where it failed an attempt on a session that lives."""
    failed = next((link for link in _chain(error) if isinstance(link, SessionFailedError)), None)
    return failed.__cause__ if failed is not None and isinstance(failed.__cause__, psycopg.Error) else None


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _result_of(running: asyncio.Future[Any], saver: FencedSaver) -> RunResult:
    if running.cancelled():
        return RunResult(error=asyncio.CancelledError())
    error = running.exception()
    guard = saver.guard
    if guard is not None and (guard.refusal is not None or isinstance(error, GraphInterrupt)):
        error = None  # it was stopped, by us or at a breakpoint, which is no failure of the thread
    if error is not None and not is_alive(saver.session):
        return RunResult(error=error, stop_reason=StopReason.LOCK_LOST)
    return RunResult(error=error)


async def _stop(running: asyncio.Future[Any], reason: StopReason) -> RunResult:
    running.cancel()
    running.add_done_callback(_retrieve_error)
    await asyncio.wait({running}, timeout=timings.current().stop_grace.total_seconds())
    return RunResult(stop_reason=reason, cancelled_run=None if running.done() else running)


def _retrieve_error(running: asyncio.Future[Any]) -> None:
    """Retrieve what an abandoned run raised: otherwise asyncio prints it with all its values."""
    if not running.cancelled():
        running.exception()


async def _wait_for_session_loss(saver: FencedSaver) -> None:
    try:
        while True:
            await asyncio.sleep(_POLL.total_seconds())
            await saver.poll()
    except LockLostError:
        return
