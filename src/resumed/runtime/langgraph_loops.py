"""The one place that knows LangGraph's running loops, which are private: who loads a checkpoint, and what it would do.

`tests/unit/test_loops.py` proves every name that is relied on here. A loop that cannot be seen is never let further
than one that can: what the saver hands out is closed until a loop is known to have passed its breakpoint.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol

from langgraph._internal._typing import MISSING
from langgraph.channels.base import BaseChannel
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel._loop import AsyncPregelLoop, PregelLoop, SyncPregelLoop
from langgraph.pregel._read import PregelNode
from langgraph.types import Command

Nodes = Literal["*"] | Sequence[str]

_RESUMING = "__pregel_resuming"
_TASK = "__pregel_task_id"
_MAP = "checkpoint_map"
_NAMESPACE = "checkpoint_ns"
_SAVED = "_put_checkpoint_fut"
_STOPS = ("interrupt_before", "interrupt_after")
_ENTRIES = (SyncPregelLoop.__enter__.__code__, AsyncPregelLoop.__aenter__.__code__)
_FRAMES = 6
_OF_THIS_THREAD: ContextVar[PregelLoop | None] = ContextVar("resumed_loop", default=None)


class GraphSteps(Protocol):
    """What is asked of a graph about the work that waits: a compiled graph has all of it, and so has a loop."""

    @property
    def nodes(self) -> Mapping[str, PregelNode]:
        """The nodes by name."""

    @property
    def channels(self) -> Mapping[str, Any]:
        """The channels by name, and the managed values."""

    @property
    def trigger_to_nodes(self) -> Mapping[str, Sequence[str]]:
        """The nodes that each channel starts."""

    @property
    def interrupt_before_nodes(self) -> Nodes:
        """The nodes in front of which it stops."""

    @property
    def interrupt_after_nodes(self) -> Nodes:
        """The nodes behind which it stops."""


@dataclass(frozen=True, slots=True)
class LoopSteps:
    """The graph that a loop runs, with the breakpoints of this very call."""

    nodes: Mapping[str, PregelNode]
    channels: Mapping[str, Any]
    trigger_to_nodes: Mapping[str, Sequence[str]]
    interrupt_before_nodes: Nodes
    interrupt_after_nodes: Nodes


class _Saved:
    """Stands for a save of which there is nothing to wait for."""

    def __await__(self) -> Any:
        return iter(())

    def result(self) -> None:
        """Return at once, as a save that has ended."""


def let_unsaved_graphs_run() -> None:
    """Let a subgraph that saves nothing run inside one that waits for every save.

    With `durability="sync"` LangGraph waits after each superstep for the loop's last save, also in a loop without a
    checkpointer, which has none (facts section 4.14). Nobody can tell beforehand whether a node calls such a graph.
    """
    for loop in (SyncPregelLoop, AsyncPregelLoop):
        if not hasattr(loop, _SAVED):
            setattr(loop, _SAVED, _Saved())


def calling_loop() -> PregelLoop | None:
    """Return the loop that is loading its checkpoint further up this call stack; None where it is somebody else."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - a saver is told a config, not who asks
    for _ in range(_FRAMES):
        if frame is None:
            break
        if frame.f_code in _ENTRIES:
            found: PregelLoop = frame.f_locals["self"]
            return found
        frame = frame.f_back
    return _OF_THIS_THREAD.get()


class loading_in_thread:  # noqa: N801 - used as a function
    """Remember the calling loop for the coroutine that a synchronous load hands over to the saver's event loop."""

    def __enter__(self) -> None:
        self._token = _OF_THIS_THREAD.set(calling_loop())

    def __exit__(self, *_: object) -> None:
        _OF_THIS_THREAD.reset(self._token)


def steps_of(loop: PregelLoop) -> LoopSteps:
    """Return the graph that the loop runs."""
    return LoopSteps(loop.nodes, loop.specs, loop.trigger_to_nodes, loop.interrupt_before, loop.interrupt_after)


def namespace_of(loop: PregelLoop) -> str:
    """Return the namespace in which the loop saves; empty for the root."""
    return str(loop.config["configurable"].get(_NAMESPACE) or "")


def task_of(loop: PregelLoop) -> str | None:
    """Return the id of the task that runs this loop; None for the root."""
    found = loop.config["configurable"].get(_TASK)
    return str(found) if found is not None else None


def parents_of(loop: PregelLoop) -> Mapping[str, str]:
    """Return the checkpoints at which the graphs above this one stand, by their namespaces."""
    found: Mapping[str, str] = loop.config["configurable"].get(_MAP) or {}
    return found


def resumes(loop: PregelLoop, loaded: CheckpointTuple) -> bool:
    """Return whether the loop goes on from this checkpoint, rather than beginning anew with an input."""
    asked = loop.config["configurable"].get(_RESUMING, loop.input is None or isinstance(loop.input, Command))
    return bool(loaded.checkpoint["channel_versions"]) and bool(asked)


def when_over(loop: PregelLoop, then: Callable[[], None]) -> None:
    """Have this called when the loop has come to its end, however it did."""
    loop.stack.callback(then)  # type: ignore[attr-defined]  # each of the two loops has one of its own


def stopped_at(loop: PregelLoop) -> str | None:
    """Name the breakpoint at which the loop has stopped; None where it has not stopped at one."""
    if getattr(loop, "status", None) not in _STOPS:
        return None
    if loop.status == _STOPS[1]:
        return "after a node"
    nodes, tasks = loop.interrupt_before, [task.name for task in loop.tasks.values()]
    return f"before {', '.join(sorted(name for name in tasks if nodes == '*' or name in nodes))}"


def is_available(channel: object, values: Mapping[str, Any], name: str) -> bool:
    """Return whether a channel that was saved with these values can start a node."""
    if isinstance(channel, DeltaChannel):
        return True  # its value lies in the writes of earlier checkpoints
    return isinstance(channel, BaseChannel) and channel.from_checkpoint(values.get(name, MISSING)).is_available()
