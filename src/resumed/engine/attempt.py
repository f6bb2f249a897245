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

from resumed.engine import memory
from resumed.engine.call import config_of, context_of
from resumed.engine.closing import Begun, close_left_open, conclude
from resumed.engine.desk import Desk, Ticket
from resumed.engine.faces import Face, first
from resumed.engine.guard import Guard
from resumed.engine.look import Cleared, Look, clear, look, record, standing_of
from resumed.engine.running import Call, Return, Stopped, run
from resumed.engine.saver import FencedSaver
from resumed.engine.threads import CURRENT
from resumed.engine.wire import finished, quarantined, refused, started
from resumed.errors import DatabaseError, LockLostError
from resumed.judge.case import Placement, vanished
from resumed.judge.checkpoint_id import made_at
from resumed.judge.verdict import open_question, quiet_since
from resumed.model import Attempt, State
from resumed.store import attempts, cases, locks, runs
from resumed.store.connect import Session, opened, usable
from resumed.store.faults import passing, refuses_writes

_CLOCK_LIMIT = timedelta(seconds=2)
_BUSY_DELAY = timedelta(seconds=5)
_NOT_AT_ALL = timedelta(0)
_CLOCK_DELAY = timedelta(seconds=30)
_STUMBLE_DELAY = timedelta(minutes=5)
_AFTER_HEAD = timedelta(milliseconds=20)
_THREAD_POLL = timedelta(milliseconds=50)
_THREAD_GRACE = timedelta(seconds=5)


async def try_thread(ticket: Ticket, desk: Desk) -> str:
    """Try one thread; says in one word what came of it: tried, looked, busy, early, skewed or unreachable."""
    CURRENT.set(ticket.thread_id)
    try:
        async with opened(desk.target, "resumed attempt") as session:
            asked_at = datetime.now(UTC)
            locked, now = await locks.try_lock(session, ticket.thread_id)
            if not locked:
                await cases.postpone(session, ticket.thread_id, _BUSY_DELAY)
                return "busy"
            if asked_at - now > _CLOCK_LIMIT:
                await cases.postpone(session, ticket.thread_id, _CLOCK_DELAY)
                return "skewed"
            result = await _safely_locked(session, now, ticket, desk)
            return result if await _unlocked(session, ticket.thread_id) else "unreachable"
    except (DatabaseError, LockLostError):
        return "unreachable"
    except psycopg.Error as error:
        if passing(error) or refuses_writes(error):
            return "unreachable"
        raise


async def _unlocked(session: Session, thread_id: str) -> bool:
    """Give the lock back; a session that is gone has given it back already."""
    return not await usable(session) or await locks.unlock(session, thread_id)


async def _safely_locked(session: Session, now: datetime, ticket: Ticket, desk: Desk) -> str:
    """Come back later to a thread on which we stumbled, lest it is tried for ever at every turn."""
    try:
        return await _locked(session, now, ticket, desk)
    except Exception as error:
        if await usable(session):
            later = _BUSY_DELAY if isinstance(error, psycopg.Error) and passing(error) else _STUMBLE_DELAY
            with suppress(psycopg.Error):
                await cases.postpone(session, ticket.thread_id, later)
        raise


async def _locked(session: Session, now: datetime, ticket: Ticket, desk: Desk) -> str:
    await close_left_open(session, ticket, desk)
    seen = await look(session, now, ticket, ours=ticket.asked)
    if seen is None:
        await cases.settle(session, vanished(ticket.thread_id, ticket.registration.name, now))
        return "looked"
    if not open_question(seen.judgement):
        await record(session, seen, seen.judgement, ticket.registration.version)
        return "looked"
    if delay := _until_head_has_passed(seen):
        await cases.postpone(session, ticket.thread_id, delay)
        return "early"
    return await _cleared(session, seen, ticket, desk)


async def _cleared(session: Session, seen: Look, ticket: Ticket, desk: Desk) -> str:
    saver = FencedSaver(session, seen.sighting.head.checkpoint_id, ticket.workflow.policy.serde)
    cleared = await clear(saver, seen, ticket)
    if not isinstance(cleared, Cleared):
        await record(session, seen, cleared, ticket.registration.version)
        desk.tell(refused(ticket.thread_id, ticket.registration.name, cleared))
        return "looked"
    stopped = ticket.stop.is_set() or ticket.control.drain_requested
    begun = await _begin(session, (seen, cleared), ticket, desk) if not stopped else None
    if begun is None:
        await cases.postpone(session, ticket.thread_id, _NOT_AT_ALL)
        return "looked"
    saver.watch(Guard(begun.attempt.before, cleared.unfinished, commanded=cleared.rows_before is not None))
    returned = await run(_call(cleared, begun, ticket, desk), saver, ticket)
    if returned.error is not None and desk.exhausted is not None and memory.exhausted(returned.error):
        desk.exhausted(returned.error)
    await _end(saver, begun, returned, ticket, desk)
    return "tried"


