"""Applies what people asked for: which of our attempts have to stop, which workflows are paused.

A stop is asked for: the graph ends at its next superstep, uncharged. Only a cancelled thread is stopped inside a node,
and only after the grace of a shutdown.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from resumed.observability.events import Events
from resumed.store import case_commands, pauses
from resumed.store.connection import Session
from resumed.workers.pool import WorkerPool
from resumed.workers.protocol import DrainAttempts, StopAttempts


@dataclass(slots=True)
class StopRequests:
    """Remembers which threads were asked to stop, and since when (monotonic seconds)."""

    pool: WorkerPool
    events: Events
    grace: timedelta
    _asked_at: dict[str, float] = field(default_factory=dict)

    async def apply(self, session: Session, workflows: Iterable[str]) -> int:
        """Read what people want and have the workers obey; return how many threads have to stop.

        `workflows` are those that this replica has.
        """
        current = await pauses.current_pauses(session)
        self.events.workflows_paused([pause.workflow for pause in current], workflows)
        inflight = self.pool.inflight_threads()
        wanted = await case_commands.find_stops(session, list(inflight)) if inflight else {}
        paused = [thread for thread, workflow in inflight.items() if pauses.covering_pause(current, workflow)]
        self._stop({**dict.fromkeys(paused, False), **wanted})
        return len(self._asked_at)

    def _stop(self, wanted: dict[str, bool]) -> None:
        """Drain these threads, and stop those that were cancelled (True) and still run when the grace is over."""
        now = asyncio.get_running_loop().time()
        self._asked_at = {thread: at for thread, at in self._asked_at.items() if thread in wanted}
        for thread in wanted.keys() - self._asked_at.keys():
            self._asked_at[thread] = now
            self.events.stop_requested(thread, cancelled=wanted[thread])
        grace = self.grace.total_seconds()
        late = {thread for thread, cancelled in wanted.items() if cancelled and now - self._asked_at[thread] >= grace}
        self.pool.end_attempts(wanted.keys() - late, DrainAttempts)
        self.pool.end_attempts(late, StopAttempts)
