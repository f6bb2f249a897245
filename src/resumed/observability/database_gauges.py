"""Owns the gauges of the whole database, which are the same on every replica that can read it.

A count holds for a while. When that is over, or a count has failed, the gauges are gone until the next one: a replica
that lost the database must not repeat what it was. Time decides, not only errors: a database may hang without one.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from resumed.model import State, ThreadCount, Verdict
from resumed.observability.metric_descriptions import Description, Scope

UNCLAIMED = ""
HOLD = timedelta(seconds=15)
"""How long a count holds that was quickly made."""

_OPEN = tuple(state for state in State if state is not State.CLOSED)
_STATES = {
    Verdict.RUNNING: (State.RUNNING,),
    Verdict.CANCELLED: (State.HELD,),
    Verdict.WAITING: (State.HELD,),
    Verdict.BREAKPOINT: (State.HELD,),
    Verdict.FINISHED: (State.CLOSED,),
    Verdict.EDITED: (State.HELD,),
    Verdict.UNCLAIMED: (State.HELD,),
    Verdict.INCOMPATIBLE: (State.HELD, State.QUARANTINED),
    Verdict.EXPIRED: (State.HELD,),
    Verdict.FAILED: (State.DUE, State.RUNNING, State.BACKOFF, State.QUARANTINED),
    Verdict.STOPPED: (State.DUE, State.RUNNING, State.BACKOFF, State.QUARANTINED),
}


def _gauge(name: str, meaning: str, *labels: str) -> Description:
    return Description(f"resumed_{name}", "gauge", meaning, labels, Scope.DATABASE)


THREADS = _gauge("threads", "Open cases.", "workflow", "state", "verdict")
DUE = _gauge("due_threads", "Open cases that are due now.", "workflow")
OLDEST_UNFINISHED = _gauge(
    "oldest_unfinished_timestamp_seconds",
    "Last activity of the longest quiet unfinished thread, held ones included; 0 without one.",
    "workflow",
)
OLDEST = _gauge(
    "oldest_thread_timestamp_seconds",
    "Last activity of the longest quiet thread whose case is in this state; 0 without one.",
    "workflow",
    "state",
)
SUSPECTS = _gauge(
    "suspect_threads", "Open cases that are tried alone, because their last attempt ended with its worker."
)


@dataclass(slots=True, eq=False)
class DatabaseGauges(Collector):
    """Gives the last counts to Prometheus while they hold; what was there once and is gone falls to 0.

    To begin with they are 0, until there has been time for a first count.
    """

    _counts: list[ThreadCount] = field(default_factory=list)
    _hold_until: float = field(default_factory=lambda: time.monotonic() + HOLD.total_seconds())
    _known: set[tuple[str, str, str]] = field(default_factory=set)

    descriptions = (THREADS, DUE, OLDEST_UNFINISHED, OLDEST, SUSPECTS)

    def add_workflow(self, workflow: str) -> None:
        """Have every child of a workflow from now on."""
        self._known |= {(workflow, state, verdict) for verdict, states in _STATES.items() for state in states}

    def set(self, counts: Iterable[ThreadCount], hold: timedelta) -> None:
        """Replace the counts by newer ones, which hold for so long."""
        self._counts = list(counts)
        self._hold_until = time.monotonic() + hold.total_seconds()
        self._known |= {(one.workflow, one.state, one.verdict) for one in self._counts}

    def withdraw(self) -> None:
        """Give nothing until the next counts."""
        self._hold_until = 0.0

    def collect(self) -> Iterator[Metric]:
        """Return the gauges as they are now; each is there without a value when the counts no longer hold."""
        if time.monotonic() >= self._hold_until:
            yield from (_family(one, {}) for one in self.descriptions)
            return
        threads = {(one.workflow, one.state, one.verdict): one.threads for one in self._counts}
        yield _family(THREADS, {labels: threads.get(labels, 0) for labels in sorted(self._known)})
        workflows = sorted({workflow for workflow, _, _ in self._known})
        yield _family(DUE, {(name,): sum(one.due for one in self._of(name)) for name in workflows})
        yield _family(OLDEST_UNFINISHED, {(name,): self._oldest(name, *_OPEN) for name in workflows})
        yield _family(OLDEST, {(name, state): self._oldest(name, state) for name in workflows for state in _OPEN})
        yield _family(SUSPECTS, {(): sum(one.suspects for one in self._counts)})

    def _of(self, workflow: str) -> list[ThreadCount]:
        return [one for one in self._counts if one.workflow == workflow]

    def _oldest(self, workflow: str, *states: State) -> float:
        rows = [one for one in self._of(workflow) if one.state in states]
        return min((one.oldest_at.timestamp() for one in rows if one.oldest_at is not None), default=0)


def _family(description: Description, samples: dict[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(description.name, description.meaning, labels=description.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
