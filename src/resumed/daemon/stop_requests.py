"""Heeds what people asked for since the last round: which of our attempts have to stop, which workflows are paused.

Stopping is asking: the graph ends at its next superstep, uncharged. Only a cancelled thread is stopped in a node, and
only once the grace of a shutdown has passed.
"""

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta

from resumed.observability.events import Events
from resumed.store import case_commands, pauses
from resumed.store.connection import Session
from resumed.workers.pool import WorkerPool


@dataclass(slots=True)
class StopRequests:
    """Remembers what was asked to stop since when, and what was paused at the last round."""

    pool: WorkerPool
    events: Events
    grace: timedelta
    _asked: dict[str, float] = field(default_factory=dict)

    async def apply_stop_requests(self, session: Session, workflows: Iterable[str]) -> None:
        """Read what people want and have the workers obey; `workflows` are those that this replica has."""
        standing = await pauses.current_pauses(session)
        self.events.workflows_paused([one.workflow for one in standing], workflows)
        inflight = {thread: workflow for one in self.pool.handles for thread, workflow in one.inflight.items()}
        wanted = await case_commands.find_stops(session, list(inflight)) if inflight else {}
        paused = [thread for thread, workflow in inflight.items() if pauses.covering_pause(standing, workflow)]
        self._stop({**dict.fromkeys(paused, False), **wanted})

    def _stop(self, wanted: dict[str, bool]) -> None:
        """Ask for a drain, and at last for the end of what was cancelled and is in its node still."""
        now = asyncio.get_running_loop().time()
        self._asked = {thread: at for thread, at in self._asked.items() if thread in wanted}
        for thread in wanted.keys() - self._asked.keys():
            self._asked[thread] = now
            self.events.stop_requested(thread, cancelled=wanted[thread])
        patience = self.grace.total_seconds()
        late = {one for one, cancelled in wanted.items() if cancelled and now - self._asked[one] >= patience}
        self._tell("drain", wanted.keys() - late)
        self._tell("stop", late)

    def _tell(self, kind: str, threads: AbstractSet[str]) -> None:
        for handle in self.pool.handles:
            if meant := sorted(threads & handle.inflight.keys()):
                handle.send({"kind": kind, "threads": meant})
