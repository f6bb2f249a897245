"""Says whether a graph stands at one of its breakpoints: from its checkpoint, whoever has loaded that.

A breakpoint leaves no row: only the compiled graph, or the loop that runs it, knows it. What has rows of a task has
passed it. It asks for no other checkpoint unless the one at hand cannot tell who ran last, and then holds.
"""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.types import Send

from resumed.judge.pending_writes import EditId
from resumed.judge.verdict import NULL_TASK, is_trigger
from resumed.runtime.langgraph_loops import GraphSteps, Nodes, is_available
from resumed.store.checkpoints import Child

Load = Callable[[str], Awaitable[CheckpointTuple | None]]

_SEEN = "__interrupt__"
_INPUT = "__input__"
_HIDDEN = "langsmith:hidden"
_SENDS = "__pregel_tasks"
_BRANCH = "branch:to:"


async def breakpoint_at(steps: GraphSteps, stands: CheckpointTuple, load: Load) -> str | None:
    """Name the breakpoint at which a graph stands that has not gone on from this checkpoint; None where at none.

    `load` loads an earlier checkpoint of the same namespace by its id.
    """
    if not stops(steps) or not _updated(stands):
        return None
    if found := _matching(steps, steps.interrupt_before_nodes, due_nodes(steps, stands)):
        return f"it stands at the breakpoint before {', '.join(found)}"
    if not steps.interrupt_after_nodes or stands.metadata.get("source") != "loop":
        return None
    ran, unknown = _ran_last(steps, stands, _matching(steps, steps.interrupt_after_nodes, steps.nodes))
    if unknown and not ran:
        before = await _superstep_before(stands, load)
        if before is None:
            return f"it may stand at the breakpoint after {', '.join(unknown)}: no checkpoint tells what ran last"
        ran = sorted(set(unknown) & (due_nodes(steps, before) | _sent(before)))
    return f"it stands at the breakpoint after {', '.join(ran)}" if ran else None


def stops(steps: GraphSteps) -> bool:
    """Return whether the graph has a breakpoint at all."""
    return bool(steps.interrupt_before_nodes or steps.interrupt_after_nodes)


def has_run(stands: CheckpointTuple) -> bool:
    """Return whether rows of a task say that a breakpoint in front of it, or behind the one before, has been passed.

    The input for a `DeltaChannel` is saved on the checkpoint before it, under a task that never runs; so is a person's
    edit, even where it fails.
    """
    given = str(uuid.uuid5(uuid.UUID(stands.checkpoint["id"]), _INPUT)) if _is_uuid(stands.checkpoint["id"]) else ""
    ran = (task for task, _, _ in stands.pending_writes or () if not isinstance(task, EditId))
    return any(task not in (NULL_TASK, given) for task in ran)


def has_work(checkpoint: Checkpoint) -> bool:
    """Return whether the superstep that made the checkpoint, as far as its row tells, has left something to run."""
    updated = checkpoint.get("updated_channels")
    return updated is None or any(is_trigger(channel) for channel in updated)


def is_below(namespace: str, made: str, inner: str, child: Child) -> bool:
    """Return whether an inner graph has run for a task of the graph that stands at this checkpoint, or at a lost one.

    A graph that keeps its own state has no task in its name, and any other of this name may have called it. What a task
    of an earlier superstep goes on saving, or has saved by a clock that is ahead, proves nothing of this one.
    """
    named = inner.removeprefix(f"{namespace}|") if namespace else inner
    prefixed = not namespace or (named != inner and not named.partition("|")[0].isdigit())
    began_at = child.parents.get(namespace, made if prefixed else "")
    return child.checkpoint_id > made and began_at >= made


def due_nodes(steps: GraphSteps, stands: CheckpointTuple) -> set[str]:
    """Name the nodes that were due at a checkpoint, whatever rows have been saved on it since."""
    checkpoint = stands.checkpoint
    values, versions, seen = checkpoint["channel_values"], checkpoint["channel_versions"], checkpoint["versions_seen"]
    updated = checkpoint.get("updated_channels")
    found = _sent(stands)
    for name, node in steps.nodes.items():
        met = seen.get(name)
        for trigger in node.triggers:
            if (updated and trigger not in updated) or not is_available(steps.channels.get(trigger), values, trigger):
                continue
            if met is None or trigger not in met or versions.get(trigger, met[trigger]) > met[trigger]:  # type: ignore[operator]
                found.add(name)
    return found


def _sent(stands: CheckpointTuple) -> set[str]:
    """Name the nodes to which something was sent; `Command(goto=...)` as an input is a row of the null task."""
    given = [value for task, channel, value in stands.pending_writes or () if (task, channel) == (NULL_TASK, _SENDS)]
    values = [*(stands.checkpoint["channel_values"].get(_SENDS) or ()), *given]
    return {send.node for send in values if isinstance(send, Send)}


def _ran_last(steps: GraphSteps, stands: CheckpointTuple, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split these nodes into those that ran in the superstep that made the checkpoint and those that may have.

    A node that runs has seen the version of its trigger; the superstep then gives all that it changes the next one.
    One that was sent to leaves no version behind.
    """
    checkpoint = stands.checkpoint
    versions = checkpoint["channel_versions"]
    newest = max((_number(one) for one in versions.values()), default=0)
    sent = _number(versions.get(_SENDS, 0)) == newest
    ran, unknown = [], []
    for name in names:
        seen = checkpoint["versions_seen"].get(name)
        if seen is None:
            continue
        met = {trigger: _number(seen[trigger]) for trigger in steps.nodes[name].triggers if trigger in seen}
        if any(_was_just_taken(trigger, at, checkpoint, newest) for trigger, at in met.items()):
            ran.append(name)
        elif sent or any(at == newest - 2 and _number(versions[one]) == newest for one, at in met.items()):
            unknown.append(name)
    return ran, unknown


def _was_just_taken(trigger: str, seen: int, checkpoint: Mapping[str, Any], newest: int) -> bool:
    """An edge's channel is emptied in the superstep of its node, and no other's."""
    if seen >= newest - 1:
        return True
    emptied = trigger.startswith(_BRANCH) and trigger not in checkpoint["channel_values"]
    return emptied and _number(checkpoint["channel_versions"].get(trigger, 0)) == newest


def _number(version: object) -> int:
    """Count supersteps: a version is a number, or a text that begins with one."""
    digits = str(version).partition(".")[0]
    return int(digits) if digits.isdigit() else 0


async def _superstep_before(stands: CheckpointTuple, load: Load) -> CheckpointTuple | None:
    """Load the checkpoint of the superstep before; what lies further back tells nothing of it."""
    named = (stands.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    before = await load(named) if named else None
    if before is None or before.metadata.get("step", -3) != stands.metadata.get("step", -1) - 1:
        return None
    return before


def _updated(stands: CheckpointTuple) -> bool:
    """LangGraph stops at a breakpoint only where a channel has changed since it last stopped."""
    versions = stands.checkpoint["channel_versions"]
    seen = stands.checkpoint["versions_seen"].get(_SEEN, {})
    return any(channel not in seen or version > seen[channel] for channel, version in versions.items())  # type: ignore[operator]


def _matching(steps: GraphSteps, nodes: Nodes, names: Iterable[str]) -> list[str]:
    if nodes == "*":
        return sorted(
            name for name in {*names} if name in steps.nodes and _HIDDEN not in (steps.nodes[name].tags or ())
        )
    return sorted({*names} & {*nodes} & {*steps.nodes})


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
