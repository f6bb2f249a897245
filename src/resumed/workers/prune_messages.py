"""Owns what control process and worker say to each other about the pruning of one thread."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pydantic import TypeAdapter

from resumed.model import PruneStrategy, Refusal
from resumed.workers.protocol import Message

ORDER, RESULT = "prune", "pruned"


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
class PruneOrder:
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


@dataclass(frozen=True, slots=True)
class PruneResult:
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


_ORDER, _RESULT = TypeAdapter(PruneOrder), TypeAdapter(PruneResult)


def order_to_wire(order: PruneOrder) -> Message:
    """Write an order."""
    return {"kind": ORDER, **_ORDER.dump_python(order, mode="json")}


def order_from_wire(message: Message) -> PruneOrder:
    """Read an order."""
    return _ORDER.validate_python({name: value for name, value in message.items() if name != "kind"})


def result_to_wire(result: PruneResult) -> Message:
    """Write a result."""
    return {"kind": RESULT, **_RESULT.dump_python(result, mode="json")}


def result_from_wire(message: Message) -> PruneResult:
    """Read a result."""
    return _RESULT.validate_python({name: value for name, value in message.items() if name != "kind"})


def refused(thread_id: str, refusal: Refusal, error_type: str | None = None) -> PruneResult:
    """Build the result of a thread that was left as it is."""
    return PruneResult(thread_id, PruneOutcome.REFUSED, refusal, error_type=error_type)
