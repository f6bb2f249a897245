"""Says whether a thread stands at a breakpoint of its graph, of a subgraph or of its registration.

A breakpoint leaves no row: only the compiled graph knows it. What has rows of a task has passed it.
"""

from collections.abc import Iterable
from typing import Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from resumed.engine.places import Place, due
from resumed.workflows.loaded import Graph

Nodes = Literal["*"] | Iterable[str]

_SEEN = "__interrupt__"
_HIDDEN = "langsmith:hidden"


async def breakpoint_at(root: Graph, place: Place) -> str | None:
    """Name the breakpoint at which one graph of the thread stands; None where it stands at none."""
    if place.moved_on or not stops(place.graph) or not _updated(place.stands):
        return None
    before = await due(root, place.stands.config)
    if found := _matching(place.graph, place.graph.interrupt_before_nodes, before):
        return f"it stands at the breakpoint before {', '.join(found)}"
    parent: RunnableConfig | None = place.stands.parent_config
    if parent is None or not place.graph.interrupt_after_nodes:
        return None
    found = _matching(place.graph, place.graph.interrupt_after_nodes, await due(root, parent))
    return f"it stands at the breakpoint after {', '.join(found)}" if found else None


def stops(graph: Graph) -> bool:
    """Say whether the graph has a breakpoint at all."""
    return bool(graph.interrupt_before_nodes or graph.interrupt_after_nodes)


def _updated(stands: CheckpointTuple) -> bool:
    """LangGraph stops at a breakpoint only where a channel has changed since it last stopped."""
    versions = stands.checkpoint["channel_versions"]
    seen = stands.checkpoint["versions_seen"].get(_SEEN, {})
    return any(channel not in seen or version > seen[channel] for channel, version in versions.items())  # type: ignore[operator]


def _matching(graph: Graph, nodes: Nodes, due_nodes: Iterable[str]) -> list[str]:
    if nodes == "*":
        return sorted({name for name in due_nodes if _HIDDEN not in (graph.nodes[name].tags or ())})
    return sorted(set(due_nodes) & set(nodes))
