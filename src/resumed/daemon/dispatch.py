"""Hands due cases to workers, and takes only what this replica has the code for. Tries nothing itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from resumed.engine.pool import Pool
from resumed.model import Registration
from resumed.store import cases
from resumed.store.connect import Session


@dataclass(frozen=True, slots=True)
class Turn:
    """Who claims, and until when a case must have been due: what fails after a sweep is tried at the next one."""

    claimant: str
    swept_at: datetime | None


async def dispatch(session: Session, pool: Pool, takers: Sequence[Registration], turn: Turn) -> int:
    """Claim as many due cases as there is room for and hand them out, oldest first; says how many were claimed."""
    room = pool.free()
    if not room or not takers:
        return 0
    claimed = await cases.claim(session, takers, turn.claimant, room, turn.swept_at)
    left = [one.thread_id for one in claimed if not pool.submit(one.thread_id, one.workflow)]
    if left:
        await cases.unclaim(session, left, turn.claimant)
    return len(claimed) - len(left)
