"""Owns every word that the daemon logs and every count that it keeps: one method for each thing that happens.

It decides nothing. It never logs state, answers or secrets; of an error it logs class, place and a masked line.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from resumed import durations
from resumed.errors import SettingsError
from resumed.model import Attempt, Outcome, Registration, ThreadCount
from resumed.observability import redaction
from resumed.observability.logs import configure, write_event
from resumed.observability.metrics import HOLD, UNCLAIMED
from resumed.observability.redaction import ErrorReport
from resumed.observability.retention_events import RetentionEvents
from resumed.observability.traces import Traces, span_ids
from resumed.outcomes import meaning_of

__all__ = ["Events", "configure"]


class Events(RetentionEvents):
    """Reports what happens, in the log and in the metrics; one per control process."""

    def __init__(self, *, log_errors: bool = True) -> None:
        """Start all counts at 0; without `log_errors` no error message is logged, only class and place."""
        super().__init__(log_errors=log_errors)
        self._inflight: set[tuple[str, int]] = set()
        self._paused: set[str] = set()
        self.traces: Traces | None = None

    def open_traces(self, instance: str) -> None:
        """Trace the attempts that are closed here from now on; `instance` names this process.

        Raises SettingsError where OpenTelemetry is not installed, or does not take its own settings.
        """
        try:
            from resumed.observability.otel import OtlpExport  # noqa: PLC0415 - imported only where traces are on
        except ImportError:
            message = "RESUMED_TRACES=true needs OpenTelemetry: install resumed[otel], or set RESUMED_TRACES=false"
            raise SettingsError(message) from None
        try:
            export = OtlpExport(instance, self.trace_export_failed, self.trace_export_recovered)
        except ValueError as error:
            reason = redaction.redact_message(str(error))
            raise SettingsError(f"OpenTelemetry cannot be set up, correct its OTEL_ variables: {reason}") from None
        self.traces = Traces(export, log_errors=self._log_errors)

    def render(self) -> tuple[bytes, str]:
        """Return the metrics as Prometheus reads them, and their content type."""
        return self.metrics.render()

    # Attempts

    def attempt_started(self, attempt: Attempt) -> None:
        """Log an attempt once its row is committed."""
        self._inflight.add((attempt.thread_id, attempt.attempt))
        self.metrics.inflight_attempts.labels(attempt.workflow).inc()
        write_event("attempt.started", **self._facts(attempt))

    def attempt_finished(self, attempt: Attempt, stopped_at: datetime | None = None) -> None:
        """Log and count a closed attempt; `stopped_at` is the thread's last sign of life before it stopped."""
        self.attempt_forgotten(attempt)
        self._count(attempt, stopped_at)
        is_warning = meaning_of(attempt.outcome).error or attempt.error_type is not None
        write_event("attempt.finished", "warning" if is_warning else "info", **self._facts(attempt))
        if self.traces is not None and attempt.outcome is not None:
            self.traces.add(attempt)

    def attempt_forgotten(self, attempt: Attempt) -> None:
        """Stop counting an attempt as in flight."""
        key = (attempt.thread_id, attempt.attempt)
        if key in self._inflight:
            self._inflight.remove(key)
            self.metrics.inflight_attempts.labels(attempt.workflow).dec()

    def _count(self, attempt: Attempt, stopped_at: datetime | None) -> None:
        """Count a closed attempt."""
        if attempt.outcome is None or attempt.finished_at is None:
            return
        self.metrics.attempts.labels(attempt.workflow, attempt.outcome).inc()
        self.metrics.attempt_duration.labels(attempt.workflow).observe(
            _seconds(attempt.started_at, attempt.finished_at)
        )
        if attempt.outcome is Outcome.LOCK_LOST and attempt.error_type is None:
            self.metrics.locks_lost.inc()
        elif attempt.outcome is Outcome.LOCK_LOST:  # the lock was held, the database failed
            self.metrics.database_errors.labels("attempt").inc()
        if attempt.outcome is Outcome.FINISHED and stopped_at:
            recovery = self.metrics.recovery_duration.labels(attempt.workflow)
            recovery.observe(_seconds(stopped_at, attempt.finished_at))

    def _facts(self, attempt: Attempt) -> dict[str, Any]:
        """Return the documented keys, the same on both lines; with traces on also the ids of the span."""
        ended = attempt.finished_at
        ids = span_ids(attempt.thread_id, attempt.attempt, attempt.started_at) if self.traces is not None else None
        return {
            "thread_id": attempt.thread_id,
            "workflow": attempt.workflow,
            "attempt": attempt.attempt,
            "worker": attempt.worker,
            "before": attempt.before,
            "after": attempt.after,
            "outcome": attempt.outcome,
            "duration_ms": round(_seconds(attempt.started_at, ended) * 1000) if ended else None,
            "error_type": attempt.error_type,
            "error_at": attempt.error_at,
            "error": self._message(attempt.error),
            **(ids.to_fields() if ids is not None else {}),
        }

    def lock_contended(self, thread_id: str, workflow: str) -> None:
        """Log a thread whose lock is held elsewhere."""
        self.metrics.lock_contention.labels(workflow).inc()
        write_event("lock.contended", "debug", thread_id=thread_id, workflow=workflow)

    def attempt_unreachable(self, thread_id: str) -> None:
        """Log a thread that is due later because the session for its attempt could not be opened, or was lost."""
        self.metrics.database_errors.labels("attempt").inc()
        write_event("attempt.postponed", "warning", thread_id=thread_id)

    # Cases

    def thread_failed(self, thread_id: str, report: ErrorReport | None) -> None:
        """Log an error around an attempt that is ours, or the database's; None where nothing is known of it."""
        write_event("thread.failed", "error", thread_id=thread_id, **self._error_fields(report))

    def case_refused(self, thread_id: str, workflow: str, verdict: str, reason: str) -> None:
        """Log a thread that preflight, under the lock, would not resume."""
        write_event("case.refused", thread_id=thread_id, workflow=workflow, verdict=verdict, reason=reason)

    def case_quarantined(self, thread_id: str, workflow: str, reason: str) -> None:
        """Log and count a thread that is not tried again until it is released."""
        self.metrics.quarantined.labels(workflow).inc()
        write_event(
            "case.quarantined", "error", thread_id=thread_id, workflow=workflow, reason=redaction.redact_message(reason)
        )

    def cases_quarantined(self, workflow: str, threads: int, first: str, reason: str) -> None:
        """Log and count threads of a workflow that a sweep has put into quarantine, the first with its reason."""
        self.metrics.quarantined.labels(workflow).inc(threads)
        facts: dict[str, object] = {"workflow": workflow, "threads": threads, "thread_id": first}
        write_event("cases.quarantined", "error", **facts, reason=redaction.redact_message(reason))

    def stop_requested(self, thread_id: str, *, cancelled: bool) -> None:
        """Log an attempt that a person ends: by a cancel, a quarantine or a pause of the workflow."""
        write_event("stop.requested", thread_id=thread_id, cancelled=cancelled)

    def threads_counted(self, counts: Iterable[ThreadCount], hold: timedelta = HOLD) -> None:
        """Set the gauges of the whole database, and withdraw them after `hold` unless the next count has come."""
        self.metrics.threads_counted(counts, hold)

    def threads_uncounted(self) -> None:
        """Withdraw the gauges of the whole database: it cannot be read."""
        self.metrics.threads_uncounted()

    def acts_counted(self, acts: Mapping[tuple[str, str | None], int]) -> None:
        """Count entries that are new in the audit, by action and by way; the audit itself tells more of them."""
        self.metrics.acts_counted(acts)

    # Sweeps

    def sweep_finished(self, rows: int, cases: int, duration: timedelta, lag: timedelta) -> None:
        """Log one sweep: heads read, cases written; at level debug where it wrote none."""
        self.metrics.sweep_finished(rows, duration, lag)
        took = round(duration / timedelta(milliseconds=1))
        write_event("sweep.finished", "info" if cases else "debug", rows=rows, cases=cases, duration_ms=took)

    def round_failed(self, operation: str, error: BaseException) -> None:
        """Log an error of ours in a periodic task; the task runs again at its next turn."""
        report = redaction.describe_error(error)
        write_event("round.failed", "error", operation=operation, **self._error_fields(report))

    def index_looked_for(self, *, present: bool) -> None:
        """Set whether the index on checkpoint ids is there."""
        self.metrics.index_present.set(present)

    def index_missing(self) -> None:
        """Log that every sweep scans the whole table, so that sweeps run 20 times less often."""
        reason = (
            "there is no index on checkpoints (checkpoint_id), so every sweep scans the table: run `resumed migrate`"
        )
        write_event("index.missing", "warning", reason=reason)

    # Workflows

    def workflow_known(self, workflow: str) -> None:
        """Create every metric of a workflow, at 0."""
        self.metrics.workflow_known(workflow)

    def workflows_registered(self, registrations: Iterable[Registration]) -> None:
        """Set the gauges of the versions of workflows that this replica has now, and of no others."""
        self.metrics.workflows_registered(registrations)

    def steps_measured(self, longest: Mapping[str, timedelta]) -> None:
        """Set the longest step that was found of each workflow, where it is longer than the one before."""
        self.metrics.steps_measured(longest)

    def workflow_loaded(self, workflow: str, version: str) -> None:
        """Log a workflow that the workers have."""
        self.metrics.workflow_known(workflow)
        self.metrics.workflow_loaded.labels(workflow).set(1)
        write_event("workflow.loaded", workflow=workflow, version=version)

    def workflow_failed(self, workflow: str, reason: str) -> None:
        """Log a registered workflow that cannot be used, and why."""
        self.metrics.workflow_known(workflow)
        self.metrics.workflow_loaded.labels(workflow).set(0)
        write_event("workflow.failed", "error", workflow=workflow, reason=self._message(reason))

    def workflow_unclosed(self, workflow: str) -> None:
        """Log a workflow whose context did not end when its worker was asked to; the process was ended anyway."""
        write_event(
            "workflow.unclosed", "warning", workflow=workflow, reason="its context did not close within a second"
        )

    def workflows_unregistered(self) -> None:
        """Log that the workers have no workflow at all."""
        reason = "no workflows are registered: declare them under the entry-point group resumed.workflows"
        write_event("workflows.unregistered", "warning", reason=reason)

    def workflows_paused(self, paused: Collection[str], known: Iterable[str]) -> None:
        """Set the gauge of each known workflow, 1 where it or everything is paused, and log what changed.

        The empty name stands for everything, as a label too.
        """
        for workflow in (UNCLAIMED, *known):
            self.metrics.paused.labels(workflow).set(UNCLAIMED in paused or workflow in paused)
        for workflow in sorted(self._paused ^ set(paused)):
            happened = "workflow.paused" if workflow in paused else "workflow.unpaused"
            write_event(happened, "warning" if workflow in paused else "info", workflow=workflow or None)
        self._paused = set(paused)

    def circuit_changed(self, workflow: str, *, opened: bool) -> None:
        """Log a workflow whose attempts mostly fail, or no longer do."""
        self.metrics.circuit_open.labels(workflow).set(opened)
        write_event(
            "circuit.opened" if opened else "circuit.closed", "warning" if opened else "info", workflow=workflow
        )

    # The process

    def database_failed(self, operation: str, error: BaseException) -> None:
        """Log a database operation that failed; it will be repeated."""
        self.metrics.database_errors.labels(operation).inc()
        seen = redaction.describe_error(error)
        message = self._message(seen.error)
        write_event("database.failed", "warning", operation=operation, error_type=seen.error_type, error=message)

    def readiness_changed(self, *, ready: bool, reason: str) -> None:
        """Log that attempts can be made again, or can no longer be made."""
        self.metrics.ready.set(ready)
        write_event(
            "readiness.changed", "info" if ready else "warning", ready=ready, reason=redaction.redact_message(reason)
        )

    def clock_compared(self, ahead: timedelta) -> None:
        """Set by how much this host's clock is ahead of the database's."""
        self.metrics.clock_skew.set(ahead.total_seconds())

    def clock_skew_detected(self, ahead: timedelta | None = None) -> None:
        """Log that a clock of ours differs from the database's, and by how much where that is known."""
        write_event("clock_skew.detected", "warning", ahead_ms=ahead and round(ahead / timedelta(milliseconds=1)))

    def application_clock_doubted(self, ahead: timedelta) -> None:
        """Log that an application makes checkpoints in the future: their threads wait until that time has come."""
        write_event("application_clock.doubted", "warning", ahead_ms=round(ahead / timedelta(milliseconds=1)))

    def trace_export_failed(self, reason: str | None) -> None:
        """Log that the collector takes no spans; attempts go on, and the next lines are of its return."""
        write_event("trace_export.failed", "warning", reason=self._message(reason))

    def trace_export_recovered(self, lost: int) -> None:
        """Log that the collector takes spans again, and how many it refused meanwhile."""
        write_event("trace_export.recovered", lost=lost)

    def webhook_failed(self, reason: str, *, counts: bool, first: bool) -> None:
        """Count a notice that was not delivered, unless no request was made; log the first of each kind in a row."""
        if counts:
            self.metrics.webhook_failures.inc()
        if first:
            write_event("webhook.failed", "warning", reason=reason)

    def webhook_recovered(self, failures: int) -> None:
        """Log that notices are delivered again, and how many requests had failed in a row."""
        write_event("webhook.recovered", failures=failures)

    def settings_ignored(self, reasons: Iterable[str]) -> None:
        """Log what was set without effect."""
        for reason in reasons:
            write_event("setting.ignored", "warning", reason=reason)

    def http_opened(self, host: str, port: int) -> None:
        """Log where metrics and health are served; port 0 leaves the port open until now."""
        write_event("http.opened", host=host, port=port)

    def service_started(self, version: str, *, dry_run: bool) -> None:
        """Log that the control process runs."""
        self.metrics.dry_run.set(dry_run)
        write_event("service.started", version=version, dry_run=dry_run)

    def shutdown_started(self, grace: timedelta) -> None:
        """Log that attempts are being drained."""
        write_event("shutdown.started", grace=durations.duration_text(grace))

    def shutdown_finished(self) -> None:
        """Log that everything has ended."""
        write_event("shutdown.finished")


def _seconds(start: datetime, end: datetime) -> float:
    """Return the seconds between two instants, at least 0 where clocks disagree."""
    return max((end - start).total_seconds(), 0.0)
