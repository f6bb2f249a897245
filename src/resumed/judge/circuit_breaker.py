"""Owns the circuit of a workflow: how many attempts on its threads may begin while most of them fail.

A pure function of the workflow's last attempts on all replicas, so that every replica decides the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.timings import Timings

WINDOW = 20
_MIN_THREADS = WINDOW // 2
_PROBE_INTERVAL = Timings().between_probes


@dataclass(frozen=True, slots=True)
class RecentAttempt:
    """An attempt that counts for its workflow's circuit: it was charged, finished or reached a person."""

    thread_id: str
    charged: bool
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class CircuitRecord:
    """The last attempts of a workflow on all replicas, newest first, and how many are open."""

    ended: tuple[RecentAttempt, ...] = ()
    open: int = 0


def is_open(ended: Sequence[RecentAttempt]) -> bool:
    """Return whether most of the last attempts failed, on so many threads that no single one can be to blame."""
    charged = [attempt.thread_id for attempt in ended[:WINDOW] if attempt.charged]
    return len(charged) > len(ended[:WINDOW]) / 2 and len(set(charged)) >= _MIN_THREADS


def allowance(record: CircuitRecord, now: datetime, probe_interval: timedelta = _PROBE_INTERVAL) -> int | None:
    """Return how many more attempts of the workflow may begin now; None: no limit.

    While the circuit is open that is one probe every `probe_interval`; each success in a row doubles it.
    """
    if not is_open(record.ended):
        return None
    successes = next(place for place, attempt in enumerate(record.ended) if attempt.charged)
    if not successes and now - record.ended[0].finished_at < probe_interval:
        return 0
    return max((1 << successes) - record.open, 0)
