"""What is read and measured for the metrics and for nothing else. It blocks no readiness, and no sweep waits for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from resumed import timings
from resumed.daemon.control_session import ControlSession
from resumed.daemon.task_context import TaskContext
from resumed.errors import DatabaseError
from resumed.judge.audit_position import AuditPosition
from resumed.observability.events import Events
from resumed.operations.assess import build_sweep_context
from resumed.operations.step_durations import longest_steps
from resumed.store import audit, schema, statistics
from resumed.store.connection import PostgresError, Session, open_session

_TIME_LIMIT = timedelta(seconds=60)
_NEWEST = 2000
_STEPS = 100_000
_IDLE_SHARE = 9
_LONGEST_PAUSE = timedelta(minutes=1)
_MISSES = 3
_FIRST_IDS = 1000
_PAGE = 10_000


@dataclass(slots=True)
class LongestStepTask:
    """Measures the longest step of each workflow, on threads that have finished lately."""

    context: TaskContext

    async def run_once(self) -> None:
        """Measure once; without the index on checkpoint ids nothing is looked for."""
        async with _surviving(self.context.events), open_session(self.context.target, "resumed measurement") as session:
            if await schema.has_index(session):
                self.context.events.steps_measured(await self._longest_steps(session))

    async def _longest_steps(self, session: Session) -> dict[str, timedelta]:
        sweep_context = await build_sweep_context(session, self.context.rules)
        longest: dict[str, timedelta] = {}
        for step in await longest_steps(session, sweep_context, _NEWEST, _STEPS):
            longest[step.workflow] = max(step.took, longest.get(step.workflow, step.took))
        return longest


@dataclass(slots=True)
class DatabaseReadTask:
    """Reads what the metrics say about the whole database, on a session of its own, `every` so often.

    Counting takes a tenth of the time at most: a count of very many cases is made less often, and holds for longer.
    """

    session: ControlSession
    events: Events
    every: timedelta
    _position: AuditPosition | None = None
    _not_before: float = 0.0

    async def run_once(self) -> None:
        """Read once; where the cases cannot be counted, the gauges about them are withdrawn."""
        if asyncio.get_running_loop().time() >= self._not_before:
            counted = False
            async with _surviving(self.events), self.session.session() as session:
                await self._count(session)
                counted = True
            if not counted:
                self.events.threads_uncounted()
                return
        async with _surviving(self.events), self.session.session() as session:
            self.events.acts_counted(await self._new_acts(session))

    async def _count(self, session: Session) -> None:
        began = asyncio.get_running_loop().time()
        counts = await statistics.count_cases(session)
        ended = asyncio.get_running_loop().time()
        pause = min(timedelta(seconds=_IDLE_SHARE * (ended - began)), _LONGEST_PAUSE)
        self._not_before = ended + pause.total_seconds()
        self.events.threads_counted(counts, max(timings.current().counts_hold, _MISSES * max(pause, self.every)))

    async def _new_acts(self, session: Session) -> Counter[tuple[str, str | None]]:
        """Count the acts that have appeared since the last look, by action and way; at the first look none."""
        found: Counter[tuple[str, str | None]] = Counter()
        if self._position is None or await audit.newest_id(session) < self._position.settled:  # restored from a backup
            self._position = AuditPosition.behind(await audit.newest_ids(session, _FIRST_IDS), _FIRST_IDS)
            return found
        position = self._position
        if position.awaits_writers:
            position.see_writers(await audit.writers(session))
        read = {act.id: act for act in await _read_after(session, position.settled)}
        for one in position.take(read):
            found[read[one].action, read[one].via] += 1
        return found


async def _read_after(session: Session, after: int) -> list[audit.NumberedAct]:
    read: list[audit.NumberedAct] = []
    while page := await audit.after(session, after, _PAGE):
        read += page
        after = page[-1].id
        if len(page) < _PAGE:
            break
    return read


@asynccontextmanager
async def _surviving(events: Events) -> AsyncIterator[None]:
    """Report what fails in a block, and what takes longer than a minute, instead of raising it."""
    try:
        async with asyncio.timeout(_TIME_LIMIT.total_seconds()):
            yield
    except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
        events.database_failed("http", error)
    except Exception as error:  # noqa: BLE001 - an error of ours must not end the measuring, nor hide
        events.round_failed("measure", error)
