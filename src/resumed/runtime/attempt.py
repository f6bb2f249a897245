"""One attempt on one thread, as a pipeline: lock, recover, assess, approve, begin, run, conclude, unlock.

Everything between lock and unlock goes through the session that holds the lock. An attempt touches no second thread,
never waits for a lock, and never counts the absence of an exception as success.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg

from resumed import timings
from resumed.errors import DatabaseError, LockLostError
from resumed.judge.case import CasePlacement, vanished_case
from resumed.judge.checkpoint_id import CLOCK_LIMIT, made_at
from resumed.judge.verdict import needs_graph
from resumed.model import Attempt, State
from resumed.runtime.assessment import (
    Approved,
    Assessment,
    assess_thread,
    case_update_of,
    record_assessment,
    run_preflight,
)
from resumed.runtime.call_mode import CallMode, preferred_mode
from resumed.runtime.call_restore import config_of, context_of, recursion_limit_of
from resumed.runtime.conclusion import BegunAttempt, conclude_attempt, recover_open_attempt
from resumed.runtime.context import AttemptContext, AttemptRequest, WorkerContext
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.graph_run import GraphCall, RunResult, run_graph
from resumed.runtime.node_threads import CURRENT_THREAD_ID
from resumed.runtime.run_guard import RunGuard
from resumed.store import attempts, cases, locks
from resumed.store.connection import is_usable
from resumed.store.database_errors import is_transient, refuses_writes
from resumed.store.thread_rows import ThreadRows, lock_thread
from resumed.workers import memory
from resumed.workers.protocol import AttemptStarted, RequestResult, ThreadRefused

_NO_DELAY = timedelta(0)
_ERROR_DELAY = timedelta(minutes=5)
_AFTER_HEAD = timedelta(milliseconds=20)
_THREAD_POLL = timedelta(milliseconds=50)


class AttemptEndedError(Exception):
    """The pipeline ends before its last step, with this result."""

    def __init__(self, result: RequestResult) -> None:
        """End with `result`."""
        super().__init__(result)
        self.result = result


async def run_attempt(request: AttemptRequest, worker: WorkerContext) -> RequestResult:
    """Try to resume one thread on a session of the worker. Raises errors that do not come from the database."""
    CURRENT_THREAD_ID.set(request.thread_id)
    try:
        async with worker.sessions.session(request.thread_id) as session:
            return await _resume_thread(AttemptContext(session, request, worker))
    except (DatabaseError, LockLostError):
        return RequestResult.UNREACHABLE
    except psycopg.Error as error:
        if is_transient(error) or refuses_writes(error):
            return RequestResult.UNREACHABLE
        raise


async def _resume_thread(context: AttemptContext) -> RequestResult:
    """Run the pipeline. Each step may end it by raising AttemptEndedError; the lock is released either way."""
    try:
        async with _thread_lock(context) as (found, left_open):
            rows = await recover_open_attempt(context, found, left_open)
            assessment = await _assess(context, rows)
            async with _fenced_saver(context, assessment) as saver:
                approved = await _approve(context, saver, assessment)
                begun = await _begin(context, assessment, approved)
                result = await _run(context, saver, approved, begun)
                await conclude_attempt(context, saver, begun, result)
    except AttemptEndedError as ended:
        return ended.result
    return RequestResult.TRIED


@asynccontextmanager
async def _thread_lock(context: AttemptContext) -> AsyncIterator[tuple[ThreadRows, Attempt | None]]:
    """Hold the thread's lock; yields its rows and the attempt that was left open. Waits for no lock.

    An unexpected error postpones the case: otherwise the thread would be tried at every dispatch. The lock is then
    released with the session.
    """
    try:
        rows, left_open = await _lock(context)
        try:
            yield rows, left_open
        except AttemptEndedError:
            await _unlock(context)
            raise
    except AttemptEndedError:
        raise
    except Exception as error:
        if await is_usable(context.session):
            delay = (
                timings.current().busy_delay
                if isinstance(error, psycopg.Error) and is_transient(error)
                else _ERROR_DELAY
            )
            with suppress(psycopg.Error):
                await cases.postpone(context.session, context.thread_id, delay)
        raise
    await _unlock(context)


async def _lock(context: AttemptContext) -> tuple[ThreadRows, Attempt | None]:
    """Take the lock; end here where it is held elsewhere, or where this host's clock is ahead of the database's."""
    asked_at = datetime.now(UTC)
    found = await lock_thread(context.session, context.thread_id)
    if found is None:
        await cases.postpone(context.session, context.thread_id, timings.current().busy_delay)
        raise AttemptEndedError(RequestResult.BUSY)
    if asked_at - found[0].now > CLOCK_LIMIT:
        await _unlock(context)
        await cases.postpone(context.session, context.thread_id, timings.current().clock_delay)
        raise AttemptEndedError(RequestResult.SKEWED)
    return found


async def _unlock(context: AttemptContext) -> None:
    """Release the lock; a session that is gone has released it already."""
    if await is_usable(context.session) and not await locks.unlock(context.session, context.thread_id):
        raise AttemptEndedError(RequestResult.UNREACHABLE)


@asynccontextmanager
async def _fenced_saver(context: AttemptContext, assessment: Assessment) -> AsyncIterator[FencedSaver]:
    """Save through the session that holds the lock, until the attempt is over: the session goes on to other threads."""
    saver = FencedSaver(context.session, assessment.head_id, context.request.workflow.policy.serde)
    try:
        yield saver
    finally:
        await saver.close()


async def _assess(context: AttemptContext, rows: ThreadRows) -> Assessment:
    """Judge the thread by its rows; end here unless its values and its graph have to be asked."""
    session, request = context.session, context.request
    assessment = assess_thread(rows, request, skip_silence=request.by_person)
    if assessment is None:
        gone = vanished_case(request.thread_id, request.registration.name, rows.now)
        await cases.settle_attempt(session, gone, known=rows.case, now=rows.now)
        raise AttemptEndedError(RequestResult.LOOKED)
    if not needs_graph(assessment.judgement):
        await record_assessment(session, assessment, assessment.judgement, request.registration.version)
        raise AttemptEndedError(RequestResult.LOOKED)
    # Checkpoints whose ids lie behind the head's are never read, so wait until our clock has passed the head's time.
    ours, made = datetime.now(UTC), made_at(assessment.snapshot.head.newest_id)
    if made is not None and made >= ours:
        await cases.postpone(session, request.thread_id, made - ours + _AFTER_HEAD)
        raise AttemptEndedError(RequestResult.EARLY)
    return assessment


async def _approve(context: AttemptContext, saver: FencedSaver, assessment: Assessment) -> Approved:
    """Run the preflight under the lock; end here where it refuses, or where a shutdown has begun meanwhile."""
    session, request = context.session, context.request
    approved = await run_preflight(saver, assessment, request)
    if not isinstance(approved, Approved):
        await record_assessment(session, assessment, approved, request.registration.version)
        context.worker.send(ThreadRefused(request.thread_id, request.registration.name, approved))
        raise AttemptEndedError(RequestResult.LOOKED)
    if request.stop.is_set() or request.control.drain_requested:
        await cases.postpone(session, request.thread_id, _NO_DELAY)
        raise AttemptEndedError(RequestResult.LOOKED)
    return approved


async def _begin(context: AttemptContext, assessment: Assessment, approved: Approved) -> BegunAttempt:
    """Record the attempt; end here where a person has paused, cancelled or quarantined the thread since the lock."""
    session, registration = context.session, context.request.registration
    blank = Attempt(
        thread_id=context.thread_id,
        attempt=0,
        workflow=registration.name,
        version=registration.version,
        worker=context.worker.name,
        started_at=assessment.circumstances.now,
        finished_at=None,
        outcome=None,
        advanced=False,
        before=assessment.head_id,
        after=None,
        error_type=None,
        error_at=None,
        error=None,
    )
    running = case_update_of(assessment, assessment.judgement, CasePlacement(State.RUNNING))
    known, now = assessment.circumstances.known, assessment.circumstances.now
    begun = await attempts.begin(session, blank, running, approved.rows_before, known=known, now=now)
    if begun is None:
        await cases.postpone(session, context.thread_id, _NO_DELAY)
        raise AttemptEndedError(RequestResult.LOOKED)
    attempt, tally = begun
    context.request.left_open = attempt.attempt
    context.worker.send(AttemptStarted(attempt))
    return BegunAttempt(attempt, tally, assessment)


async def _run(context: AttemptContext, saver: FencedSaver, approved: Approved, begun: BegunAttempt) -> RunResult:
    """Run the graph under watch until it ends or is stopped, and its nodes have ended or cannot be waited for."""
    saver.watch(RunGuard(begun.attempt.before, approved.unfinished, commanded=approved.rows_before is not None))
    with context.worker.trace_context(begun.attempt):
        result = await run_graph(_build_call(context, approved, begun), saver, context.request)
    on_memory_exhausted = context.worker.on_memory_exhausted
    if result.error is not None and on_memory_exhausted is not None and memory.exhausted(result.error):
        on_memory_exhausted(result.error)
    return replace(result, stuck=await _outlasts_patience(context, result))


def _build_call(context: AttemptContext, approved: Approved, begun: BegunAttempt) -> GraphCall:
    """Put together the call of the graph as the application made it, with the attempt's stamps in the metadata."""
    workflow, head = approved.workflow, begun.assessment.snapshot.head
    policy, options = workflow.policy, approved.options
    stamps = {
        "workflow": begun.attempt.workflow,
        "version": begun.attempt.version or head.metadata_version,
        "attempt": begun.attempt.attempt,
        "resumed_run": head.run.run_id if head.run is not None else head.metadata_run,
        **approved.trace,
    }
    config = config_of(context.thread_id, approved.configurable, policy.configurable, stamps)
    config["recursion_limit"] = recursion_limit_of(workflow, options.recursion_limit, context.worker.recursion_limit)
    return GraphCall(
        graph=approved.graph,
        config=config,
        build_context=partial(context_of, policy, context.thread_id),
        graph_input=approved.graph_input,
        mode=CallMode(policy.face or options.mode or preferred_mode(workflow.graph)),
        unbound=workflow.graph,
    )


async def _outlasts_patience(context: AttemptContext, result: RunResult) -> bool:
    """Wait for nodes that still run after the call has ended; return whether one runs for too long.

    A node may outlive its cancelled run, and a synchronous one the failure of its sibling; only the latter may take
    the whole timeout of the attempt.
    """
    timeout = context.request.registration.numbers.timeout
    patience = timings.current().thread_grace if result.stop_reason is not None else timeout
    deadline = asyncio.get_running_loop().time() + patience.total_seconds()
    cancelled = result.cancelled_run
    while context.worker.executor.busy(context.thread_id) or (cancelled is not None and not cancelled.done()):
        if asyncio.get_running_loop().time() > deadline:
            return True
        await asyncio.sleep(_THREAD_POLL.total_seconds())
    return False
