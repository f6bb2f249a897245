"""The description of each metric: name, kind, labels, unit, meaning, and of what it is."""

from dataclasses import dataclass
from enum import StrEnum

_UNITS = (
    ("_timestamp_seconds", "Unix time in seconds"),
    ("_start_time_seconds", "Unix time in seconds"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
)


class Scope(StrEnum):
    """Of what a metric is: of this replica (`sum` over replicas), or of the whole database (`max by`, never `sum`)."""

    REPLICA = "replica"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Description:
    """One metric, as `docs/metrics.md` lists it."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    scope: Scope = Scope.REPLICA

    @property
    def unit(self) -> str:
        """The unit, which Prometheus's rules put at the end of the name; empty for plain numbers."""
        stem = self.name.removesuffix("_total")
        return next((unit for suffix, unit in _UNITS if stem.endswith(suffix)), "")
