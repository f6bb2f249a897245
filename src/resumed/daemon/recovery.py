"""Settles what dead workers and lost sessions left, under the thread's lock, held for one transaction.

An attempt that is open though nobody holds its lock is closed. A thread that a dead worker had in hand without an
attempt on record becomes a suspect: loading its state may be what killed the worker.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from resumed.judge.case import (
    AttemptOutcomeFields,
    CasePlacement,
    CaseUpdate,
    case_update,
    decide_verdict,
    enters_quarantine,
    place_case,
    vanished_case,
)
from resumed.judge.retry_policy import RetryInputs, Tally, after_attempt, consecutive_after
from resumed.judge.verdict import Circumstances, ThreadSnapshot
from resumed.model import RESUMABLE, Attempt, Case, Ending, Outcome, PolicyLimits, Registration, State
from resumed.operations.assess import SweepContext, circumstances_of
from resumed.store import attempts, cases, checkpoints, locks, runs
from resumed.store.connection import Session

_UNTRIED = (State.DUE, State.BACKOFF)
_CRASHES_LOADING = "loading this thread's state crashes the worker before an attempt can start"


@dataclass(frozen=True, slots=True)
class Closer:
    """Who closes an attempt, and with what outcome.

    `ours`: the attempt was this replica's; `alone`: it ran in the isolation worker.
    """

    name: str
    outcome: Outcome = Outcome.CRASHED
    ours: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class OrphanedAttempt:
    """An open attempt that no process is working on, with its case and the thread's rows of now."""

    attempt: Attempt
    known: Case
    snapshot: ThreadSnapshot | None


@dataclass(frozen=True, slots=True)
class SuspectResult:
    """What became of a thread that may have killed its worker; `quarantine_reason` if it is quarantined now."""

    workflow: str | None = None
    quarantine_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ClosedOrphan:
    """An attempt as it was closed; `quarantine_reason` if that has put its thread into quarantine."""

    attempt: Attempt
    quarantine_reason: str | None = None


async def close_orphan(
    session: Session, sweep_context: SweepContext, attempt: Attempt, closer: Closer
) -> ClosedOrphan | None:
    """Close an open attempt if its lock is free; return None if it is not, or if it has been closed meanwhile."""
    thread, reason = attempt.thread_id, None
    async with session.transaction():
        if not await locks.try_lock_for_transaction(session, thread):
            return None
        known = (await cases.of_threads(session, [thread])).get(thread)
        snapshot = (await checkpoints.snapshots(session, [thread])).get(thread)
        suspect = await _becomes_suspect(session, attempt, closer)
        after = snapshot.head.checkpoint_id if snapshot is not None else None
        advanced = after not in (None, attempt.before)
        ending = Ending(closer.outcome, advanced=advanced, after=after, alone=closer.alone)
        closed = await attempts.finish(session, attempt, ending, closer.name)
        if closed is not None and known is not None:
            orphan = OrphanedAttempt(attempt, known, snapshot)
            update = _case_after(sweep_context, orphan, ending)
            fields = AttemptOutcomeFields(
                consecutive_after(Tally(known.attempts, known.consecutive), ending),
                spent_by=attempt.version if update.placement.state is State.QUARANTINED else None,
                own=_is_head_ours(orphan),
                suspect=suspect,
            )
            run = snapshot.head.run if snapshot is not None else None
            await runs.settle_run(session, run, update.judgement.verdict)
            await cases.settle_attempt(session, update, fields, known=known, now=sweep_context.now)
            if enters_quarantine(update, known):
                reason = update.placement.quarantine_reason
        return ClosedOrphan(closed, reason) if closed is not None else None


