"""Every private or undocumented name of LangGraph and LangChain that we rely on; the other modules use them from here.

`tests/unit/test_langgraph_internals.py` checks each name and signature, so that a new release says at once what moved.
The names of channels in rows are in `judge/verdict.py`, and checked there too. A running loop that cannot be seen is
never let further than one that can: what the saver returns is closed until a loop is known to have passed a breakpoint.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol

from langgraph._internal._config import DEFAULT_RECURSION_LIMIT, ensure_config
from langgraph._internal._constants import CONFIG_KEY_TASK_ID
from langgraph._internal._typing import MISSING
from langgraph.channels.base import BaseChannel
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_METHOD_SINGLE_ARG,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
)
from langgraph.pregel._loop import AsyncPregelLoop, PregelLoop, SyncPregelLoop
from langgraph.pregel._read import PregelNode
from langgraph.pregel._utils import is_xxh3_128_hexdigest
from langgraph.types import Command, interrupt
from psycopg import AsyncCursor, Cursor
from psycopg.rows import DictRow

from resumed.judge.pending_writes import RawWrite
from resumed.store.connection import Session

__all__ = [
    "PregelLoop",
    "PregelNode",
    "SerdeEvent",
    "is_xxh3_128_hexdigest",
    "register_serde_event_listener",
]

# Keys of a config's `configurable`.
CONFIG_CALL = "__pregel_call"
CONFIG_CHECKPOINT_MAP = "checkpoint_map"
CONFIG_CHECKPOINT_NS = "checkpoint_ns"
CONFIG_RESUMING = "__pregel_resuming"
CONFIG_TASK_ID = "__pregel_task_id"

# The task in whose name the input for a `DeltaChannel` is saved has an id made of the checkpoint's and this name.
INPUT_TASK_NAME = "__input__"
# Beside the fields of `CheckpointMetadata`, what LangGraph and its server write into a checkpoint's metadata.
METADATA_KEYS = frozenset(
    {"source", "step", "parents", "writes", "run_id", "thread_id", "created_by"}
    | {"counters_since_delta_snapshot", "delta_writes_versioned"}
)
METADATA_PREFIXES = ("checkpoint_", "langgraph_", "__")

# The msgpack extension codes under which values are stored with the module and the name of their class.
CLASS_CODES = frozenset(
    {
        EXT_CONSTRUCTOR_SINGLE_ARG,
        EXT_CONSTRUCTOR_POS_ARGS,
        EXT_CONSTRUCTOR_KW_ARGS,
        EXT_METHOD_SINGLE_ARG,
        EXT_PYDANTIC_V1,
        EXT_PYDANTIC_V2,
    }
)

MIDDLEWARE_MODULE = "langchain.agents.middleware.types"
RUNNABLE_MODULE = "langgraph._internal._runnable"
BINDING_MODULE = "langchain_core.runnables.base"
BINDING_CLASS = "RunnableBinding"
TOOL_MODULES = "langchain_core.tools"
# What may stand between the call of a node and what refuses it, and runs no user code before that.
NODE_CALLING_MODULES = (
    "langchain.agents.factory",
    MIDDLEWARE_MODULE,
    "langchain_core.language_models",
    "langchain_core.runnables.config",
    TOOL_MODULES,
    RUNNABLE_MODULE,
    "langgraph.prebuilt.tool_node",
    "langgraph.pregel",
)

Nodes = Literal["*"] | Sequence[str]

_LAST_SAVE = "_put_checkpoint_fut"
_STOPPED = ("interrupt_before", "interrupt_after")
_LOOP_ENTRIES = (SyncPregelLoop.__enter__.__code__, AsyncPregelLoop.__aenter__.__code__)
_ENTRY_DEPTH = 6
_LOOP_OF_THREAD: ContextVar[PregelLoop | None] = ContextVar("resumed_loop", default=None)


# The saver


class HookedPostgresSaver(AsyncPostgresSaver):
    """LangGraph's saver with its private steps under public names, for subclasses to override."""

    def __init__(
        self, session: Session, serde: SerializerProtocol | None = None, *, checkpoint_upsert: str | None = None
    ) -> None:
        """Save through `session`; `checkpoint_upsert` replaces the statement that inserts a checkpoint's row."""
        super().__init__(session, serde=serde)
        if checkpoint_upsert is not None:
            self.UPSERT_CHECKPOINTS_SQL = checkpoint_upsert

    def open_cursor(self, *, pipeline: bool = False) -> AbstractAsyncContextManager[AsyncCursor[DictRow]]:
        """Open the cursor, in the saver's turn, through which every statement of it goes."""
        return super()._cursor(pipeline=pipeline)

    async def load_checkpoint(self, row: DictRow) -> CheckpointTuple:
        """Load a checkpoint with its state and its pending writes from its row."""
        return await super()._load_checkpoint_tuple(row)

    def load_state(self, blobs: Any) -> dict[str, Any]:
        """Load the values of the channels."""
        return super()._load_blobs(blobs)

    def load_writes(self, writes: list[RawWrite] | None) -> list[tuple[str, str, Any]]:
        """Load pending writes as triples of task, channel and value."""
        return super()._load_writes(writes)

    def _cursor(  # type: ignore[override]  # any context manager will do
        self, *, pipeline: bool = False
    ) -> AbstractAsyncContextManager[AsyncCursor[DictRow]]:
        return self.open_cursor(pipeline=pipeline)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        return await self.load_checkpoint(value)

    def _load_blobs(self, blob_values: Any) -> dict[str, Any]:
        return self.load_state(blob_values)

    def _load_writes(self, writes: list[RawWrite] | None) -> list[tuple[str, str, Any]]:
        return self.load_writes(writes)


