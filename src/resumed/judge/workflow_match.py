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
    """What is known of a thread's workflow: its name, and the registrations of that name, newest sign of life first."""

    name: str | None
    registrations: tuple[Registration, ...]

    def taker(self, version: str | None) -> Registration | None:
        """Give the registration whose policy rules a thread of this version: the last seen that accepts it."""
        return next((one for one in self.registrations if accepts(one, version)), None)

    def live(self, now: datetime) -> tuple[Registration, ...]:
        """Keep the registrations seen in the last minute."""
        return tuple(one for one in self.registrations if now - one.seen_at < LIVE_FOR)


def workflow_name(head: Head, names: Iterable[str], default: str | None) -> str | None:
    """Name the thread's workflow in the contract's order; a name that the metadata gives need not be registered."""
    if head.metadata_workflow or head.metadata_graph:
        return head.metadata_workflow or head.metadata_graph
    fitting = [name for name in names if any(head.thread_id.startswith(name + mark) for mark in _SEPARATORS)]
    return max(fitting, key=len, default=None) or default


def accepts(registration: Registration, version: str | None) -> bool:
    """Return whether this code can resume a thread of `version`: an empty version is none."""
    if not version or not registration.version:
        return True
    return version == registration.version or version in registration.accepts


def match_workflow(head: Head, registrations: Sequence[Registration], default: str | None) -> WorkflowMatch:
    """Find the registrations that a thread belongs to, newest sign of life first."""
    name = workflow_name(head, {one.name for one in registrations}, default)
    own = [one for one in registrations if one.name == name]
    return WorkflowMatch(name, tuple(sorted(own, key=lambda one: one.seen_at, reverse=True)))
