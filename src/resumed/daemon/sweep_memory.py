"""Remembers what earlier sweeps have judged, so that windows which overlap read ids again but judge nothing twice.

A transaction id below the horizon of a sweep had ended when that sweep began: it saw every row of it. The ids mean
something on one server only, so what is remembered holds for one session; after a restart, a failover or a restore
the next sweep judges its whole window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from resumed.model import Registration
from resumed.store.checkpoints import JudgedRange
from resumed.store.connection import Session

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class SweepMemory:
    """What one replica knows from its last sweeps.

    `answers_after` is where the search for answers to threads that wait for a person continues.
    """

    answers_after: str = ""
    _narrow: JudgedRange | None = None
    _wide: JudgedRange | None = None
    _session: Session | None = None
    _registrations: frozenset[Registration] = field(default_factory=frozenset)

    def judged(self, session: Session, registrations: Sequence[Registration]) -> tuple[JudgedRange, ...]:
        """Return what need not be judged again; nothing on another session, or since a registration has changed."""
        if session is not self._session or _undated(registrations) != self._registrations:
            return ()
        return tuple(one for one in (self._narrow, self._wide) if one is not None)

    def remember(
        self, session: Session, registrations: Sequence[Registration], found: JudgedRange, *, wide: bool
    ) -> None:
        """Remember that a sweep has judged this range to its end; a narrow one extends the last wide one."""
        before = self.judged(session, registrations)
        self._session, self._registrations = session, _undated(registrations)
        if wide:
            self._wide = found
        elif not before:
            self._wide = None
        elif self._wide is not None and self._wide.after <= found.after < self._wide.upper:
            self._wide = replace(self._wide, upper=max(self._wide.upper, found.upper))
        self._narrow = found


def _undated(registrations: Sequence[Registration]) -> frozenset[Registration]:
    """Return what a verdict depends on; which versions are live concerns open cases only."""
    return frozenset(replace(one, seen_at=_NEVER) for one in registrations)