def async_cursor_of(saver: AsyncPostgresSaver) -> AbstractAsyncContextManager[AsyncCursor[DictRow]]:
    """Open a cursor of an application's saver, over a pool or a connection of its own."""
    return saver._cursor()  # noqa: SLF001 - the only way that pool and connection share


def cursor_of(saver: PostgresSaver) -> AbstractContextManager[Cursor[DictRow]]:
    """Open a cursor of an application's synchronous saver."""
    return saver._cursor()  # noqa: SLF001


def serde_allowlist_of(graph: object) -> set[tuple[str, ...]] | None:
    """Return the classes that the graph's state may hold; set in strict mode only, for whatever saver it is given."""
    return getattr(graph, "_serde_allowlist", None)


# Graphs and running loops


class GraphView(Protocol):
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
class LoopGraph:
    """The graph that a loop runs, with the breakpoints of this very call."""

    nodes: Mapping[str, PregelNode]
    channels: Mapping[str, Any]
    trigger_to_nodes: Mapping[str, Sequence[str]]
    interrupt_before_nodes: Nodes
    interrupt_after_nodes: Nodes


class _FinishedSave:
    """Stands for a save that has ended."""

    def __await__(self) -> Any:
        return iter(())

    def result(self) -> None:
        """Return at once."""


def let_unsaved_graphs_run() -> None:
    """Let a subgraph that saves nothing run inside one that waits for every save.

    With `durability="sync"` LangGraph waits after each superstep for the loop's last save, also in a loop without a
    checkpointer, which has none. Nothing shows beforehand whether a node calls such a graph.
    """
    for loop in (SyncPregelLoop, AsyncPregelLoop):
        if not hasattr(loop, _LAST_SAVE):
            setattr(loop, _LAST_SAVE, _FinishedSave())


def recursion_default(limit: int) -> int:
    """Return a recursion limit of the type of LangGraph's own default: a subgraph's own limit precedes it."""
    return type(DEFAULT_RECURSION_LIMIT)(limit)


@dataclass(frozen=True, slots=True)
class AddressedCall:
    """A call of a graph: whether it is part of the node that makes it, the thread that it names, and its config."""

    nested: bool
    thread: Any
    config: Any


def addressed_call(graph: Any, config: Any) -> AddressedCall:
    """Return what LangGraph makes of a call: it puts together what the graph, the call and the runnable around it say.

    A call that only inherits its thread inherits all else beside it, which naming the thread would drop.
    """
    whole = ensure_config(graph.config, config)
    found = whole.get("configurable") or {}
    nested, thread = CONFIG_KEY_TASK_ID in found, found.get("thread_id")
    named = [((part or {}).get("configurable") or {}).get("thread_id") for part in (graph.config, config)]
    if nested or thread is None or any(one is not None for one in named):
        return AddressedCall(nested, thread, config)
    given = dict(config or {})
    metadata = {name: value for name, value in whole["metadata"].items() if name not in found}
    inherited = {"configurable": found, "metadata": {**metadata, **(given.get("metadata") or {})}}
    return AddressedCall(
        nested=False, thread=thread, config={**given, **inherited, "recursion_limit": whole["recursion_limit"]}
    )


def calling_loop() -> PregelLoop | None:
    """Return the loop that is loading its checkpoint further up this call stack; None where none does."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - a saver is given a config, not its caller
    for _ in range(_ENTRY_DEPTH):
        if frame is None:
            break
        if frame.f_code in _LOOP_ENTRIES:
            found: PregelLoop = frame.f_locals["self"]
            return found
        frame = frame.f_back
    return _LOOP_OF_THREAD.get()


class loading_in_thread:  # noqa: N801 - used as a function
    """Remember the calling loop for the coroutine that a synchronous load hands over to the saver's event loop."""

    def __enter__(self) -> None:
        self._token = _LOOP_OF_THREAD.set(calling_loop())

    def __exit__(self, *_: object) -> None:
        _LOOP_OF_THREAD.reset(self._token)


