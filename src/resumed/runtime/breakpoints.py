"""Whether a graph stands at one of its breakpoints, judged from its loaded checkpoint.

A breakpoint leaves no row: only the compiled graph, or the loop that runs it, knows it. A graph whose checkpoint has
rows of a task has passed it. Where a checkpoint does not show what ran last, the one before is loaded; where that is
gone, the thread is held.
"""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.constants import TAG_HIDDEN
from langgraph.types import Send

from resumed.judge.pending_writes import EditId
from resumed.judge.verdict import BRANCH_PREFIX, INTERRUPT, NULL_TASK, SENDS, is_trigger
from resumed.runtime.langgraph_internals import INPUT_TASK_NAME, GraphView, Nodes, is_available
from resumed.store.checkpoints import Child

Load = Callable[[str], Awaitable[CheckpointTuple | None]]


async def breakpoint_at(graph: GraphView, loaded: CheckpointTuple, load: Load) -> str | None:
    """Name the breakpoint at which a graph stands that has not moved on from this checkpoint; None where at none.

    `load` loads an earlier checkpoint of the same namespace by its id.
    """
    if not has_breakpoints(graph) or not _has_changed(loaded):
        return None
    if found := _select(graph, graph.interrupt_before_nodes, due_nodes(graph, loaded)):
        return f"it stands at the breakpoint before {', '.join(found)}"
    if not graph.interrupt_after_nodes or loaded.metadata.get("source") != "loop":
        return None
    ran, unknown = _ran_last(graph, loaded, _select(graph, graph.interrupt_after_nodes, graph.nodes))
    if unknown and not ran:
        before = await _superstep_before(loaded, load)
        if before is None:
            return f"it may stand at the breakpoint after {', '.join(unknown)}: no checkpoint tells what ran last"
        ran = sorted(set(unknown) & (due_nodes(graph, before) | _sent_to(before)))
    return f"it stands at the breakpoint after {', '.join(ran)}" if ran else None


def has_breakpoints(graph: GraphView) -> bool:
    """Return whether the graph has a breakpoint at all."""
    return bool(graph.interrupt_before_nodes or graph.interrupt_after_nodes)


def has_run(loaded: CheckpointTuple) -> bool:
    """Return whether a task has rows: then a breakpoint in front of it, or behind the one before, has been passed.

    The input for a `DeltaChannel` is saved on the checkpoint before it, under a task that never runs; so is a person's
    edit, even where it fails.
    """
    made = loaded.checkpoint["id"]
    input_task = str(uuid.uuid5(uuid.UUID(made), INPUT_TASK_NAME)) if _is_uuid(made) else ""
    ran = (task for task, _, _ in loaded.pending_writes or () if not isinstance(task, EditId))
    return any(task not in (NULL_TASK, input_task) for task in ran)


def has_work(checkpoint: Checkpoint) -> bool:
    """Return whether the superstep that made the checkpoint has left something to run, as far as its row shows."""
    updated = checkpoint.get("updated_channels")
    return updated is None or any(is_trigger(channel) for channel in updated)


def is_below(namespace: str, made: str, inner: str, child: Child) -> bool:
    """Return whether an inner graph has run for a task of the graph that stands at this checkpoint, or at a lost one.

    A graph that keeps its own state has no task in its name, and any other of this name may have called it. What a task
    of an earlier superstep still saves, or has saved by a clock that is ahead, proves nothing about this one.
    """
    named = inner.removeprefix(f"{namespace}|") if namespace else inner
    prefixed = not namespace or (named != inner and not named.partition("|")[0].isdigit())
    began_at = child.parents.get(namespace, made if prefixed else "")
    return child.checkpoint_id > made and began_at >= made


