"""Closes attempts whose process or session is gone, under the thread's lock, held for one transaction."""

import random
from dataclasses import dataclass, replace

from resumed.daemon.sweep import Scene, around
from resumed.judge.case import Placement, Standing, decide, place, standing, vanished
from resumed.judge.policy import Chance, Tally, after_attempt, consecutive_after
from resumed.judge.verdict import Circumstances, Sighting
from resumed.model import Attempt, Case, Ending, Numbers, Outcome, State, Verdict
from resumed.store import attempts, cases, checkpoints, locks, runs
from resumed.store.cases import Extra
from resumed.store.connect import Session

_RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)


@dataclass(frozen=True, slots=True)
class Closer:
    """Who closes, and as what; `ours` says that the attempt was this replica's, `alone` in its isolation worker."""

    name: str
    outcome: Outcome = Outcome.CRASHED
    ours: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Orphan:
    """An open attempt that nobody is working on, with its case and what the thread's rows say now."""

    attempt: Attempt
    known: Case
    sighting: Sighting | None


async def close_orphan(session: Session, scene: Scene, attempt: Attempt, closer: Closer) -> Attempt | None:
    """Close an open attempt if its lock is free; None where it is not, or somebody closed it first."""
    thread = attempt.thread_id
    async with session.transaction():
        if not await locks.try_lock_for_transaction(session, thread):
            return None
        known = (await cases.of_threads(session, [thread])).get(thread)
        sighting = (await checkpoints.sightings(session, [thread])).get(thread)
        suspect = await _suspect(session, attempt, closer)
        ending = _ending(attempt, sighting, closer)
        closed = await attempts.finish(session, attempt, ending, closer.name)
        if closed is not None and known is not None:
            orphan = Orphan(attempt, known, sighting)
            left = _left(scene, orphan, ending)
            spent = attempt.version if left.placement.state is State.QUARANTINED else None
            counted = consecutive_after(Tally(known.attempts, known.consecutive), ending)
            await runs.settle(session, sighting.head.run if sighting is not None else None, left.judgement.verdict)
            await cases.settle(session, left, Extra(counted, spent_by=spent, own=_own(orphan), suspect=suspect))
        return closed


async def _suspect(session: Session, attempt: Attempt, closer: Closer) -> bool | None:
    """What ended with its worker is tried alone; what ended with its whole replica only when that happens again.

    A deploy or a lost host ends many at once, none of which is to blame.
    """
    if closer.outcome is not Outcome.CRASHED:
        return None
    before = [one.outcome for one in await attempts.of_thread(session, attempt.thread_id) if one.finished_at]
    return True if closer.ours or before[-1:] == [Outcome.CRASHED] else None


def _ending(attempt: Attempt, sighting: Sighting | None, closer: Closer) -> Ending:
    after = sighting.head.checkpoint_id if sighting is not None else None
    return Ending(closer.outcome, advanced=after not in (None, attempt.before), after=after, alone=closer.alone)


def _own(orphan: Orphan) -> bool:
    """An attempt stamps its number into what it saves; a head without it was written by somebody else meanwhile."""
    if orphan.sighting is None:
        return False
    head, attempt = orphan.sighting.head, orphan.attempt
    return head.checkpoint_id == attempt.before or head.metadata_attempt == str(attempt.attempt)


def _left(scene: Scene, orphan: Orphan, ending: Ending) -> Standing:
    if orphan.sighting is None:
        return vanished(orphan.attempt.thread_id, orphan.known.workflow, scene.now)
    circumstances = replace(around(orphan.sighting, scene, orphan.known, held=False), ours=_own(orphan))
    judgement = decide(orphan.sighting, circumstances)
    placement = place(judgement, circumstances)
    if judgement.verdict in _RESUMABLE:
        placement = _after(scene, orphan, ending, circumstances)
    return standing(orphan.sighting, circumstances, judgement, placement)


def _after(scene: Scene, orphan: Orphan, ending: Ending, around: Circumstances) -> Placement:
    tally = Tally(orphan.known.attempts, orphan.known.consecutive)
    chance = Chance(scene.now, random.random())  # noqa: S311 - jitter, no secret
    return after_attempt(tally, ending, _numbers(scene, orphan, around), chance)


def _numbers(scene: Scene, orphan: Orphan, around: Circumstances) -> Numbers:
    """Return the policy of the version that made the attempt; where that is forgotten, of the one that has the thread.

    Several versions of a workflow are registered side by side, each with a policy of its own.
    """
    made_by = (orphan.attempt.workflow, orphan.attempt.version)
    version = orphan.sighting.head.metadata_version if orphan.sighting is not None else None
    own = next((one for one in scene.known if (one.name, one.version) == made_by), around.claim.taker(version))
    return own.numbers if own is not None else scene.rules.defaults
