"""What is told of worker processes, in the log and in the metrics; a part of `events`, which owns the words."""

from collections.abc import Collection, Mapping
from typing import Any

from resumed.observability import redaction
from resumed.observability.logs import write_event
from resumed.observability.metrics import Metrics


class WorkerEvents:
    """The part of the events that speaks of workers."""

    def __init__(self, *, log_errors: bool = True) -> None:
        """Start all counts at 0; without `log_errors` no error message is logged, only class and place."""
        self.metrics = Metrics()
        self._log_errors = log_errors

    def workers_counted(self, counts: Mapping[str, int]) -> None:
        """Set how many workers are `starting`, `ready`, `draining` and `isolation`."""
        self.metrics.workers_counted(counts)

    def worker_started(self, worker: str, pid: int) -> None:
        """Tell of a worker process that was spawned."""
        write_event("worker.started", worker=worker, pid=pid)

    def worker_greeted(self, worker: str, workflows: Collection[str]) -> None:
        """Tell of a worker that said what it has."""
        write_event("worker.greeted", worker=worker, workflows=sorted(workflows))

    def worker_killed(self, worker: str, reason: str) -> None:
        """Tell of a worker that we are about to kill."""
        write_event("worker.killed", "warning", worker=worker, reason=reason)

    def worker_died(self, worker: str, exit_code: int | None, inflight: int, reason: str | None = None) -> None:
        """Tell of a worker that ended without being asked to, with so many attempts in flight; `reason` is its own."""
        said = {"reason": reason} if reason is not None else {}
        write_event("worker.died", "error", worker=worker, exit_code=exit_code, inflight=inflight, **said)

    def worker_failed(self, error: BaseException) -> None:
        """Tell of a worker that could not be started; it will be tried again."""
        write_event("worker.failed", "error", error_type=type(error).__name__)

    def worker_troubled(self, worker: str, report: Mapping[str, Any]) -> None:
        """Tell of an error in a worker that nobody waited for; `report` has an ErrorReport's fields."""
        seen = {"error_type": report.get("error_type"), "error_at": report.get("error_at")}
        write_event("worker.troubled", "warning", worker=worker, **seen, error=self._message(report.get("error")))

    def worker_restarted(self, worker: str) -> None:
        """Count a worker that takes a dead one's place."""
        self.metrics.worker_restarts.inc()
        write_event("worker.restarted", worker=worker)

    def worker_stopped(self, worker: str) -> None:
        """Tell of a worker that ended as asked."""
        write_event("worker.stopped", worker=worker)

    def _message(self, message: str | None) -> str | None:
        """Return an error's message as far as it may be logged."""
        return redaction.redact_message(message) if message is not None and self._log_errors else None
