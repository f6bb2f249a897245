"""Closes attempts: judges by rows what came of one, and writes attempt and case in one transaction.

Nothing is closed here without the thread's lock, and the lock is given back only after the rows are written.
"""

import random
from dataclasses import dataclass, replace

from resumed.judge.case import CasePlacement, place_case, vanished_case
from resumed.judge.retry_policy import RetryInputs, Tally, after_attempt, consecutive_after
from resumed.model import RESUMABLE, Attempt, Ending, Judgement, Outcome, State, Verdict
from resumed.observability.redaction import describe_error
from resumed.runtime.assessment import REFUSALS, Assessment, assess_thread, case_update_of, run_preflight
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.graph_run import RunResult, database_error, meaning
from resumed.runtime.retry_hooks import is_lasting, is_permanent, own_back_off
from resumed.runtime.run_guard import RunGuard
from resumed.store import attempts, case_commands, cases, checkpoints, runs, watermark
from resumed.store.cases import AttemptOutcomeFields
from resumed.store.connection import Session
from resumed.workers import memory
from resumed.workers.protocol import AttemptFinished

_BY_VERDICT = {
    Verdict.FINISHED: Outcome.FINISHED,
    Verdict.WAITING: Outcome.WAITING,
    Verdict.BREAKPOINT: Outcome.WAITING,
    Verdict.INCOMPATIBLE: Outcome.INCOMPATIBLE,
}
_LEFT_TO_OTHERS = (Outcome.SUPERSEDED, Outcome.LOCK_LOST)
_PROVE_NOTHING = (*_LEFT_TO_OTHERS, Outcome.DRAINED)


@dataclass(frozen=True, slots=True)
class BegunAttempt:
    """An attempt that is on record and runs."""

    attempt: Attempt
    tally: Tally
    look: Assessment


async def close_left_open(session: Session, request: AttemptRequest, desk: WorkerContext) -> None:
    """Close as crashed an attempt whose holder is gone: it must be, or we would not have its lock."""
    left = await attempts.open_of(session, request.thread_id)
    if left is None:
        return
    after = await checkpoints.root_head(session, request.thread_id)
    ending = Ending(Outcome.CRASHED, advanced=after not in (None, left.before), after=after)
    async with session.transaction():
        closed = await attempts.finish(session, left, ending)
        await case_commands.resolve(session, request.thread_id, after)
    if closed is not None:
        desk.tell(AttemptFinished(closed))


async def conclude(
    saver: FencedSaver, begun: BegunAttempt, returned: RunResult, request: AttemptRequest
) -> tuple[Attempt | None, CasePlacement]:
    """Judge an attempt by the rows it left and write what became of it; no attempt where it had been closed before.

    `saver.head` is the head that the attempt itself saved last.
    """
    session, guard = saver.session, saver.guard
    await saver.rest()
    seen = await _look_after(saver, returned, request)
    if seen is None:
        return await _vanished(session, begun, request), CasePlacement(State.CLOSED)
    ending = ending_of(returned, begun.attempt.before, saver.head, seen)
    judgement, placement = _leaves(seen, begun, ending, (request, returned.error))
    version = request.registration.version
    extra = AttemptOutcomeFields(
        consecutive=_consecutive(begun, ending, guard),
        refused_by=version if judgement.verdict in REFUSALS else None,
        spent_by=version if placement.state is State.QUARANTINED else None,
        own=ending.outcome not in _LEFT_TO_OTHERS,
        suspect=_suspect(returned, ending),
    )
    async with session.transaction():
        closed = await attempts.finish(session, begun.attempt, ending)
        if closed is not None:
            await cases.settle_attempt(session, case_update_of(seen, judgement, placement), extra)
            await runs.settle_run(session, seen.snapshot.head.run, judgement.verdict)
    return closed, placement


def _consecutive(begun: BegunAttempt, ending: Ending, guard: RunGuard | None) -> int:
    """What was refused before it ran is charged to nobody, as what preflight refuses is not."""
    if guard is not None and guard.refusal is not None and not ending.advanced:
        return begun.tally.consecutive
    return consecutive_after(begun.tally, ending)


def _suspect(returned: RunResult, ending: Ending) -> bool | None:
    """Whose node had to be ended with its worker, or took all its memory, is tried alone; any other end clears it."""
    if returned.stuck or memory.exhausted(returned.error):
        return True
    return None if ending.outcome in _PROVE_NOTHING else False


