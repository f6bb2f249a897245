"""What is logged and counted of worker processes; a part of `events`, which owns the words."""

from collections.abc import Collection, Mapping
from typing import Any

from resumed.observability import redaction
from resumed.observability.logs import write_event
from resumed.observability.metrics import Metrics
from resumed.observability.redaction import ErrorReport


class WorkerEvents:
    """The events of workers."""

    def __init__(self, *, log_errors: bool = True) -> None:
        """Start all counts at 0; without `log_errors` no error message is logged, only class and place."""
        self.metrics = Metrics()
        self._log_errors = log_errors

    def workers_counted(self, counts: Mapping[str, int]) -> None:
        """Set how many workers are `starting`, `ready`, `draining` and `isolation`."""
        self.metrics.workers_counted(counts)

    def capacity_counted(self, slots: int, ceiling: int) -> None:
        """Set how many attempts there may be at once by the settings, and how many now."""
        self.metrics.attempt_slots.set(slots)
        self.metrics.attempt_ceiling.set(ceiling)

    def worker_started(self, worker: str, pid: int) -> None:
        """Log a worker process that was spawned."""
        write_event("worker.started", worker=worker, pid=pid)

    def worker_registered(self, worker: str, workflows: Collection[str]) -> None:
        """Log a worker that has said what workflows it has."""
        write_event("worker.registered", worker=worker, workflows=sorted(workflows))

    def worker_killed(self, worker: str, reason: str) -> None:
        """Log a worker that we have killed."""
        write_event("worker.killed", "warning", worker=worker, reason=reason)

    def worker_died(self, worker: str, exit_code: int | None, inflight: int, reason: str | None = None) -> None:
        """Log a worker that ended without being asked to, with so many threads in hand; `reason` is its own."""
        extra = {"reason": reason} if reason is not None else {}
        write_event("worker.died", "error", worker=worker, exit_code=exit_code, inflight=inflight, **extra)

    def worker_failed(self, error: BaseException) -> None:
        """Log a worker that could not be started; it will be started again."""
        write_event("worker.failed", "error", error_type=type(error).__name__)

    def worker_errored(self, worker: str, report: ErrorReport) -> None:
        """Log an error in a worker that no attempt waited for."""
        write_event("worker.errored", "warning", worker=worker, **self._error_fields(report))

    def worker_restarted(self, worker: str) -> None:
        """Count a worker that takes a dead one's place."""
        self.metrics.worker_restarts.inc()
        write_event("worker.restarted", worker=worker)

    def worker_stopped(self, worker: str) -> None:
        """Log a worker that ended as asked."""
        write_event("worker.stopped", worker=worker)

    def _error_fields(self, report: ErrorReport | None) -> dict[str, Any]:
        """Return what is logged of an error."""
        if report is None:
            return dict.fromkeys(("error_type", "error_at", "error"))
        return {"error_type": report.error_type, "error_at": report.error_at, "error": self._message(report.error)}

    def _message(self, message: str | None) -> str | None:
        """Return an error's message as far as it may be logged."""
        return redaction.redact_message(message) if message is not None and self._log_errors else None
