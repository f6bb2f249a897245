"""Owns what keeps the daemon from being ready, each reason by its name."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Readiness:
    """Ready while no reason against it stands. `changed` is told of every change of the whole."""

    changed: Callable[[bool, str], None]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Say whether attempts can be made."""
        return not self.reasons

    def doubt(self, name: str, reason: str) -> None:
        """Let a reason stand against readiness, in the place of an older one of that name."""
        before = self.ready
        same = self.reasons.get(name) == reason
        self.reasons[name] = reason
        if before or not same:
            self.changed(False, reason)  # noqa: FBT003 - the one fact it tells

    def clear(self, name: str) -> None:
        """Take a reason back."""
        if self.reasons.pop(name, None) is not None and self.ready:
            self.changed(True, "")  # noqa: FBT003