def graph_of_loop(loop: PregelLoop) -> LoopGraph:
    """Return the graph that the loop runs."""
    return LoopGraph(loop.nodes, loop.specs, loop.trigger_to_nodes, loop.interrupt_before, loop.interrupt_after)


def namespace_of(loop: PregelLoop) -> str:
    """Return the namespace in which the loop saves; empty for the root."""
    return str(loop.config["configurable"].get(CONFIG_CHECKPOINT_NS) or "")


def task_of(loop: PregelLoop) -> str | None:
    """Return the id of the task that runs this loop; None for the root."""
    found = loop.config["configurable"].get(CONFIG_TASK_ID)
    return str(found) if found is not None else None


def parents_of(loop: PregelLoop) -> Mapping[str, str]:
    """Return the checkpoints at which the graphs above this one stand, by their namespaces."""
    found: Mapping[str, str] = loop.config["configurable"].get(CONFIG_CHECKPOINT_MAP) or {}
    return found


def resumes(loop: PregelLoop, loaded: CheckpointTuple) -> bool:
    """Return whether the loop resumes from this checkpoint, rather than beginning with an input."""
    asked = loop.config["configurable"].get(CONFIG_RESUMING, loop.input is None or isinstance(loop.input, Command))
    return bool(loaded.checkpoint["channel_versions"]) and bool(asked)


def on_loop_end(loop: PregelLoop, callback: Callable[[], None]) -> None:
    """Have `callback` called when the loop has ended, however it did."""
    loop.stack.callback(callback)  # type: ignore[attr-defined]  # each of the two loops has one of its own


def stopped_at(loop: PregelLoop) -> str | None:
    """Name the breakpoint at which the loop has stopped; None where it has not stopped at one."""
    if getattr(loop, "status", None) not in _STOPPED:
        return None
    if loop.status == _STOPPED[1]:
        return "after a node"
    nodes, tasks = loop.interrupt_before, [task.name for task in loop.tasks.values()]
    return f"before {', '.join(sorted(name for name in tasks if nodes == '*' or name in nodes))}"


def is_available(channel: object, values: Mapping[str, Any], name: str) -> bool:
    """Return whether a channel that was saved with these values can start a node."""
    if isinstance(channel, DeltaChannel):
        return True  # its value lies in the writes of earlier checkpoints
    return isinstance(channel, BaseChannel) and channel.from_checkpoint(values.get(name, MISSING)).is_available()


# Frames of the call stack


def running_loops(frames: Iterable[FrameType]) -> list[PregelLoop]:
    """Return the loops of the graphs that were running in these frames, the outer ones first."""
    return [loop for frame in frames if isinstance(loop := frame.f_locals.get("loop"), PregelLoop)]


def calls_several_tools(frame: FrameType) -> bool:
    """Return whether this is a tool node that has more than one tool to call."""
    calls = frame.f_locals.get("tool_calls")
    return isinstance(calls, list) and len(calls) > 1


def is_after_function(frame: FrameType) -> bool:
    """Return whether a node runs a writer or a router in this frame: its function has ended."""
    return frame.f_globals.get("__name__") == RUNNABLE_MODULE and frame.f_locals.get("i", 0) != 0


def lacks_function(frame: FrameType) -> bool:
    """Return whether LangGraph refuses here to call a node that has no synchronous function."""
    runnable = frame.f_locals.get("self")
    return frame.f_globals.get("__name__") == RUNNABLE_MODULE and getattr(runnable, "func", frame) is None


def is_interrupt_call(frame: FrameType) -> bool:
    """Return whether this frame is a call of LangGraph's `interrupt`."""
    return frame.f_code is interrupt.__code__


def config_of_interrupt(frame: FrameType) -> Mapping[str, Any]:
    """Return the `configurable` under which a call of `interrupt` asks."""
    found: Mapping[str, Any] = frame.f_locals["conf"]
    return found


def question_of_interrupt(frame: FrameType) -> Any:
    """Return what a call of `interrupt` asks."""
    return frame.f_locals["value"]


def node_of_task(configurable: Mapping[str, Any]) -> Any:
    """Return what LangGraph runs for the task of this config; None where a release no longer shows it."""
    arguments = getattr(configurable.get(CONFIG_CALL), "args", ())
    task = arguments[0]() if arguments and callable(arguments[0]) else None
    runnable = getattr(task, "proc", None)
    return next(iter(getattr(runnable, "steps", ())), runnable)


def is_call_of_node(frame: FrameType, node: Any) -> bool:
    """Return whether this frame calls the node: LangGraph's own, or that of the thread that runs its function."""
    name = frame.f_code.co_name
    if name in ("invoke", "ainvoke"):
        return frame.f_locals.get("self") is node
    return name == "wrapper" and getattr(node, "func", None) is not None and frame.f_locals.get("func") is node.func
