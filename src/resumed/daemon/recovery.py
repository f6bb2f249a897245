"""Closes attempts whose process or session is gone, under the thread's lock, held for one transaction."""

import random
from dataclasses import dataclass, replace

from resumed.judge.case import (
    AttemptOutcomeFields,
    CasePlacement,
    CaseUpdate,
    case_update,
    decide_verdict,
    place_case,
    vanished_case,
)
from resumed.judge.retry_policy import RetryInputs, Tally, after_attempt, consecutive_after
from resumed.judge.verdict import Circumstances, ThreadSnapshot
from resumed.model import Attempt, Case, Ending, Outcome, PolicyLimits, State, Verdict
from resumed.operations.assess import SweepContext, circumstances_of
from resumed.store import attempts, cases, checkpoints, locks, runs
from resumed.store.connection import Session

_RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)


@dataclass(frozen=True, slots=True)
class Closer:
    """Who closes, and as what; `ours` says that the attempt was this replica's, `alone` in its isolation worker."""

    name: str
    outcome: Outcome = Outcome.CRASHED
    ours: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class OrphanedAttempt:
    """An open attempt that nobody is working on, with its case and what the thread's rows say now."""

    attempt: Attempt
    known: Case
    snapshot: ThreadSnapshot | None


async def close_orphan(
    session: Session, sweep_context: SweepContext, attempt: Attempt, closer: Closer
) -> Attempt | None:
    """Close an open attempt if its lock is free; None where it is not, or somebody closed it first."""
    thread = attempt.thread_id
    async with session.transaction():
        if not await locks.try_lock_for_transaction(session, thread):
            return None
        known = (await cases.of_threads(session, [thread])).get(thread)
        snapshot = (await checkpoints.snapshots(session, [thread])).get(thread)
        suspect = await _suspect(session, attempt, closer)
        ending = _ending(attempt, snapshot, closer)
        closed = await attempts.finish(session, attempt, ending, closer.name)
        if closed is not None and known is not None:
            orphan = OrphanedAttempt(attempt, known, snapshot)
            left = _left(sweep_context, orphan, ending)
            spent = attempt.version if left.placement.state is State.QUARANTINED else None
            counted = consecutive_after(Tally(known.attempts, known.consecutive), ending)
            await runs.settle_run(session, snapshot.head.run if snapshot is not None else None, left.judgement.verdict)
            fields = AttemptOutcomeFields(counted, spent_by=spent, own=_own(orphan), suspect=suspect)
            await cases.settle_attempt(session, left, fields, known=known, now=sweep_context.now)
        return closed


async def _suspect(session: Session, attempt: Attempt, closer: Closer) -> bool | None:
    """What ended with its worker is tried alone; what ended with its whole replica only when that happens again.

    A deploy or a lost host ends many at once, none of which is to blame.
    """
    if closer.outcome is not Outcome.CRASHED:
        return None
    before = [one.outcome for one in await attempts.of_thread(session, attempt.thread_id) if one.finished_at]
    return True if closer.ours or before[-1:] == [Outcome.CRASHED] else None


def _ending(attempt: Attempt, snapshot: ThreadSnapshot | None, closer: Closer) -> Ending:
    after = snapshot.head.checkpoint_id if snapshot is not None else None
    return Ending(closer.outcome, advanced=after not in (None, attempt.before), after=after, alone=closer.alone)


def _own(orphan: OrphanedAttempt) -> bool:
    """An attempt stamps its number into what it saves; a head without it was written by somebody else meanwhile."""
    if orphan.snapshot is None:
        return False
    head, attempt = orphan.snapshot.head, orphan.attempt
    return head.checkpoint_id == attempt.before or head.metadata_attempt == str(attempt.attempt)


def _left(sweep_context: SweepContext, orphan: OrphanedAttempt, ending: Ending) -> CaseUpdate:
    if orphan.snapshot is None:
        return vanished_case(orphan.attempt.thread_id, orphan.known.workflow, sweep_context.now)
    circumstances = replace(
        circumstances_of(orphan.snapshot, sweep_context, orphan.known, held=False), ours=_own(orphan)
    )
    judgement = decide_verdict(orphan.snapshot, circumstances)
    placement = place_case(judgement, circumstances)
    if judgement.verdict in _RESUMABLE:
        placement = _after(sweep_context, orphan, ending, circumstances)
    return case_update(orphan.snapshot, circumstances, judgement, placement)


def _after(
    sweep_context: SweepContext, orphan: OrphanedAttempt, ending: Ending, circumstances: Circumstances
) -> CasePlacement:
    tally = Tally(orphan.known.attempts, orphan.known.consecutive)
    chance = RetryInputs(sweep_context.now, random.random())  # noqa: S311 - jitter, no secret
    return after_attempt(tally, ending, _numbers(sweep_context, orphan, circumstances), chance)


def _numbers(sweep_context: SweepContext, orphan: OrphanedAttempt, circumstances: Circumstances) -> PolicyLimits:
    """Return the policy of the version that made the attempt; where that is forgotten, of the one that has the thread.

    Several versions of a workflow are registered side by side, each with a policy of its own.
    """
    made_by = (orphan.attempt.workflow, orphan.attempt.version)
    version = orphan.snapshot.head.metadata_version if orphan.snapshot is not None else None
    own = next(
        (one for one in sweep_context.known if (one.name, one.version) == made_by), circumstances.claim.taker(version)
    )
    return own.numbers if own is not None else sweep_context.rules.defaults
