"""Decides how fast old threads are adopted: no faster than their workflow's attempts end, and not while those fail."""

from dataclasses import dataclass
from enum import StrEnum

BATCH = 100


class Hindrance(StrEnum):
    """Why no more threads of a workflow are adopted now."""

    PAUSED = "paused"
    CIRCUIT_OPEN = "circuit_open"
    NO_REPLICA = "no_replica"


@dataclass(frozen=True, slots=True)
class WorkflowLoad:
    """What a workflow has to do: cases due now and attempts under way (`in_hand`), and whether attempts can be made."""

    in_hand: int
    paused: bool
    circuit_open: bool
    live: bool


def hindrance(load: WorkflowLoad) -> Hindrance | None:
    """Return why adopting has to stop; while no replica has the workflow, one batch may wait for the first."""
    if load.paused:
        return Hindrance.PAUSED
    if load.circuit_open:
        return Hindrance.CIRCUIT_OPEN
    return Hindrance.NO_REPLICA if not load.live and load.in_hand else None


def batch_room(load: WorkflowLoad) -> int:
    """Return how many threads may be adopted now; 0 while most of a batch is still to do."""
    return BATCH - load.in_hand if load.in_hand <= BATCH // 4 else 0
