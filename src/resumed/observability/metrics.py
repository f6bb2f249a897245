"""Owns the metrics of the contract, in a registry of their own. No label holds a thread id; logs nothing."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from resumed.model import Outcome, PruneStrategy, Refusal, State, ThreadCount, Verdict

UNCLAIMED = ""
OPERATIONS = ("sweep", "dispatch", "attempt", "close", "self_test", "http")
WORKER_STATES = ("starting", "ready", "draining", "isolation")
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 43_200, 86_400)

_BUILD = {"version": "resumed", "langgraph": "langgraph", "checkpoint_postgres": "langgraph-checkpoint-postgres"}
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


class Metrics:
    """Every instrument of the contract; one set a control process."""

    def __init__(self) -> None:
        """Create the instruments, and the children that need no workflow, at 0."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client forgot to annotate it
        self.registry = CollectorRegistry()
        self._counted: set[tuple[str, str, str]] = set()
        self._create_counters()
        self._create_histograms()
        self._create_gauges()
        self._create_gauges_of_the_database()
        self._fill()

    def _create_counters(self) -> None:
        self.attempts = self._counter("attempts", "Attempts that ended, by outcome.", "workflow", "outcome")
        self.sweep_rows = self._counter("sweep_rows", "Heads that sweeps have read.")
        self.lock_contention = self._counter(
            "lock_contention", "Attempts not made because the thread's lock was held elsewhere.", "workflow"
        )
        self.locks_lost = self._counter("locks_lost", "Locks lost during an attempt because their session was lost.")
        self.worker_restarts = self._counter("worker_restarts", "Worker processes that replaced one that ended.")
        self.database_errors = self._counter("database_errors", "Database operations that failed.", "operation")
        self.pruned_threads = self._counter("pruned_threads", "Threads pruned.", "workflow", "strategy")
        self.prune_refused = self._counter("prune_refused", "Threads passed over by retention.", "reason")

    def _create_histograms(self) -> None:
        self.attempt_duration = self._histogram("attempt_duration", "Duration of attempts.", "workflow")
        self.recovery_duration = self._histogram(
            "recovery_duration", "Time from the last sign of life before the stop to finished.", "workflow"
        )
        self.sweep_duration = self._histogram("sweep_duration", "Duration of sweeps.")

    def _create_gauges(self) -> None:
        self.inflight_attempts = self._gauge("inflight_attempts", "Attempts running now.", "workflow")
        self.workers = self._gauge("workers", "Worker processes, by state.", "state")
        self.workflow_loaded = self._gauge("workflow_loaded", "1 if a worker has loaded the workflow.", "workflow")
        self.ready = self._gauge("ready", "1 while attempts can be made.")
        self.sweep_lag = self._gauge(
            "sweep_lag_seconds", "How far the newest checkpoint that sweeps have read lags behind what is quiet by now."
        )
        self.last_sweep = self._gauge("last_sweep_timestamp_seconds", "When the last sweep ended, in Unix time.")
        self.paused = self._gauge("paused", "1 while the workflow is paused.", "workflow")
        self.circuit_open = self._gauge(
            "circuit_open", "1 while only single probes of the workflow are attempted.", "workflow"
        )
        self.build_info = self._gauge("build_info", "Installed versions.", *_BUILD)

    def _create_gauges_of_the_database(self) -> None:
        self.threads = self._gauge(
            "threads", "Cases in the database (max by, never sum).", "workflow", "state", "verdict"
        )
        self.due_threads = self._gauge("due_threads", "Cases due now in the database (max by, never sum).", "workflow")
        self.oldest_unfinished = self._gauge(
            "oldest_unfinished_timestamp_seconds",
            "Last activity of the longest quiet unfinished thread in the database, 0 without one.",
            "workflow",
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"resumed_{name}_total", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"resumed_{name}_seconds", meaning, labels, registry=self.registry, buckets=BUCKETS)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"resumed_{name}", meaning, labels, registry=self.registry)

    def _fill(self) -> None:
        """Create the children whose labels are known from the start."""
        self.build_info.labels(*map(_installed, _BUILD.values())).set(1)
        for operation in OPERATIONS:
            self.database_errors.labels(operation)
        for state in WORKER_STATES:
            self.workers.labels(state)
        for reason in Refusal:
            self.prune_refused.labels(reason)
        self.paused.labels(UNCLAIMED)
        self._fill_gauges_of_the_database(UNCLAIMED)

    def workflow_known(self, workflow: str) -> None:
        """Create every child of a workflow, at 0."""
        for outcome in Outcome:
            self.attempts.labels(workflow, outcome)
        for strategy in PruneStrategy:
            self.pruned_threads.labels(workflow, strategy)
        for instrument in (self.lock_contention, self.attempt_duration, self.recovery_duration):
            instrument.labels(workflow)
        for gauge in (self.inflight_attempts, self.workflow_loaded, self.paused, self.circuit_open):
            gauge.labels(workflow)
        self._fill_gauges_of_the_database(workflow)

    def _fill_gauges_of_the_database(self, workflow: str) -> None:
        """Create the children that count a workflow's cases."""
        self.due_threads.labels(workflow)
        self.oldest_unfinished.labels(workflow)
        for verdict, states in _STATES.items():
            for state in states:
                self._counted.add((workflow, state, verdict))
                self.threads.labels(workflow, state, verdict)

    def threads_counted(self, counts: Iterable[ThreadCount]) -> None:
        """Set the gauges of the database to these counts; a combination that is gone falls to 0."""
        rows = list(counts)
        threads = {(row.workflow, row.state, row.verdict): row.threads for row in rows}
        self._counted |= threads.keys()
        for labels in self._counted:
            self.threads.labels(*labels).set(threads.get(labels, 0))
        for workflow in {workflow for workflow, _, _ in self._counted}:
            self._count_workflow(workflow, [row for row in rows if row.workflow == workflow])

    def _count_workflow(self, workflow: str, rows: list[ThreadCount]) -> None:
        """Set the gauges of a workflow as a whole."""
        oldest = [row.oldest_at.timestamp() for row in rows if row.oldest_at and row.state != State.CLOSED]
        self.due_threads.labels(workflow).set(sum(row.due for row in rows))
        self.oldest_unfinished.labels(workflow).set(min(oldest, default=0))

    def workers_counted(self, counts: Mapping[str, int]) -> None:
        """Set how many workers are in each state; a state that is not named has none."""
        for state in WORKER_STATES:
            self.workers.labels(state).set(counts.get(state, 0))

    def sweep_finished(self, rows: int, duration: timedelta, lag: timedelta) -> None:
        """Count a sweep that ended just now."""
        self.sweep_rows.inc(rows)
        self.sweep_duration.observe(duration.total_seconds())
        self.sweep_lag.set(max(lag.total_seconds(), 0))
        self.last_sweep.set_to_current_time()

    def render(self) -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4


def _installed(distribution: str) -> str:
    """Return the version of a distribution without importing it, empty where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
