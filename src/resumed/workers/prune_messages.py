"""Owns what control process and worker say to each other about the pruning of one thread."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal

from resumed.model import PruneStrategy, Refusal


class PruneOutcome(StrEnum):
    """What became of one thread; `marked` threads are deleted later, `nothing` is what there was left to prune."""

    PRUNED = "pruned"
    MARKED = "marked"
    DELETED = "deleted"
    NOTHING = "nothing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class MarkedState:
    """How a thread stood when it was marked."""

    head: str
    newest_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PruneThread:
    """One thread to prune; `marked` for the second half of a deletion, `asked` where a person asks for it.

    A dry run does all of it and takes it back.
    """

    thread_id: str
    workflow: str
    strategy: PruneStrategy
    retain: timedelta
    asked: bool = False
    dry_run: bool = False
    marked: MarkedState | None = None
    kind: Literal["prune"] = "prune"


@dataclass(frozen=True, slots=True)
class ThreadPruned:
    """What became of it: how many rows went and the bytes of their values, or why it was refused.

    `raced` says that a run without the thread's lock has saved the thread again while it was deleted.
    """

    thread_id: str
    outcome: PruneOutcome
    refusal: Refusal | None = None
    rows: int = 0
    bytes: int = 0
    raced: bool = False
    error_type: str | None = None
    kind: Literal["pruned"] = "pruned"


def refused(thread_id: str, refusal: Refusal, error_type: str | None = None) -> ThreadPruned:
    """Build the result of a thread that was left as it is."""
    return ThreadPruned(thread_id, PruneOutcome.REFUSED, refusal, error_type=error_type)
