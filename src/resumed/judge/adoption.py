"""Decides how fast old threads are adopted: no faster than their workflow's attempts end, and not while those fail."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

BATCH = 100
IDLE_LIMIT = timedelta(minutes=1)
_NONE = timedelta(0)


class Hindrance(StrEnum):
    """Why no more threads of a workflow are adopted now."""

    PAUSED = "paused"
    CIRCUIT_OPEN = "circuit_open"
    NO_REPLICA = "no_replica"
    NOT_ATTEMPTED = "not_attempted"


@dataclass(frozen=True, slots=True)
class WorkflowLoad:
    """What a workflow has to do, cases due now and attempts under way, and whether attempts can be made."""

    due: int
    attempts: int
    paused: bool
    circuit_open: bool
    live: bool

    @property
    def in_hand(self) -> int:
        """How many have to end before all is done."""
        return self.due + self.attempts


def hindrance(load: WorkflowLoad, idle: timedelta = _NONE) -> Hindrance | None:
    """Return why adopting has to stop; while no replica has the workflow, one batch may wait for the first.

    `idle` is for how long cases have been due without an attempt on any, as beside replicas that make a dry run.
    """
    if load.paused:
        return Hindrance.PAUSED
    if load.circuit_open:
        return Hindrance.CIRCUIT_OPEN
    if not load.live and load.in_hand:
        return Hindrance.NO_REPLICA
    return Hindrance.NOT_ATTEMPTED if idle > IDLE_LIMIT else None


def batch_room(load: WorkflowLoad) -> int:
    """Return how many threads may be adopted now; 0 while most of a batch is still to do."""
    return BATCH - load.in_hand if load.in_hand <= BATCH // 4 else 0
