"""Owns how long a step of a workflow takes, measured on finished threads: the least that `min_age` has to exceed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from resumed.judge.checkpoint_id import made_at

_MARGIN = 2


@dataclass(frozen=True, slots=True)
class StepMark:
    """A root checkpoint of a finished thread.

    `begins`: an input was applied; `ours`: an attempt saved it; `stood`: a person or an error came before the next one.
    """

    checkpoint_id: str
    begins: bool = False
    ours: bool = False
    stood: bool = False


def longest_step(marks: Sequence[StepMark]) -> timedelta | None:
    """Return the longest time between two checkpoints during which the thread was running; None without any."""
    gaps = []
    for earlier, later in pairwise(marks):
        began, ended = made_at(earlier.checkpoint_id), made_at(later.checkpoint_id)
        was_running = not (earlier.stood or later.begins or later.ours)
        if was_running and began is not None and ended is not None:
            gaps.append(ended - began)
    return max(gaps, default=None)


def too_close(longest: timedelta, min_age: timedelta) -> bool:
    """Return whether a running thread could count as dead: `min_age` should be at least twice its longest step."""
    return min_age < longest * _MARGIN