async def _vanished(session: Session, begun: BegunAttempt, request: AttemptRequest) -> Attempt | None:
    """Close an attempt whose thread was deleted meanwhile, and its case."""
    gone = vanished_case(begun.attempt.thread_id, request.registration.name, begun.look.circumstances.now)
    async with session.transaction():
        closed = await attempts.finish(session, begun.attempt, Ending(Outcome.SUPERSEDED))
        await cases.settle_attempt(session, gone)
    return closed


async def _look_after(saver: FencedSaver, returned: RunResult, request: AttemptRequest) -> Assessment | None:
    """Look at what the run left; where it returned and rows see work left, ask values and graph why it did.

    What a hidden graph was stopped at only the guard of the run can tell. A run whose input is still to be given has
    reached nothing.
    """
    guard = saver.guard
    saver.watch(None)
    seen = await assess_thread(saver.session, await watermark.database_clock(saver.session), request, ours=True)
    if seen is not None and saver.withheld is not None and seen.judgement.verdict in RESUMABLE:
        return replace(seen, judgement=Judgement(Verdict.WAITING, saver.withheld))
    if seen is None or seen.judgement.verdict not in RESUMABLE or returned.stopped:
        return seen
    if guard is not None and guard.refusal is not None:
        return replace(seen, judgement=guard.refusal)
    said = await run_preflight(saver, seen, request) if returned.error is None else None
    if not isinstance(said, Judgement) and guard is not None and not seen.snapshot.head.unapplied:
        said = guard.reached
    return replace(seen, judgement=said) if isinstance(said, Judgement) else seen


def ending_of(returned: RunResult, before: str, expected: str, seen: Assessment) -> Ending:
    """Say how an attempt ended, by the rows first and by what the call did only where rows cannot tell."""
    after = seen.snapshot.head.checkpoint_id
    advanced = after != before
    outcome = _outcome(returned, seen, advanced=advanced)
    if outcome is Outcome.LOCK_LOST:
        return _failed_by_the_database(returned, Ending(outcome, advanced, after))
    if after != expected or outcome is Outcome.SUPERSEDED:
        return Ending(Outcome.SUPERSEDED, advanced, after)
    if outcome is Outcome.FAILED and returned.error is not None:
        report = describe_error(returned.error)
        return Ending(outcome, advanced, after, report.error_type, report.error_at, report.error)
    return Ending(outcome, advanced, after)


def _failed_by_the_database(returned: RunResult, ending: Ending) -> Ending:
    """Keep what the database said; a session that was lost has nothing to say."""
    error = database_error(returned.error)
    if error is None:
        return ending
    report = describe_error(error)
    return replace(ending, error_type=report.error_type, error=report.error)


def _outcome(returned: RunResult, seen: Assessment, *, advanced: bool) -> Outcome:
    if returned.stopped is not None:
        return returned.stopped.value
    if returned.error is not None:
        return meaning(returned.error)
    if (outcome := _BY_VERDICT.get(seen.judgement.verdict)) is not None:
        return outcome
    # With work left, a breakpoint is the only reason for a run to return after it moved.
    return Outcome.WAITING if advanced else Outcome.NO_PROGRESS


def _leaves(
    seen: Assessment, begun: BegunAttempt, ending: Ending, tried: tuple[AttemptRequest, BaseException | None]
) -> tuple[Judgement, CasePlacement]:
    judgement = seen.judgement
    if ending.outcome is Outcome.WAITING and judgement.verdict in RESUMABLE:
        judgement = Judgement(Verdict.BREAKPOINT, "the run stopped at a breakpoint")
    if judgement.verdict is Verdict.INCOMPATIBLE:
        # Whether another version takes it, the next sweep knows.
        return judgement, CasePlacement(State.HELD, None, seen.circumstances.now)
    if judgement.verdict not in RESUMABLE:
        return judgement, place_case(judgement, seen.circumstances)
    request, error = tried
    policy, failures = request.workflow.policy, max(consecutive_after(begun.tally, ending), 1)
    draw = random.random()  # noqa: S311 - jitter, no secret
    wait = own_back_off(policy, failures)
    chance = RetryInputs(seen.circumstances.now, draw, is_permanent(policy, error), wait, is_lasting(policy, error))
    return judgement, after_attempt(begun.tally, ending, request.registration.numbers, chance)
