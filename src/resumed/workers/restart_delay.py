"""Owns how long a place stays empty after its worker ended: longer with every failure in a row."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

_BASE = timedelta(milliseconds=500)
_CAP = timedelta(seconds=30)


def restart_delay(failures: int) -> timedelta:
    """Return how long to wait before a worker is started again after so many failures in a row."""
    return min(_CAP, _BASE * (1 << min(failures, 8)))


@dataclass(slots=True)
class FailuresByWorkflow:
    """How often in a row the isolation worker of a workflow failed, and until when it is not started again."""

    _failures: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, workflow: str) -> None:
        """Count a failure."""
        failures = self._failures.get(workflow, (0, 0.0))[0] + 1
        self._failures[workflow] = failures, time.monotonic() + restart_delay(failures).total_seconds()

    def clear(self, workflow: str) -> None:
        """Forget the failures of a workflow whose worker has served."""
        self._failures.pop(workflow, None)

    def is_over(self, workflow: str) -> bool:
        """Return whether a worker may be started for the workflow again."""
        return time.monotonic() >= self._failures.get(workflow, (0, 0.0))[1]
