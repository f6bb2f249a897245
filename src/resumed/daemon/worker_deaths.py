"""Deals with threads that a worker had in hand when it died, and no attempt on record: their state may be why."""

import random
from dataclasses import dataclass, replace

from resumed.judge.case import AttemptOutcomeFields, CasePlacement, case_update, decide_verdict
from resumed.judge.retry_policy import RetryInputs, Tally, after_attempt, consecutive_after
from resumed.model import Case, Ending, Outcome, Registration, State, Verdict
from resumed.operations.assess import SweepContext, circumstances_of
from resumed.store import cases, checkpoints, locks
from resumed.store.connection import Session

_RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)
_UNTRIED = (State.DUE, State.BACKOFF)
_REASON = "the process that loads its state ends, before an attempt can begin"


@dataclass(frozen=True, slots=True)
class BlameResult:
    """What came of it: where the case stands now, None where it was not ours to move; `reason` of a quarantine."""

    workflow: str | None = None
    reason: str | None = None


async def blame_thread(
    session: Session, sweep_context: SweepContext, thread_id: str, known_as: dict[str, Registration], *, alone: bool
) -> BlameResult | None:
    """Make a thread a suspect, or count the end of the process against one that was alone; None while it is locked.

    There is no attempt to charge, so the case alone remembers, as it would for one that was charged.
    """
    async with session.transaction():
        if not await locks.try_lock_for_transaction(session, thread_id):
            return None
        case = (await cases.of_threads(session, [thread_id])).get(thread_id)
        snapshot = (await checkpoints.snapshots(session, [thread_id])).get(thread_id)
        if case is None or snapshot is None or case.state not in _UNTRIED:
            return BlameResult()
        circumstances = circumstances_of(snapshot, sweep_context, case, held=False)
        judgement = decide_verdict(snapshot, circumstances)
        registration = known_as.get(case.workflow or "")
        if judgement.verdict not in _RESUMABLE or registration is None:
            return BlameResult()
        placement, counted = _after(sweep_context, case, registration, alone=alone)
        spent = registration.version if placement.state is State.QUARANTINED else None
        left = case_update(snapshot, circumstances, judgement, placement)
        fields = AttemptOutcomeFields(counted, spent_by=spent, suspect=True)
        await cases.settle_attempt(session, left, fields, known=case, now=sweep_context.now)
        return BlameResult(case.workflow, placement.quarantine_reason)


def _after(
    sweep_context: SweepContext, case: Case, registration: Registration, *, alone: bool
) -> tuple[CasePlacement, int]:
    ending = Ending(Outcome.CRASHED, advanced=False, after=case.head, alone=alone)
    tally = Tally(case.attempts, case.consecutive)
    chance = RetryInputs(sweep_context.now, random.random())  # noqa: S311 - jitter, no secret
    placement = after_attempt(tally, ending, registration.numbers, chance)
    if placement.state is State.QUARANTINED:
        placement = replace(placement, quarantine_reason=_REASON)
    return placement, consecutive_after(tally, ending)
