"""Remembers what earlier sweeps have judged, so that windows which overlap read ids again but judge little twice.

A transaction id below the horizon of a sweep had ended when that sweep began: it saw every row of it. The ids mean
something on one server only, so what is remembered holds for one session; after a restart, a failover or a restore
the next sweep judges its whole window. So does every wide sweep after half the tolerance: whatever leaves no new row,
as a deleted one, is found before its thread has left the window.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from resumed.judge.workflow_match import LIVE_FOR
from resumed.model import Registration
from resumed.operations.assess import SweepContext
from resumed.store.checkpoints import JudgedRange
from resumed.store.connection import Session

_NEVER = datetime.min.replace(tzinfo=UTC)
_LONGEST_GAP = LIVE_FOR / 2


@dataclass(frozen=True, slots=True)
class _Basis:
    """What verdicts depend on beside rows and age: on which server, by which registrations, which of them live."""

    session: Session
    registrations: frozenset[tuple[Registration, bool]]


@dataclass(slots=True)
class SweepMemory:
    """What one replica knows from its last sweeps.

    `answers_after` is where the search for answers to threads that wait for a person continues.
    """

    answers_after: str = ""
    _narrow: JudgedRange | None = None
    _wide: JudgedRange | None = None
    _basis: _Basis | None = None
    _whole_at: datetime = _NEVER
    _used_at: datetime = _NEVER

    def judged(self, session: Session, context: SweepContext, *, wide: bool) -> tuple[JudgedRange, ...]:
        """Return what this sweep need not judge again.

        Everything is forgotten where verdicts depend on something else now, or may have done so since the last sweep:
        a replica that was suspended does not see that its own version counted as dead meanwhile.
        """
        was_away = abs(context.now - self._used_at) >= _LONGEST_GAP
        self._used_at = context.now
        if was_away or self._basis != _basis_of(session, context):
            self._narrow = self._wide = self._basis = None
            return ()
        if wide and abs(context.now - self._whole_at) >= context.rules.clock_tolerance / 2:
            return ()
        return tuple(one for one in (self._narrow, self._wide) if one is not None)

    def remember(self, session: Session, context: SweepContext, found: JudgedRange, *, wide: bool, whole: bool) -> None:
        """Remember a range that a sweep has judged to its end, the `whole` of it or what was new there.

        A narrow one extends the last wide one.
        """
        if wide:
            self._wide, self._whole_at = found, context.now if whole else self._whole_at
        elif self._wide is not None and self._wide.after <= found.after < self._wide.upper:
            self._wide = replace(self._wide, upper=max(self._wide.upper, found.upper))
        self._narrow, self._basis = found, _basis_of(session, context)


def _basis_of(session: Session, context: SweepContext) -> _Basis:
    return _Basis(
        session,
        frozenset(
            (replace(one, seen_at=_NEVER), context.now - one.seen_at < LIVE_FOR) for one in context.registrations
        ),
    )
