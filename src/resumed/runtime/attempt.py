"""Resumes ONE thread, as a pipeline: lock, close what was left open, look, clear, begin, run, conclude, unlock.

Everything between lock and unlock goes through the one session that holds the lock. It never touches a second thread,
never waits for a lock, and never takes the absence of an exception for success.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg

from resumed.errors import DatabaseError, LockLostError
from resumed.judge.case import CasePlacement, vanished_case
from resumed.judge.checkpoint_id import made_at
from resumed.judge.verdict import open_question, quiet_since
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
from resumed.runtime.call_restore import config_of, context_of
from resumed.runtime.conclusion import BegunAttempt, close_left_open, conclude
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.graph_run import GraphCall, RunResult, StopReason, run_graph
from resumed.runtime.node_threads import CURRENT_THREAD_ID
from resumed.runtime.run_guard import RunGuard
from resumed.store import attempts, cases, locks, runs
from resumed.store.connection import Session, is_usable, open_session
from resumed.store.database_errors import is_transient, refuses_writes
from resumed.workers import memory
from resumed.workers.protocol import AttemptFinished, AttemptStarted, NodeStuck, ThreadQuarantined, ThreadRefused

_CLOCK_LIMIT = timedelta(seconds=2)
_BUSY_DELAY = timedelta(seconds=5)
_NOT_AT_ALL = timedelta(0)
_CLOCK_DELAY = timedelta(seconds=30)
_STUMBLE_DELAY = timedelta(minutes=5)
_AFTER_HEAD = timedelta(milliseconds=20)
_THREAD_POLL = timedelta(milliseconds=50)
_THREAD_GRACE = timedelta(seconds=5)


async def run_attempt(request: AttemptRequest, desk: WorkerContext) -> str:
    """Try one thread; says in one word what came of it: tried, looked, busy, early, skewed or unreachable."""
    CURRENT_THREAD_ID.set(request.thread_id)
    try:
        async with open_session(desk.target, "resumed attempt") as session:
            asked_at = datetime.now(UTC)
            locked, now = await locks.try_lock(session, request.thread_id)
            if not locked:
                await cases.postpone(session, request.thread_id, _BUSY_DELAY)
                return "busy"
            if asked_at - now > _CLOCK_LIMIT:
                await cases.postpone(session, request.thread_id, _CLOCK_DELAY)
                return "skewed"
            result = await _safely_locked(session, now, request, desk)
            return result if await _unlocked(session, request.thread_id) else "unreachable"
    except (DatabaseError, LockLostError):
        return "unreachable"
    except psycopg.Error as error:
        if is_transient(error) or refuses_writes(error):
            return "unreachable"
        raise


async def _unlocked(session: Session, thread_id: str) -> bool:
    """Give the lock back; a session that is gone has given it back already."""
    return not await is_usable(session) or await locks.unlock(session, thread_id)


async def _safely_locked(session: Session, now: datetime, request: AttemptRequest, desk: WorkerContext) -> str:
    """Come back later to a thread on which we stumbled, lest it is tried for ever at every turn."""
    try:
        return await _locked(session, now, request, desk)
    except Exception as error:
        if await is_usable(session):
            later = _BUSY_DELAY if isinstance(error, psycopg.Error) and is_transient(error) else _STUMBLE_DELAY
            with suppress(psycopg.Error):
                await cases.postpone(session, request.thread_id, later)
        raise


async def _locked(session: Session, now: datetime, request: AttemptRequest, desk: WorkerContext) -> str:
    await close_left_open(session, request, desk)
    seen = await assess_thread(session, now, request, ours=request.asked)
    if seen is None:
        await cases.settle_attempt(session, vanished_case(request.thread_id, request.registration.name, now))
        return "looked"
    if not open_question(seen.judgement):
        await record_assessment(session, seen, seen.judgement, request.registration.version)
        return "looked"
    if delay := _until_head_has_passed(seen):
        await cases.postpone(session, request.thread_id, delay)
        return "early"
    return await _cleared(session, seen, request, desk)


async def _cleared(session: Session, seen: Assessment, request: AttemptRequest, desk: WorkerContext) -> str:
    saver = FencedSaver(session, seen.snapshot.head.checkpoint_id, request.workflow.policy.serde)
    cleared = await run_preflight(saver, seen, request)
    if not isinstance(cleared, Approved):
        await record_assessment(session, seen, cleared, request.registration.version)
        desk.tell(ThreadRefused(request.thread_id, request.registration.name, cleared))
        return "looked"
    stopped = request.stop.is_set() or request.control.drain_requested
    begun = await _begin(session, (seen, cleared), request, desk) if not stopped else None
    if begun is None:
        await cases.postpone(session, request.thread_id, _NOT_AT_ALL)
        return "looked"
    saver.watch(RunGuard(begun.attempt.before, cleared.unfinished, commanded=cleared.rows_before is not None))
    returned = await run_graph(_call(cleared, begun, request, desk), saver, request)
    if returned.error is not None and desk.exhausted is not None and memory.exhausted(returned.error):
        desk.exhausted(returned.error)
    await _end(saver, begun, returned, request, desk)
    return "tried"


async def _begin(
    session: Session, judged: tuple[Assessment, Approved], request: AttemptRequest, desk: WorkerContext
) -> BegunAttempt | None:
    """Record the attempt, unless a person has paused, cancelled or quarantined since we looked."""
    (seen, cleared), registration = judged, request.registration
    head = seen.snapshot.head.checkpoint_id
    blank = Attempt(
        thread_id=request.thread_id,
        attempt=0,
        workflow=registration.name,
        version=registration.version,
        worker=desk.worker,
        started_at=seen.circumstances.now,
        finished_at=None,
        outcome=None,
        advanced=False,
        before=head,
        after=None,
        error_type=None,
        error_at=None,
        error=None,
    )
    async with session.transaction():
        tally = await cases.begin_attempt(session, case_update_of(seen, seen.judgement, CasePlacement(State.RUNNING)))
        if tally is None:
            return None
        attempt = await attempts.start(session, blank)
        await runs.take_run(session, request.thread_id, head, cleared.rows_before)
    desk.tell(AttemptStarted(attempt))
    return BegunAttempt(attempt, tally, seen)


def _call(cleared: Approved, begun: BegunAttempt, request: AttemptRequest, desk: WorkerContext) -> GraphCall:
    workflow, head = cleared.workflow, begun.look.snapshot.head
    policy = workflow.policy
    stamps = {
        "workflow": begun.attempt.workflow,
        "version": begun.attempt.version or head.metadata_version,
        "attempt": begun.attempt.attempt,
        "resumed_run": head.run.run_id if head.run is not None else head.metadata_run,
    }
    config = config_of(request.thread_id, cleared.call, policy.configurable, stamps)
    config["recursion_limit"] = workflow.limit(cleared.options.recursion_limit, desk.recursion_limit)
    face = CallMode(policy.face or cleared.options.face or preferred_mode(workflow.graph))
    context = partial(context_of, policy, request.thread_id)
    return GraphCall(cleared.graph, config, context, cleared.given, face, workflow.graph)


async def _end(
    saver: FencedSaver, begun: BegunAttempt, returned: RunResult, request: AttemptRequest, desk: WorkerContext
) -> None:
    """Conclude on the session that holds the lock; where a node still runs, keep the lock until the process is gone."""
    returned = replace(returned, stuck=await _still_running(returned, request, desk))
    await saver.rest()
    try:
        if await is_usable(saver.session):
            await _conclude(saver, begun, returned, (request, desk))
        else:
            await _conclude_anew(saver, begun, (request, desk), stuck=returned.stuck)
    finally:
        if returned.stuck:
            await _wait_for_the_end(request, desk)


async def _conclude(
    saver: FencedSaver, begun: BegunAttempt, returned: RunResult, whose: tuple[AttemptRequest, WorkerContext]
) -> None:
    request, desk = whose
    closed, placement = await conclude(saver, begun, returned, request)
    if closed is None:
        return
    desk.tell(AttemptFinished(closed, quiet_since(begun.look.snapshot, begun.look.circumstances)))
    if placement.quarantine_reason is not None:
        desk.tell(ThreadQuarantined(closed.thread_id, closed.workflow, placement.quarantine_reason))


async def _conclude_anew(
    saver: FencedSaver, begun: BegunAttempt, whose: tuple[AttemptRequest, WorkerContext], *, stuck: bool
) -> None:
    """The session is gone: close on a new one if its lock can be had, else its next holder closes for us."""
    async with open_session(whose[1].target, "resumed attempt") as session:
        locked, _ = await locks.try_lock(session, begun.attempt.thread_id)
        if not locked:
            return
        anew = FencedSaver(session, saver.head)
        await _conclude(anew, begun, RunResult(stopped=StopReason.LOCK_LOST), whose)
        if stuck:
            await _wait_for_the_end(*whose)
        await locks.unlock(session, begun.attempt.thread_id)


async def _wait_for_the_end(request: AttemptRequest, desk: WorkerContext) -> None:
    """Have the control process end this one, and let nobody have the thread before that."""
    desk.tell(NodeStuck(request.thread_id))
    await asyncio.Event().wait()


async def _still_running(returned: RunResult, request: AttemptRequest, desk: WorkerContext) -> bool:
    """A node may outlive its cancelled run, and a synchronous one its sibling's failure; only the latter has time."""
    patience = _THREAD_GRACE if returned.stopped is not None else request.registration.numbers.timeout
    deadline = asyncio.get_running_loop().time() + patience.total_seconds()
    while desk.executor.busy(request.thread_id) or (returned.lasting is not None and not returned.lasting.done()):
        if asyncio.get_running_loop().time() > deadline:
            return True
        await asyncio.sleep(_THREAD_POLL.total_seconds())
    return False


def _until_head_has_passed(seen: Assessment) -> timedelta | None:
    """Ids made behind the head are never read, so wait until the head's time has passed by our clock."""
    ours, made = datetime.now(UTC), made_at(seen.snapshot.head.newest_id)
    return made - ours + _AFTER_HEAD if made is not None and made >= ours else None
