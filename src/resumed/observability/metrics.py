"""Owns the documented metrics, in a registry of their own. No label holds a thread id; logs nothing."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from resumed.model import Act, Outcome, PruneStrategy, Refusal, Registration, ThreadCount, Via
from resumed.observability.database_gauges import HOLD, UNCLAIMED, DatabaseGauges
from resumed.observability.metric_descriptions import Description, Scope

OPERATIONS = ("sweep", "dispatch", "attempt", "close", "self_test", "http")
OTHER = "other"
WORKER_STATES = ("starting", "ready", "draining", "isolation")
CONSOLE_CODES = ("200", "202", "303", "304", "400", "401", "403", "404", "409", "429", "500", "503")
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 43_200, 86_400)

__all__ = ["BUCKETS", "HOLD", "UNCLAIMED", "Metrics"]

_BUILD = {"version": "resumed", "langgraph": "langgraph", "checkpoint_postgres": "langgraph-checkpoint-postgres"}


class Metrics:
    """Every documented instrument; one set a control process. `descriptions` are those of its own metrics."""

    def __init__(self) -> None:
        """Create the instruments, and the children that need no workflow, at 0."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client forgot to annotate it
        self.registry = CollectorRegistry()
        self.descriptions: list[Description] = []
        self._longest_steps: dict[str, timedelta] = {}
        self._create_counters()
        self._create_histograms()
        self._create_gauges()
        self._create_workflow_gauges()
        self.database = DatabaseGauges()
        self.registry.register(self.database)
        self.descriptions += self.database.descriptions
        ProcessCollector(registry=self.registry)
        self._fill()

    def _create_counters(self) -> None:
        self.attempts = self._counter(
            "attempts", "Attempts that this replica has closed, by outcome.", "workflow", "outcome"
        )
        self.quarantined = self._counter(
            "quarantined",
            "Cases that sweeps, attempts and recovery here have put into quarantine; a person's are acts.",
            "workflow",
        )
        self.acts = self._counter(
            "acts",
            "Entries that the audit has got since this replica's first look at it.",
            *("action", "via"),
            scope=Scope.DATABASE,
        )
        self.sweep_rows = self._counter("sweep_rows", "Rows of checkpoints that sweeps have read.")
        self.lock_contention = self._counter(
            "lock_contention", "Attempts not made because the thread's lock was held elsewhere.", "workflow"
        )
        self.locks_lost = self._counter("locks_lost", "Locks lost during an attempt because their session was lost.")
        self.worker_restarts = self._counter(
            "worker_restarts", "Worker processes that replaced one that ended, for whatever reason."
        )
        self.database_errors = self._counter(
            "database_errors", "Database operations that failed; `http` is reading for the metrics.", "operation"
        )
        self.pruned_threads = self._counter(
            "pruned_threads",
            "Threads of which retention has deleted rows, by what is left of them.",
            "workflow",
            "strategy",
        )
        self.prune_refused = self._counter("prune_refused", "Threads passed over by retention, by reason.", "reason")
        self.console_requests = self._counter(
            "console_requests", "Requests to the console, by status; 0 in a release without one.", "code"
        )
        self.webhook_failures = self._counter(
            "webhook_failures", "Requests to the webhook that failed; their notices are sent again."
        )

    def _create_histograms(self) -> None:
        self.attempt_duration = self._histogram("attempt_duration", "Duration of closed attempts.", "workflow")
        self.recovery_duration = self._histogram(
            "recovery_duration", "Time from the last sign of life before the stop to finished.", "workflow"
        )
        self.sweep_duration = self._histogram("sweep_duration", "Duration of this replica's sweeps.")

    def _create_gauges(self) -> None:
        self.workers = self._gauge("workers", "Worker processes, by state.", "state")
        self.attempt_slots = self._gauge(
            "attempt_slots", "Attempts that may run at once by the settings: RESUMED_PROCESSES x RESUMED_CONCURRENCY."
        )
        self.attempt_ceiling = self._gauge(
            "attempt_ceiling",
            "Attempts that may run at once now: fewer than slots while workers are missing or sessions are refused.",
        )
        self.ready = self._gauge("ready", "1 while /readyz says so: the database is usable and a worker is ready.")
        self.dry_run = self._gauge("dry_run", "1 where nothing is resumed by the settings.")
        self.sweep_lag = self._gauge(
            "sweep_lag_seconds",
            "At the end of this replica's last sweep: how far the watermark lagged behind what was quiet by then.",
        )
        self.last_sweep = self._gauge(
            "last_sweep_timestamp_seconds", "When this replica's last sweep ended; 0 before the first."
        )
        self.clock_skew = self._gauge(
            "clock_skew_seconds", "This host's clock minus the database's: negative where this host is behind."
        )
        self.index_present = self._gauge(
            "index_present", "1 while checkpoint ids have an index; 0 too before the first sweep."
        )
        self.build_info = self._gauge("build_info", "1, with the installed versions.", *_BUILD)

    def _create_workflow_gauges(self) -> None:
        self.inflight_attempts = self._gauge(
            "inflight_attempts", "Attempts running now, the one of the isolation worker included.", "workflow"
        )
        self.workflow_loaded = self._gauge(
            "workflow_loaded",
            "1 while a worker of this replica has the workflow, 0 where it could not be loaded.",
            "workflow",
        )
        self.workflow_info = self._gauge(
            "workflow_info", "1 for the version that this replica has loaded; no child for any other.",
            "workflow", "version",
        )  # fmt: skip
        self.min_age = self._gauge(
            "min_age_seconds", "Silence after which a thread may count as dead; no child while it has not loaded.",
            "workflow",
        )  # fmt: skip
        self.longest_step = self._gauge(
            "longest_step_seconds",
            "Longest step found in lately finished threads since this process began; 0 while none was found.",
            "workflow",
        )
        self.paused = self._gauge(
            "paused", "1 while the workflow, or everything, is paused; the empty name is everything.", "workflow"
        )
        self.circuit_open = self._gauge(
            "circuit_open", "1 while only single probes of the workflow are attempted; 0 in a dry run.", "workflow"
        )

    def _counter(self, name: str, meaning: str, *labels: str, scope: Scope = Scope.REPLICA) -> Counter:
        described = self._described(f"{name}_total", "counter", meaning, labels, scope)
        return Counter(described.name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        described = self._described(f"{name}_seconds", "histogram", meaning, labels)
        return Histogram(described.name, meaning, labels, registry=self.registry, buckets=BUCKETS)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(self._described(name, "gauge", meaning, labels).name, meaning, labels, registry=self.registry)

    def _described(
        self, name: str, kind: str, meaning: str, labels: tuple[str, ...], scope: Scope = Scope.REPLICA
    ) -> Description:
        """Note a metric for the table of all of them."""
        self.descriptions.append(Description(f"resumed_{name}", kind, meaning, labels, scope))
        return self.descriptions[-1]

    def _fill(self) -> None:
        """Create the children whose labels are known from the start."""
        self.build_info.labels(*map(_installed, _BUILD.values())).set(1)
        for operation in OPERATIONS:
            self.database_errors.labels(operation)
        for state in WORKER_STATES:
            self.workers.labels(state)
        for reason in Refusal:
            self.prune_refused.labels(reason)
        for code in CONSOLE_CODES:
            self.console_requests.labels(code)
        for action in (*Act, OTHER):
            for via in (*Via, OTHER):
                self.acts.labels(action, via)
        self.paused.labels(UNCLAIMED)
        self.database.add_workflow(UNCLAIMED)

    def workflow_known(self, workflow: str) -> None:
        """Create every child of a workflow, at 0."""
        for outcome in Outcome:
            self.attempts.labels(workflow, outcome)
        for strategy in PruneStrategy:
            self.pruned_threads.labels(workflow, strategy)
        for instrument in (self.quarantined, self.lock_contention, self.attempt_duration, self.recovery_duration):
            instrument.labels(workflow)
        for gauge in (self.inflight_attempts, self.workflow_loaded, self.longest_step, self.paused, self.circuit_open):
            gauge.labels(workflow)
        self.database.add_workflow(workflow)

    def workflows_registered(self, registrations: Iterable[Registration]) -> None:
        """Set the gauges of the versions that this replica has now; a `min_age` of 0 would be one that is set."""
        self.min_age.clear()
        self.workflow_info.clear()
        for one in registrations:
            self.min_age.labels(one.name).set(one.numbers.min_age.total_seconds())
            self.workflow_info.labels(one.name, one.version).set(1)

    def acts_counted(self, acts: Mapping[tuple[str, str | None], int]) -> None:
        """Count new entries of the audit by action and way; words that this release does not know are `other`."""
        for (action, via), count in acts.items():
            self.acts.labels(action if action in [*Act] else OTHER, via if via in [*Via] else OTHER).inc(count)

    def steps_measured(self, longest: Mapping[str, timedelta]) -> None:
        """Set the longest step of each workflow, where it is longer than the longest before."""
        for workflow, took in longest.items():
            known = self._longest_steps[workflow] = max(took, self._longest_steps.get(workflow, took))
            self.longest_step.labels(workflow).set(known.total_seconds())

    def threads_counted(self, counts: Iterable[ThreadCount], hold: timedelta) -> None:
        """Set the gauges of the database to these counts, which hold for so long."""
        self.database.set(counts, hold)

    def threads_uncounted(self) -> None:
        """Withdraw the gauges of the database until the next count."""
        self.database.withdraw()

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
