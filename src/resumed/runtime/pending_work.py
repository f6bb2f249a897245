"""Says of the work that waits at a checkpoint whether this code can do it: each node, each join.

What LangGraph cannot do it drops in silence, and calls the rest success (facts section 4.4).
"""

from langgraph.channels.named_barrier_value import NamedBarrierValue
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Send

from resumed.judge.verdict import NULL_TASK
from resumed.runtime.langgraph_loops import GraphSteps

_BRANCH = "branch:to:"
_JOIN = "join:"
_SENDS = "__pregel_tasks"


def unknown_nodes(graph: GraphSteps, stands: CheckpointTuple) -> set[str]:
    """Name every node and join that pending work asks for and the graph lacks."""
    joins = {channel for channel, _ in _pending(stands) if channel.startswith(_JOIN)}
    named = {name for channel, value in _pending(stands) for name in _nodes(channel, value)}
    return {name for name in named if name not in graph.nodes} | {one for one in joins if not _kept(graph, one, stands)}


def repaired_joins(graph: GraphSteps, stands: CheckpointTuple) -> dict[str, set[str] | None]:
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


def _counted(graph: GraphSteps, stands: CheckpointTuple, join: str, members: set[str]) -> set[str] | None:
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


def _kept(graph: GraphSteps, join: str, stands: CheckpointTuple) -> bool:
    """A join that a deploy has deferred, or no longer defers, finds nothing in what one of the other kind has saved."""
    value = stands.checkpoint["channel_values"].get(join)
    plain = isinstance(graph.channels.get(join), NamedBarrierValue)
    return join in graph.channels and (value is None or isinstance(value, set) is plain)


def carries_command(stands: CheckpointTuple) -> set[str]:
    """Name the nodes that a `Command` given as input sends to; what tasks ask for is due only a superstep later."""
    written = [(channel, value) for task, channel, value in stands.pending_writes or () if task == NULL_TASK]
    return {name for channel, value in written for name in _nodes(channel, value)}


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
