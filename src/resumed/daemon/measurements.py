"""What is measured for the metrics and for nothing else. It blocks no readiness, and no sweep waits for it."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from resumed.daemon.task_context import TaskContext
from resumed.errors import DatabaseError
from resumed.operations.assess import build_sweep_context
from resumed.operations.step_durations import longest_steps
from resumed.store import schema
from resumed.store.connection import PostgresError, open_session

_TIME_LIMIT = timedelta(seconds=60)
_NEWEST = 2000
_STEPS = 100_000


@dataclass(slots=True)
class LongestStepTask:
    """Measures the longest step of each workflow, on threads that have finished lately."""

    context: TaskContext

    async def run_once(self) -> None:
        """Measure once; without the index on checkpoint ids nothing is looked for."""
        events = self.context.events
        try:
            async with asyncio.timeout(_TIME_LIMIT.total_seconds()):
                events.steps_measured(await self._longest_steps())
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            events.database_failed("http", error)
        except Exception as error:  # noqa: BLE001 - an error of ours must not end the measuring, nor hide
            events.round_failed("measure", error)

    async def _longest_steps(self) -> dict[str, timedelta]:
        longest: dict[str, timedelta] = {}
        async with open_session(self.context.target, "resumed measurement") as session:
            if not await schema.has_index(session):
                return longest
            found = await longest_steps(
                session, await build_sweep_context(session, self.context.rules), _NEWEST, _STEPS
            )
        for step in found:
            longest[step.workflow] = max(step.took, longest.get(step.workflow, step.took))
        return longest
