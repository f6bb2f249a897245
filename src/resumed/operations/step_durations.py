"""Measures how long steps of workflows take, from threads that have finished lately. It only reads."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from resumed.judge.step_durations import StepMark, longest_step, too_close
from resumed.model import Verdict
from resumed.operations.assess import SweepContext, assess
from resumed.store import statistics
from resumed.store.connection import Session

_CHECKPOINTS = 5000


@dataclass(frozen=True, slots=True)
class LongestStep:
    """The longest step seen of a workflow, and the silence after which a thread of it counts as dead."""

    workflow: str
    took: timedelta
    min_age: timedelta

    @property
    def too_close(self) -> bool:
        """Return whether a thread at work could look dead."""
        return too_close(self.took, self.min_age)


async def longest_steps(
    session: Session, sweep_context: SweepContext, newest: int = _CHECKPOINTS, rows: int | None = None
) -> list[LongestStep]:
    """Return the longest step of each workflow among the threads of the newest checkpoints; others are left out.

    At most `rows` checkpoints of those threads are read; None: all.
    """
    judged = (await assess(session, sweep_context, await statistics.recent_threads(session, newest), {})).judged
    finished = {
        thread: (circumstances.match.name or "", circumstances.ages.min_age)
        for thread, (found, circumstances) in judged.items()
        if found.judgement.verdict is Verdict.FINISHED
    }
    longest: dict[tuple[str, timedelta], timedelta] = {}
    for thread, steps in groupby(await statistics.steps(session, list(finished), rows), lambda step: step.thread_id):
        took = longest_step(
            [StepMark(step.checkpoint_id, step.source == "input", step.ours, step.stood) for step in steps]
        )
        if took is not None:
            longest[finished[thread]] = max(took, longest.get(finished[thread], took))
    return sorted(
        (LongestStep(name, took, age) for (name, age), took in longest.items()), key=lambda step: step.workflow
    )
