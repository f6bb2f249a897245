"""Owns what keeps the daemon from being ready: one reason for each operation that failed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Blocker(StrEnum):
    """What may stand against readiness; each operation has a key of its own."""

    DATABASE = "database"
    WORKERS = "workers"
    CLOCK = "clock"
    SELF_TEST = "self_test"
    SWEEP = "sweep"
    RECOVERY = "close"
    DISPATCH = "dispatch"
    STOP_REQUESTS = "stop_requests"
    ANNOUNCEMENT = "announce"


# A failure of these does not mean that attempts cannot be made.
_ATTEMPTS_GO_ON = frozenset({Blocker.DISPATCH, Blocker.STOP_REQUESTS, Blocker.ANNOUNCEMENT})
_NOT_OF_THE_DATABASE = frozenset({Blocker.WORKERS, Blocker.CLOCK})


@dataclass(slots=True)
class Readiness:
    """Ready while nothing blocks it; `blockers` maps what does to the reason.

    `on_change` is called with whether it is ready now, and with the newest reason if it is not.
    """

    on_change: Callable[[bool, str], None]
    blockers: dict[Blocker, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Return whether attempts can be made and every operation works."""
        return not self.blockers

    @property
    def allows_attempts(self) -> bool:
        """Return whether nothing stands against handing out threads."""
        return self.blockers.keys() <= _ATTEMPTS_GO_ON

    @property
    def is_database_to_blame(self) -> bool:
        """Return whether one of the blockers has to do with the database."""
        return not self.blockers.keys() <= _NOT_OF_THE_DATABASE

    def block(self, blocker: Blocker, reason: str) -> None:
        """Set the reason of a blocker, in place of its last one."""
        was_ready, before = self.is_ready, self.blockers.get(blocker)
        self.blockers[blocker] = reason
        if was_ready or before != reason:
            self.on_change(False, reason)  # noqa: FBT003

    def unblock(self, blocker: Blocker) -> None:
        """Remove a blocker."""
        if self.blockers.pop(blocker, None) is not None and self.is_ready:
            self.on_change(True, "")  # noqa: FBT003