async def suspect_thread(
    session: Session,
    sweep_context: SweepContext,
    thread_id: str,
    registrations: Mapping[str, Registration],
    *,
    alone: bool,
) -> SuspectResult | None:
    """Make a thread a suspect, or charge the crash to it if it was alone in the worker; None while it is locked.

    There is no attempt on record, so the case alone counts the crash, as it would for an attempt that was charged.
    """
    async with session.transaction():
        if not await locks.try_lock_for_transaction(session, thread_id):
            return None
        case = (await cases.of_threads(session, [thread_id])).get(thread_id)
        snapshot = (await checkpoints.snapshots(session, [thread_id])).get(thread_id)
        if case is None or snapshot is None or case.state not in _UNTRIED:
            return SuspectResult()
        circumstances = circumstances_of(snapshot, sweep_context, case, held=False)
        judgement = decide_verdict(snapshot, circumstances)
        registration = registrations.get(case.workflow or "")
        if judgement.verdict not in RESUMABLE or registration is None:
            return SuspectResult()
        ending = Ending(Outcome.CRASHED, advanced=False, after=case.head, alone=alone)
        placement = _place_after(sweep_context, case, ending, registration.numbers)
        spent = None
        if placement.state is State.QUARANTINED:
            placement, spent = replace(placement, quarantine_reason=_CRASHES_LOADING), registration.version
        counted = consecutive_after(Tally(case.attempts, case.consecutive), ending)
        update = case_update(snapshot, circumstances, judgement, placement)
        fields = AttemptOutcomeFields(counted, spent_by=spent, suspect=True)
        await cases.settle_attempt(session, update, fields, known=case, now=sweep_context.now)
        return SuspectResult(case.workflow, placement.quarantine_reason)


async def _becomes_suspect(session: Session, attempt: Attempt, closer: Closer) -> bool | None:
    """Return True for an attempt that ended with its worker, or for the second time with its whole replica.

    A deploy or a lost host ends many attempts at once, and none of them is to blame. None leaves the mark as it is.
    """
    if closer.outcome is not Outcome.CRASHED:
        return None
    before = [past.outcome for past in await attempts.of_thread(session, attempt.thread_id) if past.finished_at]
    return True if closer.ours or before[-1:] == [Outcome.CRASHED] else None


def _is_head_ours(orphan: OrphanedAttempt) -> bool:
    """Return whether the attempt wrote the head: it stamps its number into what it saves."""
    if orphan.snapshot is None:
        return False
    head, attempt = orphan.snapshot.head, orphan.attempt
    return head.checkpoint_id == attempt.before or head.metadata_attempt == str(attempt.attempt)


def _case_after(sweep_context: SweepContext, orphan: OrphanedAttempt, ending: Ending) -> CaseUpdate:
    if orphan.snapshot is None:
        return vanished_case(orphan.attempt.thread_id, orphan.known.workflow, sweep_context.now)
    circumstances = replace(
        circumstances_of(orphan.snapshot, sweep_context, orphan.known, held=False), ours=_is_head_ours(orphan)
    )
    judgement = decide_verdict(orphan.snapshot, circumstances)
    placement = place_case(judgement, circumstances)
    if judgement.verdict in RESUMABLE:
        limits = _limits_of(sweep_context, orphan, circumstances)
        placement = _place_after(sweep_context, orphan.known, ending, limits)
    return case_update(orphan.snapshot, circumstances, judgement, placement)


def _place_after(sweep_context: SweepContext, case: Case, ending: Ending, limits: PolicyLimits) -> CasePlacement:
    inputs = RetryInputs(sweep_context.now, random.random())  # noqa: S311 - jitter, no secret
    return after_attempt(Tally(case.attempts, case.consecutive), ending, limits, inputs)


def _limits_of(sweep_context: SweepContext, orphan: OrphanedAttempt, circumstances: Circumstances) -> PolicyLimits:
    """Return the policy of the version that made the attempt; if that is forgotten, of the one that has the thread.

    Several versions of a workflow are registered side by side, each with a policy of its own.
    """
    made_by = (orphan.attempt.workflow, orphan.attempt.version)
    version = orphan.snapshot.head.metadata_version if orphan.snapshot is not None else None
    registration = next(
        (one for one in sweep_context.registrations if (one.name, one.version) == made_by),
        circumstances.match.taker(version),
    )
    return registration.numbers if registration is not None else sweep_context.rules.defaults
