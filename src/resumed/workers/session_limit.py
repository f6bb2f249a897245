"""Owns how many attempts a worker may have in hand while the database has no room for more sessions."""

from dataclasses import dataclass, field
from datetime import timedelta

_SETTLES = timedelta(seconds=1)


@dataclass(slots=True)
class SessionLimit:
    """Halved when sessions are refused, raised by one for each that is not; `top` is where it starts and ends."""

    top: int
    now: int = field(init=False)
    _halved_at: float | None = None

    def __post_init__(self) -> None:
        """Start at the top."""
        self.now = self.top

    def refused(self, at: float) -> None:
        """Halve it, once for all that were refused within a second; `at` is the monotonic time in seconds."""
        if self._halved_at is None or at - self._halved_at >= _SETTLES.total_seconds():
            self.now, self._halved_at = max(self.now // 2, 1), at

    def served(self) -> None:
        """Raise it by one, up to the top."""
        self.now = min(self.now + 1, self.top)
