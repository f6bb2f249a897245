"""Hands due cases to workers: claims only what this replica has the code for, and tries nothing itself."""

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
    """Who claims, and until when a case must have been due: what fails after a sweep waits for the next one."""

    claimant: str
    swept_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowShare:
    """A workflow that this replica has, and how many attempts of it its circuit allows; None: any number."""

    registration: Registration
    allowed: int | None = None


async def dispatch_due(session: Session, pool: WorkerPool, shares: Sequence[WorkflowShare], turn: DispatchTurn) -> int:
    """Claim as many due cases as there is room for and hand them out; return how many were handed out.

    Suspects, and threads of workflows that are always isolated, go to the isolation worker, which is started for them.
    """
    handed_out = await _hand_out(session, pool, _claim_requests(pool, shares, alone=False), turn)
    for_isolation = _claim_requests(pool, shares, alone=True)
    if pool.free_slots(alone=True):
        return handed_out + await _hand_out_isolated(session, pool, for_isolation, turn)
    if not pool.has_isolation() and await cases.is_any_due(session, for_isolation, turn.swept_at):
        await _start_isolation(session, pool, for_isolation, turn)
    return handed_out


async def _hand_out_isolated(
    session: Session, pool: WorkerPool, requests: Sequence[ClaimRequest], turn: DispatchTurn
) -> int:
    """Hand out a case of the isolation worker's workflow; end that worker if only other workflows have cases due."""
    own = [request for request in requests if request.registration.name == pool.isolated_workflow]
    others = [request for request in requests if request not in own and pool.can_isolate(request.registration.name)]
    others_wait = bool(others) and await cases.is_any_due(session, others, turn.swept_at)
    if others_wait and pool.is_isolation_turn_over():
        handed_out = 0
    else:
        handed_out = await _hand_out(session, pool, own, turn, alone=True)
    if others_wait and not handed_out:
        pool.release_isolation()
    return handed_out


async def _start_isolation(
    session: Session, pool: WorkerPool, requests: Sequence[ClaimRequest], turn: DispatchTurn
) -> None:
    """Start the isolation worker for the next workflow, by name, of which something is due."""
    names = sorted({request.registration.name for request in requests if pool.can_isolate(request.registration.name)})
    last = pool.isolated_workflow or ""
    for name in sorted(names, key=lambda name: (name <= last, name)):
        if await cases.is_any_due(session, [one for one in requests if one.registration.name == name], turn.swept_at):
            pool.start_isolation(name)
            return


def _claim_requests(pool: WorkerPool, shares: Sequence[WorkflowShare], *, alone: bool) -> list[ClaimRequest]:
    """Return how many cases of which kind can be claimed for ordinary workers, or for the isolation worker."""
    requests = []
    for share in shares:
        registration = share.registration
        room = 1 if alone else pool.room_for(registration.name)
        room = room if share.allowed is None else min(room, share.allowed)
        kinds = ([True] if alone else []) + ([False] if registration.isolate is alone else [])
        requests += [ClaimRequest(registration, room, suspects) for suspects in kinds if room]
    return requests


async def _hand_out(
    session: Session, pool: WorkerPool, requests: Sequence[ClaimRequest], turn: DispatchTurn, *, alone: bool = False
) -> int:
    room = pool.free_slots(alone=alone)
    if not room or not requests:
        return 0
    claimed = await cases.claim(session, requests, turn.claimant, room, turn.swept_at)
    left = [case.thread_id for case in claimed if not pool.submit(case.thread_id, case.workflow, alone=alone)]
    if left:
        await cases.release_claims(session, left, turn.claimant)
    return len(claimed) - len(left)
