"""The end of attempts: judges by the rows what came of one, and writes attempt and case in one transaction.

Nothing is closed here without the thread's lock, and the lock is released only after the rows are written.
"""

import asyncio
import random
from dataclasses import dataclass, replace

from resumed.judge.case import AttemptOutcomeFields, CasePlacement, place_case, vanished_case
from resumed.judge.retry_policy import RetryInputs, Tally, after_attempt, consecutive_after
from resumed.judge.verdict import quiet_since
from resumed.model import RESUMABLE, Attempt, Ending, Judgement, Outcome, State, Verdict
from resumed.observability.redaction import describe_error
from resumed.outcomes import meaning_of
from resumed.runtime.assessment import REFUSALS, Assessment, assess_thread, case_update_of, run_preflight
from resumed.runtime.context import AttemptContext, AttemptRequest
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.graph_run import RunResult, StopReason, find_database_error, outcome_of_error
from resumed.runtime.retry_hooks import get_backoff, get_permanent_reason, is_lasting
from resumed.runtime.run_guard import RunGuard
from resumed.store import attempts, case_commands, cases, checkpoints, locks
from resumed.store.attempts import Conclusion
from resumed.store.connection import Session, is_usable
from resumed.store.thread_rows import ThreadRows, read_thread
from resumed.workers import memory
from resumed.workers.protocol import AttemptFinished, NodeStuck, ThreadQuarantined

_BY_VERDICT = {
    Verdict.FINISHED: Outcome.FINISHED,
    Verdict.WAITING: Outcome.WAITING,
    Verdict.BREAKPOINT: Outcome.WAITING,
    Verdict.INCOMPATIBLE: Outcome.INCOMPATIBLE,
}


@dataclass(frozen=True, slots=True)
class BegunAttempt:
    """An attempt that is recorded and runs, and the assessment that it began on."""

    attempt: Attempt
    tally: Tally
    assessment: Assessment


async def recover_open_attempt(context: AttemptContext, rows: ThreadRows, left_open: Attempt | None) -> ThreadRows:
    """Close an attempt that was left open on the thread as crashed: its holder must be gone, for we hold its lock.

    Returns the thread's rows, those of after that.
    """
    if left_open is None:
        return rows
    session, thread_id = context.session, context.thread_id
    after = await checkpoints.root_head(session, thread_id)
    ending = Ending(Outcome.CRASHED, advanced=after not in (None, left_open.before), after=after)
    async with session.transaction():
        closed = await attempts.finish(session, left_open, ending, context.worker.name)
        await case_commands.resolve_cancel(session, thread_id, after)
    if closed is not None:
        context.worker.send(AttemptFinished(closed))
    return await read_thread(session, thread_id)


async def conclude_attempt(context: AttemptContext, saver: FencedSaver, begun: BegunAttempt, result: RunResult) -> None:
    """Conclude on the session that holds the lock, and keep the lock where a node still runs.

    Where that session is gone, conclude on a new one if the lock can be had; otherwise its next holder does.
    """
    await saver.wait_for_saves()
    try:
        if await is_usable(saver.session):
            await _conclude(context, saver, begun, result)
            return
        async with context.worker.sessions.session(context.thread_id) as session:
            locked, _ = await locks.try_lock(session, context.thread_id)
            if not locked:
                return
            await _conclude(
                context, FencedSaver(session, saver.head), begun, RunResult(stop_reason=StopReason.LOCK_LOST)
            )
            if result.stuck:
                await _wait_for_process_end(context)
            await locks.unlock(session, context.thread_id)
    finally:
        if result.stuck:
            await _wait_for_process_end(context)


async def _wait_for_process_end(context: AttemptContext) -> None:
    """Have the control process end this one, and keep the thread's lock until then."""
    context.worker.send(NodeStuck(context.thread_id))
    await asyncio.Event().wait()


async def _conclude(context: AttemptContext, saver: FencedSaver, begun: BegunAttempt, result: RunResult) -> None:
    """Judge an attempt by the rows it left, write what became of it, and report it unless it had been closed before.

    `saver.head` is the head that the attempt itself saved last.
    """
    session, request, guard = saver.session, context.request, saver.guard
    await saver.wait_for_saves()
    after = await _assess_after(saver, result, request)
    if after is None:
        closed = await _close_vanished(session, begun, request)
        placement = CasePlacement(State.CLOSED)
    else:
        ending = ending_of(result, begun.attempt.before, saver.head, after)
        judgement, placement = _place(after, begun, ending, request, result.error)
        version = request.registration.version
        fields = AttemptOutcomeFields(
            consecutive=_count_consecutive(begun, ending, guard),
            refused_by=version if judgement.verdict in REFUSALS else None,
            spent_by=version if placement.state is State.QUARANTINED else None,
            own=meaning_of(ending.outcome).own,
            suspect=_is_suspect(result, ending),
        )
        update, circumstances = case_update_of(after, judgement, placement), after.circumstances
        left = Conclusion(update, fields, circumstances.known, circumstances.now, after.snapshot.head.run)
        closed = await attempts.conclude(session, begun.attempt, ending, left)
    request.left_open = None
    if closed is None:
        return
    last_sign_at = quiet_since(begun.assessment.snapshot, begun.assessment.circumstances)
    context.worker.send(AttemptFinished(closed, last_sign_at))
    if placement.quarantine_reason is not None:
        context.worker.send(ThreadQuarantined(closed.thread_id, closed.workflow, placement.quarantine_reason))


