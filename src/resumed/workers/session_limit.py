"""Owns how many attempts a worker may have in hand while the database has no room for more sessions."""

from dataclasses import dataclass, field
from datetime import timedelta

_SAME_REFUSAL = timedelta(seconds=1)


@dataclass(slots=True)
class SessionLimit:
    """Halved when sessions are refused, raised by one for each that is opened, at most to `maximum`."""

    maximum: int
    current: int = field(init=False)
    _halved_at: float | None = None

    def __post_init__(self) -> None:
        """Start at the maximum."""
        self.current = self.maximum

    def lower(self, now: float) -> None:
        """Halve the limit, once for all refusals within a second; `now` is the monotonic time in seconds."""
        if self._halved_at is None or now - self._halved_at >= _SAME_REFUSAL.total_seconds():
            self.current, self._halved_at = max(self.current // 2, 1), now

    def increase(self) -> None:
        """Add one to the limit, up to the maximum."""
        self.current = min(self.current + 1, self.maximum)
