"""Owns which workflow a thread belongs to and which version of it may have the thread. Reads no table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.model import Registration
from resumed.rows import Head

LIVE_FOR = timedelta(minutes=1)
_SEPARATORS = ("_", "-", ":")


@dataclass(frozen=True, slots=True)
class WorkflowMatch:
    """The name of a thread's workflow, and the registrations of that name, the last seen first."""

    name: str | None
    registrations: tuple[Registration, ...]

    def taker(self, version: str | None) -> Registration | None:
        """Return the registration whose policy applies to a thread of this version: the last seen that accepts it."""
        return next((registration for registration in self.registrations if accepts(registration, version)), None)

    def live(self, now: datetime) -> tuple[Registration, ...]:
        """Return the registrations seen in the last minute."""
        return tuple(registration for registration in self.registrations if now - registration.seen_at < LIVE_FOR)


def workflow_name(head: Head, names: Iterable[str], default: str | None) -> str | None:
    """Return the thread's workflow in the documented order; a name from the metadata need not be registered."""
    if head.metadata_workflow or head.metadata_graph:
        return head.metadata_workflow or head.metadata_graph
    fitting = [name for name in names if any(head.thread_id.startswith(name + separator) for separator in _SEPARATORS)]
    return max(fitting, key=len, default=None) or default


def accepts(registration: Registration, version: str | None) -> bool:
    """Return whether this code can resume a thread of `version`; an empty version makes no condition."""
    if not version or not registration.version:
        return True
    return version == registration.version or version in registration.accepts


def match_workflow(head: Head, registrations: Sequence[Registration], default: str | None) -> WorkflowMatch:
    """Find the thread's workflow and its registrations, the last seen first."""
    name = workflow_name(head, {registration.name for registration in registrations}, default)
    own = [registration for registration in registrations if registration.name == name]
    return WorkflowMatch(name, tuple(sorted(own, key=lambda registration: registration.seen_at, reverse=True)))
