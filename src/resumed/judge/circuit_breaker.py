"""Owns when a workflow as a whole is broken: how many of its threads may be tried at once. Reads no clock, no table.

A pure function of the workflow's last attempts, so that all replicas come to the same without talking.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.timings import Timings

WINDOW = 20
_MANY = WINDOW // 2
_BETWEEN_PROBES = Timings().between_probes


@dataclass(frozen=True, slots=True)
class RecentAttempt:
    """An attempt that tells something of its workflow: charged to its thread, or come to an end."""

    thread_id: str
    charged: bool
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class CircuitRecord:
    """The last attempts of a workflow on all replicas, newest first, and how many are open."""

    ended: tuple[RecentAttempt, ...] = ()
    open: int = 0


def is_open(ended: Sequence[RecentAttempt]) -> bool:
    """Say whether most of the last attempts failed, on so many threads that no single one can be to blame."""
    charged = [one.thread_id for one in ended[:WINDOW] if one.charged]
    return len(charged) > len(ended[:WINDOW]) / 2 and len(set(charged)) >= _MANY


def allowance(record: CircuitRecord, now: datetime, between_probes: timedelta = _BETWEEN_PROBES) -> int | None:
    """How many more attempts of the workflow may begin now; None: as many as there is room for.

    While the circuit is open one probe at a time, so far apart; each success after that doubles what is allowed.
    """
    if not is_open(record.ended):
        return None
    successes = next(place for place, one in enumerate(record.ended) if one.charged)
    if not successes and now - record.ended[0].finished_at < between_probes:
        return 0
    return max((1 << successes) - record.open, 0)
