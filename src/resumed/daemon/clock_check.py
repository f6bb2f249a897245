"""Owns the comparison of clocks: checkpoint ids hold the time of the process that makes them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from resumed.daemon.readiness import Blocker, Readiness
from resumed.judge.checkpoint_id import CLOCK_LIMIT
from resumed.observability.events import Events


@dataclass(slots=True)
class ClockCheck:
    """Compares this host's clock, and the clocks of applications, with the database's."""

    readiness: Readiness
    events: Events
    _is_application_ahead: bool = False

    def compare_host(self, database_now: datetime) -> None:
        """Block readiness while this host's clock is too far off: ids that are made behind a head are never read."""
        ahead = datetime.now(UTC) - database_now
        self.events.clock_compared(ahead)
        if abs(ahead) <= CLOCK_LIMIT:
            self.readiness.unblock(Blocker.CLOCK)
            return
        if Blocker.CLOCK not in self.readiness.blockers:
            self.events.clock_skew_detected(ahead)
        reason = f"this host's clock differs from the database's by {ahead.total_seconds():.0f} s"
        self.readiness.block(Blocker.CLOCK, f"{reason}: synchronise them")

    def compare_applications(self, database_now: datetime, newest_checkpoint_at: datetime | None) -> None:
        """Report once when an application's clock is ahead: its threads wait until the time of their ids has come."""
        ahead = newest_checkpoint_at - database_now if newest_checkpoint_at is not None else timedelta(0)
        if ahead > CLOCK_LIMIT and not self._is_application_ahead:
            self.events.application_clock_doubted(ahead)
        self._is_application_ahead = ahead > CLOCK_LIMIT
