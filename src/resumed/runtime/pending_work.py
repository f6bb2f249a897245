"""Whether this code can do the work that waits at a checkpoint: each node, each join.

What LangGraph cannot do it drops in silence, and calls the rest success.
"""

from langgraph.channels.named_barrier_value import NamedBarrierValue
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Send

from resumed.judge.verdict import BRANCH_PREFIX, JOIN_PREFIX, NULL_TASK, SENDS
from resumed.runtime.langgraph_internals import GraphView


def unknown_nodes(graph: GraphView, loaded: CheckpointTuple) -> set[str]:
    """Name every node and join that pending work asks for and the graph lacks."""
    pending = [
        *loaded.checkpoint["channel_values"].items(),
        *((name, value) for _, name, value in loaded.pending_writes or ()),
    ]
    joins = {channel for channel, _ in pending if channel.startswith(JOIN_PREFIX)}
    named = {name for channel, value in pending for name in _nodes_asked_for(channel, value)}
    unfit = {join for join in joins if not _has_join(graph, join, loaded)}
    return {name for name in named if name not in graph.nodes} | unfit


def repaired_joins(graph: GraphView, loaded: CheckpointTuple) -> dict[str, set[str] | None]:
    """Map every join that is full, and yet triggered nothing, to the nodes that it should count; None where unknown.

    Under `durability="async"` LangGraph keeps counting in the very set that it is about to save, so a checkpoint may
    count tasks that ran after it. Resumed as it is such a task would be counted once more, nothing would change, and
    what waits for the join would never run.
    """
    updated, values = loaded.checkpoint.get("updated_channels"), loaded.checkpoint["channel_values"]
    joins = {name: channel.names for name, channel in graph.channels.items() if isinstance(channel, NamedBarrierValue)}
    untriggered = set(joins) - set(updated) if updated is not None else set()
    full = {name: joins[name] for name in untriggered if values.get(name) == joins[name]}
    return {name: _members_run(graph, loaded, name, members) for name, members in full.items()}


def _members_run(graph: GraphView, loaded: CheckpointTuple, join: str, members: set[str]) -> set[str] | None:
    """Return the members that had run by this checkpoint since the join was last full; None where that is unknown.

    What a node has seen of a channel is copied into a checkpoint as it is then. One that was triggered before the join
    was full had also run by then; one that a `Send` started has seen no channel, so only its first run is known.
    """
    seen = loaded.checkpoint["versions_seen"]
    last = max((str(seen.get(node, {}).get(join, "")) for node in graph.trigger_to_nodes.get(join, ())), default="")
    if last and any(name in seen and not seen[name] for name in members):
        return None
    late = {
        name
        for name in members
        if name not in seen or max((str(version) for version in seen[name].values()), default="") < last
    }
    return members - late if late else None


def _has_join(graph: GraphView, join: str, loaded: CheckpointTuple) -> bool:
    """Return whether the graph has the join, of the kind that was saved: a deferred join stores another value."""
    value = loaded.checkpoint["channel_values"].get(join)
    plain = isinstance(graph.channels.get(join), NamedBarrierValue)
    return join in graph.channels and (value is None or isinstance(value, set) is plain)


def commanded_nodes(loaded: CheckpointTuple) -> set[str]:
    """Name the nodes that a `Command` given as input sends to; what tasks send to is due only a superstep later."""
    written = [(channel, value) for task, channel, value in loaded.pending_writes or () if task == NULL_TASK]
    return {name for channel, value in written for name in _nodes_asked_for(channel, value)}


def _nodes_asked_for(channel: str, value: object) -> list[str]:
    if channel.startswith(BRANCH_PREFIX):
        return [channel.removeprefix(BRANCH_PREFIX)]
    if channel == SENDS:
        sends = value if isinstance(value, list | tuple) else [value]
        return [send.node for send in sends if isinstance(send, Send)]
    return []
