"""Closes attempts: judges by rows what came of one, and writes attempt and case in one transaction.

Nothing is closed here without the thread's lock, and the lock is given back only after the rows are written.
"""

import random
from dataclasses import dataclass, replace

from resumed.engine import memory
from resumed.engine.desk import Desk, Ticket
from resumed.engine.guard import Guard
from resumed.engine.hooks import lasting, own_wait, permanent
from resumed.engine.look import REFUSALS, RESUMABLE, Look, clear, look, standing_of
from resumed.engine.running import Return, database_error, meaning
from resumed.engine.saver import FencedSaver
from resumed.engine.wire import finished
from resumed.judge.case import Placement, place, vanished
from resumed.judge.policy import Chance, Tally, after_attempt, consecutive_after
from resumed.model import Attempt, Ending, Judgement, Outcome, State, Verdict
from resumed.redaction import describe
from resumed.store import acts, attempts, cases, checkpoints, runs, watermarks
from resumed.store.cases import Extra
from resumed.store.connect import Session

_BY_VERDICT = {
    Verdict.FINISHED: Outcome.FINISHED,
    Verdict.WAITING: Outcome.WAITING,
    Verdict.BREAKPOINT: Outcome.WAITING,
    Verdict.INCOMPATIBLE: Outcome.INCOMPATIBLE,
}
_LEFT_TO_OTHERS = (Outcome.SUPERSEDED, Outcome.LOCK_LOST)
_PROVE_NOTHING = (*_LEFT_TO_OTHERS, Outcome.DRAINED)


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that is on record and runs."""

    attempt: Attempt
    tally: Tally
    look: Look


async def close_left_open(session: Session, ticket: Ticket, desk: Desk) -> None:
    """Close as crashed an attempt whose holder is gone: it must be, or we would not have its lock."""
    left = await attempts.open_of(session, ticket.thread_id)
    if left is None:
        return
    after = await checkpoints.root_head(session, ticket.thread_id)
    ending = Ending(Outcome.CRASHED, advanced=after not in (None, left.before), after=after)
    async with session.transaction():
        closed = await attempts.finish(session, left, ending)
        await acts.resolve(session, ticket.thread_id, after)
    if closed is not None:
        desk.tell(finished(closed, None))


async def conclude(
    saver: FencedSaver, begun: Begun, returned: Return, ticket: Ticket
) -> tuple[Attempt | None, Placement]:
    """Judge an attempt by the rows it left and write what became of it; no attempt where it had been closed before.

    `saver.head` is the head that the attempt itself saved last.
    """
    session, guard = saver.session, saver.guard
    await saver.rest()
    seen = await _look_after(saver, returned, ticket)
    if seen is None:
        return await _vanished(session, begun, ticket), Placement(State.CLOSED)
    ending = ending_of(returned, begun.attempt.before, saver.head, seen)
    judgement, placement = _leaves(seen, begun, ending, (ticket, returned.error))
    version = ticket.registration.version
    extra = Extra(
        consecutive=_consecutive(begun, ending, guard),
        refused_by=version if judgement.verdict in REFUSALS else None,
        spent_by=version if placement.state is State.QUARANTINED else None,
        own=ending.outcome not in _LEFT_TO_OTHERS,
        suspect=_suspect(returned, ending),
    )
    async with session.transaction():
        closed = await attempts.finish(session, begun.attempt, ending)
        if closed is not None:
            await cases.settle(session, standing_of(seen, judgement, placement), extra)
            await runs.settle(session, seen.sighting.head.run, judgement.verdict)
    return closed, placement


def _consecutive(begun: Begun, ending: Ending, guard: Guard | None) -> int:
    """What was refused before it ran is charged to nobody, as what preflight refuses is not."""
    if guard is not None and guard.refusal is not None and not ending.advanced:
        return begun.tally.consecutive
    return consecutive_after(begun.tally, ending)


def _suspect(returned: Return, ending: Ending) -> bool | None:
    """Whose node had to be ended with its worker, or took all its memory, is tried alone; any other end clears it."""
    if returned.stuck or memory.exhausted(returned.error):
        return True
    return None if ending.outcome in _PROVE_NOTHING else False


async def _vanished(session: Session, begun: Begun, ticket: Ticket) -> Attempt | None:
    """Close an attempt whose thread was deleted meanwhile, and its case."""
    gone = vanished(begun.attempt.thread_id, ticket.registration.name, begun.look.around.now)
    async with session.transaction():
        closed = await attempts.finish(session, begun.attempt, Ending(Outcome.SUPERSEDED))
        await cases.settle(session, gone)
    return closed


async def _look_after(saver: FencedSaver, returned: Return, ticket: Ticket) -> Look | None:
    """Look at what the run left; where it returned and rows see work left, ask values and graph why it did.

    What a hidden graph was stopped at only the guard of the run can tell. A run whose input is still to be given has
    reached nothing.
    """
    guard = saver.guard
    saver.watch(None)
    seen = await look(saver.session, await watermarks.clock(saver.session), ticket, ours=True)
    if seen is not None and saver.withheld is not None and seen.judgement.verdict in RESUMABLE:
        return replace(seen, judgement=Judgement(Verdict.WAITING, saver.withheld))
    if seen is None or seen.judgement.verdict not in RESUMABLE or returned.stopped:
        return seen
    if guard is not None and guard.refusal is not None:
        return replace(seen, judgement=guard.refusal)
    said = await clear(saver, seen, ticket) if returned.error is None else None
    if not isinstance(said, Judgement) and guard is not None and not seen.sighting.head.unapplied:
        said = guard.reached
    return replace(seen, judgement=said) if isinstance(said, Judgement) else seen


def ending_of(returned: Return, before: str, expected: str, seen: Look) -> Ending:
    """Say how an attempt ended, by the rows first and by what the call did only where rows cannot tell."""
    after = seen.sighting.head.checkpoint_id
    advanced = after != before
    outcome = _outcome(returned, seen, advanced=advanced)
    if outcome is Outcome.LOCK_LOST:
        return _failed_by_the_database(returned, Ending(outcome, advanced, after))
    if after != expected or outcome is Outcome.SUPERSEDED:
        return Ending(Outcome.SUPERSEDED, advanced, after)
    if outcome is Outcome.FAILED and returned.error is not None:
        report = describe(returned.error)
        return Ending(outcome, advanced, after, report.error_type, report.error_at, report.error)
    return Ending(outcome, advanced, after)


def _failed_by_the_database(returned: Return, ending: Ending) -> Ending:
    """Keep what the database said; a session that was lost has nothing to say."""
    error = database_error(returned.error)
    if error is None:
        return ending
    report = describe(error)
    return replace(ending, error_type=report.error_type, error=report.error)


def _outcome(returned: Return, seen: Look, *, advanced: bool) -> Outcome:
    if returned.stopped is not None:
        return returned.stopped.value
    if returned.error is not None:
        return meaning(returned.error)
    if (outcome := _BY_VERDICT.get(seen.judgement.verdict)) is not None:
        return outcome
    # With work left, a breakpoint is the only reason for a run to return after it moved.
    return Outcome.WAITING if advanced else Outcome.NO_PROGRESS


def _leaves(
    seen: Look, begun: Begun, ending: Ending, tried: tuple[Ticket, BaseException | None]
) -> tuple[Judgement, Placement]:
    judgement = seen.judgement
    if ending.outcome is Outcome.WAITING and judgement.verdict in RESUMABLE:
        judgement = Judgement(Verdict.BREAKPOINT, "the run stopped at a breakpoint")
    if judgement.verdict is Verdict.INCOMPATIBLE:
        # Whether another version takes it, the next sweep knows.
        return judgement, Placement(State.HELD, None, seen.around.now)
    if judgement.verdict not in RESUMABLE:
        return judgement, place(judgement, seen.around)
    ticket, error = tried
    policy, failures = ticket.workflow.policy, max(consecutive_after(begun.tally, ending), 1)
    draw = random.random()  # noqa: S311 - jitter, no secret
    wait = own_wait(policy, failures)
    chance = Chance(seen.around.now, draw, permanent(policy, error), wait, lasting(policy, error))
    return judgement, after_attempt(begun.tally, ending, ticket.registration.numbers, chance)
