"""Hands due cases to workers, and takes only what this replica has the code for. Tries nothing itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from resumed.model import Registration
from resumed.store import cases
from resumed.store.cases import ClaimRequest
from resumed.store.connection import Session
from resumed.workers.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class DispatchTurn:
    """Who claims, and until when a case must have been due: what fails after a sweep is tried at the next one."""

    claimant: str
    swept_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowShare:
    """A workflow that this replica has, and how many attempts of it its circuit allows; None: any number."""

    registration: Registration
    allowed: int | None = None


async def dispatch_due(session: Session, pool: WorkerPool, takers: Sequence[WorkflowShare], turn: DispatchTurn) -> int:
    """Claim as many due cases as there is room for and hand them out; says how many were handed out.

    Suspects, and all of a workflow that is to be isolated, go to the isolation worker, which is started for them.
    """
    handed = await _hand_out(session, pool, _wanted(pool, takers, alone=False), turn)
    lonely = _wanted(pool, takers, alone=True)
    if pool.free(alone=True):
        return handed + await _hand_out_alone(session, pool, lonely, turn)
    if not pool.has_isolation() and await cases.is_any_due(session, lonely, turn.swept_at):
        await _isolate(session, pool, lonely, turn)
    return handed


async def _hand_out_alone(
    session: Session, pool: WorkerPool, lonely: Sequence[ClaimRequest], turn: DispatchTurn
) -> int:
    """Hand out a case of the workflow that the isolation worker has; it makes room where only another's wait."""
    own = [one for one in lonely if one.registration.name == pool.isolated]
    others = [one for one in lonely if one not in own and pool.can_isolate(one.registration.name)]
    waiting = bool(others) and await cases.is_any_due(session, others, turn.swept_at)
    handed = 0 if waiting and pool.overstays() else await _hand_out(session, pool, own, turn, alone=True)
    if waiting and not handed:
        pool.yield_isolation()
    return handed


async def _isolate(session: Session, pool: WorkerPool, lonely: Sequence[ClaimRequest], turn: DispatchTurn) -> None:
    """Start the isolation worker for a workflow of which something is due, each in its turn."""
    names = sorted({one.registration.name for one in lonely if pool.can_isolate(one.registration.name)})
    after = pool.isolated or ""
    for name in sorted(names, key=lambda one: (one <= after, one)):
        if await cases.is_any_due(session, [one for one in lonely if one.registration.name == name], turn.swept_at):
            pool.isolate(name)
            return


def _wanted(pool: WorkerPool, takers: Sequence[WorkflowShare], *, alone: bool) -> list[ClaimRequest]:
    """Say how many cases of which kind can be taken: suspects are tried alone, and some workflows always are."""
    found = []
    for one in takers:
        registration = one.registration
        room = 1 if alone else pool.room(registration.name)
        room = room if one.allowed is None else min(room, one.allowed)
        kinds = ([True] if alone else []) + ([False] if registration.isolate is alone else [])
        found += [ClaimRequest(registration, room, suspects) for suspects in kinds if room]
    return found


async def _hand_out(
    session: Session, pool: WorkerPool, wanted: Sequence[ClaimRequest], turn: DispatchTurn, *, alone: bool = False
) -> int:
    room = pool.free(alone=alone)
    if not room or not wanted:
        return 0
    claimed = await cases.claim(session, wanted, turn.claimant, room, turn.swept_at)
    left = [one.thread_id for one in claimed if not pool.submit(one.thread_id, one.workflow, alone=alone)]
    if left:
        await cases.release_claims(session, left, turn.claimant)
    return len(claimed) - len(left)