def due_nodes(graph: GraphView, loaded: CheckpointTuple) -> set[str]:
    """Name the nodes that were due at a checkpoint, whatever rows have been saved on it since."""
    checkpoint = loaded.checkpoint
    values, versions, seen = checkpoint["channel_values"], checkpoint["channel_versions"], checkpoint["versions_seen"]
    updated = checkpoint.get("updated_channels")
    found = _sent_to(loaded)
    for name, node in graph.nodes.items():
        met = seen.get(name)
        for trigger in node.triggers:
            if (updated and trigger not in updated) or not is_available(graph.channels.get(trigger), values, trigger):
                continue
            if met is None or trigger not in met or versions.get(trigger, met[trigger]) > met[trigger]:  # type: ignore[operator]
                found.add(name)
    return found


def _sent_to(loaded: CheckpointTuple) -> set[str]:
    """Name the nodes that something was sent to; `Command(goto=...)` as an input is a row of the null task."""
    given = [value for task, channel, value in loaded.pending_writes or () if (task, channel) == (NULL_TASK, SENDS)]
    values = [*(loaded.checkpoint["channel_values"].get(SENDS) or ()), *given]
    return {send.node for send in values if isinstance(send, Send)}


def _ran_last(graph: GraphView, loaded: CheckpointTuple, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split these nodes into those that ran in the superstep that made the checkpoint and those that may have.

    A node that runs has seen the version of its trigger; the superstep then sets all that it changes to the next one.
    One that was sent to leaves no version behind.
    """
    checkpoint = loaded.checkpoint
    versions = checkpoint["channel_versions"]
    newest = max((_superstep_of(version) for version in versions.values()), default=0)
    sent = _superstep_of(versions.get(SENDS, 0)) == newest
    ran, unknown = [], []
    for name in names:
        seen = checkpoint["versions_seen"].get(name)
        if seen is None:
            continue
        met = {trigger: _superstep_of(seen[trigger]) for trigger in graph.nodes[name].triggers if trigger in seen}
        if any(_was_just_taken(trigger, at, checkpoint, newest) for trigger, at in met.items()):
            ran.append(name)
        elif sent or any(
            at == newest - 2 and _superstep_of(versions[trigger]) == newest for trigger, at in met.items()
        ):
            unknown.append(name)
    return ran, unknown


def _was_just_taken(trigger: str, seen: int, checkpoint: Mapping[str, Any], newest: int) -> bool:
    """Return whether a node took its trigger in the last superstep: an edge's channel is emptied then."""
    if seen >= newest - 1:
        return True
    emptied = trigger.startswith(BRANCH_PREFIX) and trigger not in checkpoint["channel_values"]
    return emptied and _superstep_of(checkpoint["channel_versions"].get(trigger, 0)) == newest


def _superstep_of(version: object) -> int:
    """Return the superstep that a version counts: it is a number, or a text that begins with one."""
    digits = str(version).partition(".")[0]
    return int(digits) if digits.isdigit() else 0


async def _superstep_before(loaded: CheckpointTuple, load: Load) -> CheckpointTuple | None:
    """Load the checkpoint of the superstep before; None where only older ones are left."""
    named = (loaded.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    before = await load(named) if named else None
    if before is None or before.metadata.get("step", -3) != loaded.metadata.get("step", -1) - 1:
        return None
    return before


def _has_changed(loaded: CheckpointTuple) -> bool:
    """Return whether a channel has changed since the graph last stopped: only then does LangGraph stop again."""
    versions = loaded.checkpoint["channel_versions"]
    seen = loaded.checkpoint["versions_seen"].get(INTERRUPT, {})
    return any(channel not in seen or version > seen[channel] for channel, version in versions.items())  # type: ignore[operator]


def _select(graph: GraphView, nodes: Nodes, names: Iterable[str]) -> list[str]:
    if nodes == "*":
        return sorted(
            name for name in {*names} if name in graph.nodes and TAG_HIDDEN not in (graph.nodes[name].tags or ())
        )
    return sorted({*names} & {*nodes} & {*graph.nodes})


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
