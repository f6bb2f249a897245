"""Whether each subgraph that keeps its own state stands where its parent expects it."""

from collections.abc import Container, Mapping, Sequence

from langgraph.graph import START
from langgraph.pregel import Pregel

from resumed.runtime.graph_positions import GraphPosition, is_counted, path_of
from resumed.runtime.langgraph_internals import PregelNode


def lagging_subgraph(
    position: GraphPosition, due: set[str], stateful: Mapping[str, str], known: Container[str]
) -> str | None:
    """Name the namespace of a due subgraph that keeps its own state, where that is older than what made it due.

    LangGraph would take it for the state of this very call, run nothing and merge the old output once more. One that
    has never run has no namespace yet; one below a subgraph that has yet to begin is started as it should be.
    `stateful` maps namespaces to their newest checkpoint, `known` are the paths of the graph's subgraphs.
    """
    paths = {f"{position.path}|{node}" if position.path else node for node in due}
    # A task of the functional API is no node: its namespace lies below that of the node that calls it.
    fresh = {
        f"{position.path}|{node}" if position.path else node
        for node in due
        if _starts_fresh(position.graph.nodes.get(node))
    }
    above = tuple(f"{path}|" for path in paths - fresh if path not in known)
    stands_at = position.loaded.checkpoint["id"]
    for namespace, newest in stateful.items():
        path = path_of(namespace, known)
        if newest < stands_at and not is_counted(namespace, known) and (path in paths or path.startswith(above)):
            return namespace
    return None


def _starts_fresh(node: PregelNode | None) -> bool:
    """Return whether a node is a graph that saves nothing: it begins from the start, and so does what it calls."""
    graph = node.bound if node is not None else None
    return isinstance(graph, Pregel) and graph.checkpointer is False and START in graph.nodes


def leading_subgraph(
    found: Sequence[tuple[GraphPosition, set[str]]], stateful: Mapping[str, str], known: Container[str]
) -> str | None:
    """Name the namespace of a subgraph that keeps its own state and has saved since the head, though it is not due.

    The checkpoint of its parent was lost on the way, as `durability="async"` allows; LangGraph would run it again on
    top of what it has saved. `found` are the positions, the root first, each with the nodes that are due there.
    """
    head = found[0][0].loaded.checkpoint["id"]
    for namespace, newest in stateful.items():
        path = path_of(namespace, known)
        above, _, node = path.rpartition("|")
        parents = [(position, due) for position, due in found if position.path == above]
        called = any(node in due or newest < position.loaded.checkpoint["id"] for position, due in parents)
        counted = is_counted(namespace, known)
        if newest > head and path in known and not counted and (not above or above in known) and not called:
            return namespace
    return None
