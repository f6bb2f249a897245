"""Finds where a thread stands: its root graph, each subgraph that runs under its head, each that keeps its own state.

It reads through savers that watch what values are loaded as, and knows the graphs; it judges nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel

from resumed.engine.classes import watched
from resumed.engine.saver import FencedSaver
from resumed.judge.verdict import NULL_TASK
from resumed.store import checkpoints
from resumed.workflows.loaded import Graph


@dataclass(frozen=True, slots=True)
class Reading:
    """One thread as preflight reads it: the graph bound to the saver; `lost` gathers the classes that are gone."""

    thread_id: str
    graph: Graph
    saver: FencedSaver
    lost: set[str] = field(default_factory=set)

    def reader(self, namespace: str = "") -> FencedSaver:
        """Give a saver that loads as the graph of this namespace would, and notes which classes are gone."""
        inner = subgraphs(self.graph).get(path_of(namespace))
        return watched(self.saver, (self.graph, inner) if inner is not None else (self.graph,), self.lost)

    async def load(self, namespace: str = "", checkpoint_id: str | None = None) -> CheckpointTuple | None:
        """Load a checkpoint, the newest where none is named, with all that its graph would load of it."""
        reader = self.reader(namespace)
        loaded = await reader.aget_tuple(_config(self.thread_id, namespace, checkpoint_id))
        graph = subgraphs(self.graph).get(path_of(namespace)) if namespace else self.graph
        deltas = [name for name, one in graph.channels.items() if isinstance(one, DeltaChannel)] if graph else []
        if loaded is not None and deltas:
            await reader.aget_delta_channel_history(config=loaded.config, channels=deltas)
        return loaded


@dataclass(frozen=True, slots=True)
class Place:
    """Where one graph of the thread stands: the root or a subgraph, its checkpoint, and whether it ran on since."""

    graph: Graph
    stands: CheckpointTuple
    moved_on: bool

    @property
    def path(self) -> str:
        """The names of the nodes that lead to this graph; empty for the root."""
        return path_of(self.stands.config["configurable"]["checkpoint_ns"])


def path_of(namespace: str) -> str:
    """Leave out of a namespace which task it was, and how often it called the same subgraph before."""
    return "|".join(part.split(":")[0] for part in namespace.split("|") if not part.isdigit())


def subgraphs(graph: Graph) -> Mapping[str, Graph]:
    """Give the subgraphs at any depth by their paths, as in `outer|inner`."""
    return {name: one for name, one in graph.get_subgraphs(recurse=True) if isinstance(one, Pregel)}


async def places(reading: Reading, loaded: CheckpointTuple) -> list[Place]:
    """Find where the root and each subgraph that runs under this head stand; one with a newer child has moved on.

    A child whose own root checkpoint was lost proves that, and stands nowhere itself.
    """
    children = await checkpoints.children(reading.saver.session, reading.thread_id, loaded.checkpoint["id"])
    found = [Place(reading.graph, loaded, _has_run(loaded) or bool(children))]
    known = subgraphs(reading.graph)
    for namespace, checkpoint_id in children.items():
        stands = await reading.load(namespace, checkpoint_id)
        if stands is None or path_of(namespace) not in known or _astray(stands, loaded.checkpoint["id"]):
            continue
        below = any(inner.startswith(f"{namespace}|") and made > checkpoint_id for inner, made in children.items())
        found.append(Place(known[path_of(namespace)], stands, _has_run(stands) or below))
    return found


async def due(root: Graph, config: RunnableConfig) -> tuple[str, ...]:
    """Name the nodes that were due at a checkpoint, whether or not their writes have been saved since.

    The state's own `next` would apply pending writes and so call crashed threads finished.
    """
    async for snapshot in root.aget_state_history(config, limit=1):
        return snapshot.next
    return ()


def _astray(stands: CheckpointTuple, head: str) -> bool:
    """What ran below a root checkpoint that was lost since will not be found by a resume: its tasks are others."""
    return (stands.metadata.get("parents") or {}).get("", head) != head


def _has_run(stands: CheckpointTuple) -> bool:
    """Rows of a task say that a breakpoint in front of it has been passed."""
    return any(task != NULL_TASK for task, _, _ in stands.pending_writes or ())


def _config(thread_id: str, namespace: str, checkpoint_id: str | None) -> RunnableConfig:
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id is not None else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, **named}}
