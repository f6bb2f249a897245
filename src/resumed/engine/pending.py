"""Says of the work that waits at a place whether this code can do it: each node, each join, each stateful subgraph.

What LangGraph cannot do it drops in silence, and calls the rest success (facts sections 4.4 and 4.13).
"""

from collections.abc import Container, Mapping, Sequence

from langgraph.channels.named_barrier_value import NamedBarrierValue
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Send

from resumed.engine.places import Place, path_of
from resumed.judge.verdict import NULL_TASK
from resumed.workflows.loaded import Graph

_BRANCH = "branch:to:"
_JOIN = "join:"
_SENDS = "__pregel_tasks"


def unknown_names(graph: Graph, stands: CheckpointTuple) -> set[str]:
    """Name every node and join that pending work asks for and the graph lacks."""
    joins = {channel for channel, _ in _pending(stands) if channel.startswith(_JOIN)}
    named = {name for channel, value in _pending(stands) for name in _nodes(channel, value)}
    return {name for name in named if name not in graph.nodes} | {one for one in joins if not _kept(graph, one, stands)}


def recounted(graph: Graph, stands: CheckpointTuple) -> dict[str, set[str] | None]:
    """Map every join that is full, and yet triggered nothing, to the nodes it counts rightly; None where none is wrong.

    Under `durability="async"` LangGraph goes on counting in the very set that it is about to save, so a checkpoint may
    count tasks that ran after it. Resumed as it is such a task would be counted once more, nothing would change, and
    what waits for the join would never run.
    """
    updated, values = stands.checkpoint.get("updated_channels"), stands.checkpoint["channel_values"]
    joins = {name: one.names for name, one in graph.channels.items() if isinstance(one, NamedBarrierValue)}
    untriggered = set(joins) - set(updated) if updated is not None else set()
    full = {name: joins[name] for name in untriggered if values.get(name) == joins[name]}
    return {name: _counted(graph, stands, name, members) for name, members in full.items()}


def _counted(graph: Graph, stands: CheckpointTuple, join: str, members: set[str]) -> set[str] | None:
    """Give the members that had run by this checkpoint since the join was last full.

    What a node has seen of a channel is copied into a checkpoint as it is then. One that was asked for before the join
    was full had also run by then; one that a `Send` asked for has seen no channel, so only its first run is known.
    """
    seen = stands.checkpoint["versions_seen"]
    last = max((str(seen.get(node, {}).get(join, "")) for node in graph.trigger_to_nodes.get(join, ())), default="")
    if last and any(name in seen and not seen[name] for name in members):
        return None
    late = {
        name
        for name in members
        if name not in seen or max((str(version) for version in seen[name].values()), default="") < last
    }
    return members - late if late else None


def _kept(graph: Graph, join: str, stands: CheckpointTuple) -> bool:
    """A join that a deploy has deferred, or no longer defers, finds nothing in what one of the other kind has saved."""
    value = stands.checkpoint["channel_values"].get(join)
    plain = isinstance(graph.channels.get(join), NamedBarrierValue)
    return join in graph.channels and (value is None or isinstance(value, set) is plain)


def commanded(stands: CheckpointTuple) -> set[str]:
    """Name the nodes that a `Command` given as input sends to; what tasks ask for is due only a superstep later."""
    written = [(channel, value) for task, channel, value in stands.pending_writes or () if task == NULL_TASK]
    return {name for channel, value in written for name in _nodes(channel, value)}


def behind(place: Place, due: set[str], stateful: Mapping[str, str], known: Container[str]) -> str | None:
    """Name the namespace of a due subgraph that keeps its own state, where that is older than what made it due.

    LangGraph would take it for the state of this very call, run nothing and merge the old output once more. One that
    has never run has no namespace yet; one below a subgraph that has yet to begin is started as it should be.
    `stateful` maps namespaces to their newest checkpoint, `known` are the paths of the graph's subgraphs.
    """
    paths = {f"{place.path}|{node}" if place.path else node for node in due}
    # A task of the functional API is no node: its namespace lies below that of the node that calls it.
    above = tuple(f"{one}|" for one in paths if one not in known)
    stands_at = place.stands.checkpoint["id"]
    for namespace, newest in stateful.items():
        path = path_of(namespace)
        if newest < stands_at and (path in paths or path.startswith(above)):
            return namespace
    return None


def ahead(found: Sequence[tuple[Place, set[str]]], stateful: Mapping[str, str], known: Container[str]) -> str | None:
    """Name the namespace of a subgraph that keeps its own state and has saved since the head, though it is not due.

    The checkpoint of its parent was lost on the way, as `durability="async"` allows; LangGraph would run it again on
    top of what it has saved. `found` are the places, the root first, each with the nodes that are due there.
    """
    head = found[0][0].stands.checkpoint["id"]
    for namespace, newest in stateful.items():
        path = path_of(namespace)
        above, _, node = path.rpartition("|")
        parents = [(place, due) for place, due in found if place.path == above]
        called = any(node in due or newest < place.stands.checkpoint["id"] for place, due in parents)
        if newest > head and path in known and (not above or above in known) and not called:
            return namespace
    return None


def _pending(stands: CheckpointTuple) -> list[tuple[str, object]]:
    written = [(channel, value) for _, channel, value in stands.pending_writes or ()]
    return [*stands.checkpoint["channel_values"].items(), *written]


def _nodes(channel: str, value: object) -> list[str]:
    if channel.startswith(_BRANCH):
        return [channel.removeprefix(_BRANCH)]
    if channel == _SENDS:
        sends = value if isinstance(value, list | tuple) else [value]
        return [send.node for send in sends if isinstance(send, Send)]
    return []
