"""Finds where a thread stands: its root graph, and each subgraph that runs under its head.

It reads through the saver and knows the graphs; it judges nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel

from resumed.engine.saver import FencedSaver
from resumed.judge.verdict import NULL_TASK
from resumed.store import checkpoints

Graph = Pregel[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one graph of the thread stands: the root or a subgraph, its checkpoint, and whether it ran on since."""

    graph: Graph
    stands: CheckpointTuple
    moved_on: bool


def subgraphs(graph: Graph) -> Mapping[str, Graph]:
    """Give the subgraphs at any depth by their paths, as in `outer|inner`."""
    return {name: one for name, one in graph.get_subgraphs(recurse=True) if isinstance(one, Pregel)}


async def places(graph: Graph, saver: FencedSaver, loaded: CheckpointTuple) -> list[Place]:
    """Find where the root and each subgraph that runs under this head stand; one with a newer child has moved on."""
    thread_id = loaded.config["configurable"]["thread_id"]
    children = await checkpoints.children(saver.session, thread_id, loaded.checkpoint["id"])
    found = [Place(graph, loaded, _has_run(loaded) or bool(children))]
    known = subgraphs(graph)
    for namespace, checkpoint_id in children.items():
        path = "|".join(part.split(":")[0] for part in namespace.split("|"))
        stands = await saver.aget_tuple(_config(thread_id, namespace, checkpoint_id))
        if stands is None or path not in known:
            continue
        below = any(inner.startswith(f"{namespace}|") and made > checkpoint_id for inner, made in children.items())
        found.append(Place(known[path], stands, _has_run(stands) or below))
    return found


async def due(root: Graph, config: RunnableConfig) -> tuple[str, ...]:
    """Name the nodes that were due at a checkpoint, whether or not their writes have been saved since."""
    async for snapshot in root.aget_state_history(config, limit=1):
        return snapshot.next
    return ()


def _has_run(stands: CheckpointTuple) -> bool:
    """Rows of a task say that a breakpoint in front of it has been passed."""
    return any(task != NULL_TASK for task, _, _ in stands.pending_writes or ())


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
