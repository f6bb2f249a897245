"""Learns how long steps of workflows take from threads that have finished lately. Reads only."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from resumed.daemon.sweep import Scene, look_at
from resumed.judge.gaps import Mark, longest_gap, too_close
from resumed.model import Verdict
from resumed.store import vitals
from resumed.store.connect import Session

_LEARN_FROM = 5000


@dataclass(frozen=True, slots=True)
class LongestStep:
    """The longest step seen of a workflow, and the silence after which a thread of it is taken for dead."""

    workflow: str
    took: timedelta
    min_age: timedelta

    @property
    def too_close(self) -> bool:
        """Say whether a thread at work could look dead."""
        return too_close(self.took, self.min_age)


async def longest_steps(session: Session, scene: Scene) -> list[LongestStep]:
    """Look through the newest checkpoints; workflows of which none tells are left out."""
    looks = (await look_at(session, scene, await vitals.recent_threads(session, _LEARN_FROM), {})).judged
    finished = {
        thread: (around.claim.name or "", around.ages.min_age)
        for thread, (found, around) in looks.items()
        if found.judgement.verdict is Verdict.FINISHED
    }
    longest: dict[tuple[str, timedelta], timedelta] = {}
    for thread, steps in groupby(await vitals.steps(session, list(finished)), lambda step: step.thread_id):
        took = longest_gap([Mark(one.checkpoint_id, one.source == "input", one.ours, one.stood) for one in steps])
        if took is not None:
            longest[finished[thread]] = max(took, longest.get(finished[thread], took))
    return sorted((LongestStep(name, took, age) for (name, age), took in longest.items()), key=lambda one: one.workflow)