async def _assess_after(saver: FencedSaver, result: RunResult, request: AttemptRequest) -> Assessment | None:
    """Assess what the run left; where it returned and the rows see work left, ask values and graph for the reason.

    Only the guard of the run knows where a graph that no search finds was stopped. A run whose input is still to be
    applied has reached nothing.
    """
    guard = saver.guard
    saver.watch(None)
    after = assess_thread(await read_thread(saver.session, request.thread_id), request, skip_silence=True)
    if after is not None and saver.withheld is not None and after.judgement.verdict in RESUMABLE:
        return replace(after, judgement=Judgement(Verdict.WAITING, saver.withheld))
    if after is None or after.judgement.verdict not in RESUMABLE or result.stop_reason:
        return after
    if guard is not None and guard.refusal is not None:
        return replace(after, judgement=guard.refusal)
    answer = await run_preflight(saver, after, request) if result.error is None else None
    judgement = answer if isinstance(answer, Judgement) else None
    if judgement is None and guard is not None and not after.snapshot.head.unapplied:
        judgement = guard.reached
    return replace(after, judgement=judgement) if judgement is not None else after


async def _close_vanished(session: Session, begun: BegunAttempt, request: AttemptRequest) -> Attempt | None:
    """Close an attempt whose thread was deleted meanwhile, and its case."""
    now = begun.assessment.circumstances.now
    async with session.transaction():
        closed = await attempts.finish(session, begun.attempt, Ending(Outcome.SUPERSEDED))
        gone = vanished_case(begun.attempt.thread_id, request.registration.name, now)
        await cases.settle_attempt(session, gone, known=None, now=now)
    return closed


def _count_consecutive(begun: BegunAttempt, ending: Ending, guard: RunGuard | None) -> int:
    """Count the charged attempts in a row; what the guard refused before it ran is not charged, as in preflight."""
    if guard is not None and guard.refusal is not None and not ending.advanced:
        return begun.tally.consecutive
    return consecutive_after(begun.tally, ending)


def _is_suspect(result: RunResult, ending: Ending) -> bool | None:
    """Return True for a thread to be tried alone, False where its end clears it, None where it proves nothing.

    Tried alone is a thread whose node had to be ended with its worker, or took all of its memory.
    """
    if result.stuck or memory.exhausted(result.error):
        return True
    return False if meaning_of(ending.outcome).proves else None


def ending_of(result: RunResult, before: str, expected: str, after: Assessment) -> Ending:
    """Return how an attempt ended: by the rows first, and by what the call did only where rows do not show it.

    `before` is the head that it began on, `expected` the one that it saved last itself.
    """
    head = after.head_id
    advanced = head != before
    outcome = _outcome_of(result, after, advanced=advanced)
    if outcome is Outcome.LOCK_LOST:
        ending = Ending(outcome, advanced, head)
        if (error := find_database_error(result.error)) is None:
            return ending
        report = describe_error(error)
        return replace(ending, error_type=report.error_type, error=report.error)
    if head != expected or outcome is Outcome.SUPERSEDED:
        return Ending(Outcome.SUPERSEDED, advanced, head)
    if outcome is Outcome.FAILED and result.error is not None:
        report = describe_error(result.error)
        return Ending(outcome, advanced, head, report.error_type, report.error_at, report.error)
    return Ending(outcome, advanced, head)


def _outcome_of(result: RunResult, after: Assessment, *, advanced: bool) -> Outcome:
    if result.stop_reason is not None:
        return result.stop_reason.value
    if result.error is not None:
        return outcome_of_error(result.error)
    if (outcome := _BY_VERDICT.get(after.judgement.verdict)) is not None:
        return outcome
    # With work left, a breakpoint is the only reason for a run to return after it moved.
    return Outcome.WAITING if advanced else Outcome.NO_PROGRESS


def _place(
    after: Assessment, begun: BegunAttempt, ending: Ending, request: AttemptRequest, error: BaseException | None
) -> tuple[Judgement, CasePlacement]:
    """Return the verdict that the attempt leaves, and the state and the due time of its case."""
    judgement, now = after.judgement, after.circumstances.now
    if ending.outcome is Outcome.WAITING and judgement.verdict in RESUMABLE:
        judgement = Judgement(Verdict.BREAKPOINT, "the run stopped at a breakpoint")
    if judgement.verdict is Verdict.INCOMPATIBLE:
        # The next sweep knows whether another version takes it.
        return judgement, CasePlacement(State.HELD, None, now)
    if judgement.verdict not in RESUMABLE:
        return judgement, place_case(judgement, after.circumstances)
    policy, failures = request.workflow.policy, max(consecutive_after(begun.tally, ending), 1)
    draw = random.random()  # noqa: S311 - jitter, no secret
    wait = get_backoff(policy, failures)
    inputs = RetryInputs(now, draw, get_permanent_reason(policy, error), wait, is_lasting(policy, error))
    return judgement, after_attempt(begun.tally, ending, request.registration.numbers, inputs)
