"""Deals with threads that a worker had in hand when it died, and no attempt on record: their state may be why."""

import random
from dataclasses import dataclass, replace

from resumed.daemon.sweep import Scene, around
from resumed.judge.case import Placement, decide, standing
from resumed.judge.policy import Chance, Tally, after_attempt, consecutive_after
from resumed.model import Case, Ending, Outcome, Registration, State, Verdict
from resumed.store import cases, checkpoints, locks
from resumed.store.cases import Extra
from resumed.store.connect import Session

_RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)
_UNTRIED = (State.DUE, State.BACKOFF)
_REASON = "the process that loads its state ends, before an attempt can begin"


@dataclass(frozen=True, slots=True)
class Blamed:
    """What came of it: where the case stands now, None where it was not ours to move; `reason` of a quarantine."""

    workflow: str | None = None
    reason: str | None = None


async def blame(
    session: Session, scene: Scene, thread_id: str, known_as: dict[str, Registration], *, alone: bool
) -> Blamed | None:
    """Make a thread a suspect, or count the end of the process against one that was alone; None while it is locked.

    There is no attempt to charge, so the case alone remembers, as it would for one that was charged.
    """
    async with session.transaction():
        if not await locks.try_lock_for_transaction(session, thread_id):
            return None
        case = (await cases.of_threads(session, [thread_id])).get(thread_id)
        sighting = (await checkpoints.sightings(session, [thread_id])).get(thread_id)
        if case is None or sighting is None or case.state not in _UNTRIED:
            return Blamed()
        circumstances = around(sighting, scene, case, held=False)
        judgement = decide(sighting, circumstances)
        registration = known_as.get(case.workflow or "")
        if judgement.verdict not in _RESUMABLE or registration is None:
            return Blamed()
        placement, counted = _after(scene, case, registration, alone=alone)
        spent = registration.version if placement.state is State.QUARANTINED else None
        left = standing(sighting, circumstances, judgement, placement)
        await cases.settle(session, left, Extra(counted, spent_by=spent, suspect=True))
        return Blamed(case.workflow, placement.quarantine_reason)


def _after(scene: Scene, case: Case, registration: Registration, *, alone: bool) -> tuple[Placement, int]:
    ending = Ending(Outcome.CRASHED, advanced=False, after=case.head, alone=alone)
    tally = Tally(case.attempts, case.consecutive)
    chance = Chance(scene.now, random.random())  # noqa: S311 - jitter, no secret
    placement = after_attempt(tally, ending, registration.numbers, chance)
    if placement.state is State.QUARANTINED:
        placement = replace(placement, quarantine_reason=_REASON)
    return placement, consecutive_after(tally, ending)