async def _begin(session: Session, judged: tuple[Look, Cleared], ticket: Ticket, desk: Desk) -> Begun | None:
    """Record the attempt, unless a person has paused, cancelled or quarantined since we looked."""
    (seen, cleared), registration = judged, ticket.registration
    head = seen.sighting.head.checkpoint_id
    blank = Attempt(
        thread_id=ticket.thread_id,
        attempt=0,
        workflow=registration.name,
        version=registration.version,
        worker=desk.worker,
        started_at=seen.around.now,
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
        tally = await cases.begin(session, standing_of(seen, seen.judgement, Placement(State.RUNNING)))
        if tally is None:
            return None
        attempt = await attempts.start(session, blank)
        await runs.take(session, ticket.thread_id, head, cleared.rows_before)
    desk.tell(started(attempt))
    return Begun(attempt, tally, seen)


def _call(cleared: Cleared, begun: Begun, ticket: Ticket, desk: Desk) -> Call:
    workflow, head = cleared.workflow, begun.look.sighting.head
    policy = workflow.policy
    stamps = {
        "workflow": begun.attempt.workflow,
        "version": begun.attempt.version or head.metadata_version,
        "attempt": begun.attempt.attempt,
        "resumed_run": head.run.run_id if head.run is not None else head.metadata_run,
    }
    config = config_of(ticket.thread_id, cleared.call, policy.configurable, stamps)
    config["recursion_limit"] = workflow.limit(cleared.options.recursion_limit, desk.recursion_limit)
    face = Face(policy.face or cleared.options.face or first(workflow.graph))
    context = partial(context_of, policy, ticket.thread_id)
    return Call(cleared.graph, config, context, cleared.given, face, workflow.graph)


async def _end(saver: FencedSaver, begun: Begun, returned: Return, ticket: Ticket, desk: Desk) -> None:
    """Conclude on the session that holds the lock; where a node still runs, keep the lock until the process is gone."""
    returned = replace(returned, stuck=await _still_running(returned, ticket, desk))
    await saver.rest()
    try:
        if await usable(saver.session):
            await _conclude(saver, begun, returned, (ticket, desk))
        else:
            await _conclude_anew(saver, begun, (ticket, desk), stuck=returned.stuck)
    finally:
        if returned.stuck:
            await _wait_for_the_end(ticket, desk)


async def _conclude(saver: FencedSaver, begun: Begun, returned: Return, whose: tuple[Ticket, Desk]) -> None:
    ticket, desk = whose
    closed, placement = await conclude(saver, begun, returned, ticket)
    if closed is None:
        return
    desk.tell(finished(closed, quiet_since(begun.look.sighting, begun.look.around)))
    if placement.quarantine_reason is not None:
        desk.tell(quarantined(closed.thread_id, closed.workflow, placement.quarantine_reason))


async def _conclude_anew(saver: FencedSaver, begun: Begun, whose: tuple[Ticket, Desk], *, stuck: bool) -> None:
    """The session is gone: close on a new one if its lock can be had, else its next holder closes for us."""
    async with opened(whose[1].target, "resumed attempt") as session:
        locked, _ = await locks.try_lock(session, begun.attempt.thread_id)
        if not locked:
            return
        anew = FencedSaver(session, saver.head)
        await _conclude(anew, begun, Return(stopped=Stopped.LOCK_LOST), whose)
        if stuck:
            await _wait_for_the_end(*whose)
        await locks.unlock(session, begun.attempt.thread_id)


async def _wait_for_the_end(ticket: Ticket, desk: Desk) -> None:
    """Have the control process end this one, and let nobody have the thread before that."""
    desk.tell({"kind": "stuck", "thread_id": ticket.thread_id})
    await asyncio.Event().wait()


async def _still_running(returned: Return, ticket: Ticket, desk: Desk) -> bool:
    """A node may outlive its cancelled run, and a synchronous one its sibling's failure; only the latter has time."""
    patience = _THREAD_GRACE if returned.stopped is not None else ticket.registration.numbers.timeout
    deadline = asyncio.get_running_loop().time() + patience.total_seconds()
    while desk.executor.busy(ticket.thread_id) or (returned.lasting is not None and not returned.lasting.done()):
        if asyncio.get_running_loop().time() > deadline:
            return True
        await asyncio.sleep(_THREAD_POLL.total_seconds())
    return False


def _until_head_has_passed(seen: Look) -> timedelta | None:
    """Ids made behind the head are never read, so wait until the head's time has passed by our clock."""
    ours, made = datetime.now(UTC), made_at(seen.sighting.head.newest_id)
    return made - ours + _AFTER_HEAD if made is not None and made >= ours else None
