"""Asks the loaded graph and the loaded checkpoint whether a thread may go on: answers, breakpoints, pending names.

Rows cannot tell either. It reads through the saver, runs nothing, writes nothing; what it cannot rule out, it refuses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import Interrupt, Send

from resumed.engine.saver import FencedSaver
from resumed.judge.answers import Exchange, Given, settle
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict
from resumed.store import checkpoints, questions
from resumed.store.questions import Stored

Graph = Pregel[Any, Any, Any, Any]
Nodes = Literal["*"] | Iterable[str]

_BRANCH = "branch:to:"
_JOIN = "join:"
_SENDS = "__pregel_tasks"
_BREAKPOINT_SEEN = "__interrupt__"
_HIDDEN = "langsmith:hidden"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one graph of the thread stands: the root or a subgraph, its checkpoint, and whether it ran on since."""

    graph: Graph
    stands: CheckpointTuple
    moved_on: bool


async def examine(graph: Graph, saver: FencedSaver, loaded: CheckpointTuple) -> Judgement | Given | None:
    """Give the verdict that forbids a resume, the answer that it has to bring, or None: it may go on as it is."""
    answer = settle(await _exchanges(saver, loaded))
    if isinstance(answer, Judgement):
        return answer
    if unknown := unknown_names(graph, loaded):
        said = f"pending work names what the graph does not have: {', '.join(sorted(unknown))}"
        return Judgement(Verdict.INCOMPATIBLE, said)
    if not any(_stops(one) for one in (graph, *_subgraphs(graph).values())):
        return answer
    for place in await _places(graph, saver, loaded):
        if stands_at := await _breakpoint(graph, place):
            return Judgement(Verdict.BREAKPOINT, stands_at)
    return answer


async def _exchanges(saver: FencedSaver, loaded: CheckpointTuple) -> list[Exchange]:
    """Load what was asked and answered with the thread's own serializer."""
    thread_id, head = loaded.config["configurable"]["thread_id"], loaded.checkpoint["id"]
    return [_loaded(saver, row) for row in await questions.exchanged(saver.session, thread_id, head)]


def _loaded(saver: FencedSaver, row: Stored) -> Exchange:
    value = saver.serde.loads_typed((row.type, row.blob))
    listed = tuple(value) if isinstance(value, list | tuple) else (value,)
    return Exchange(
        task=(row.checkpoint_ns, row.checkpoint_id, row.task_id),
        channel=row.channel,
        order=row.order,
        ids=tuple(one.id for one in listed if isinstance(one, Interrupt)) if row.channel == INTERRUPT else (),
        values=((value,) if row.task_id == NULL_TASK else listed) if row.channel == RESUME else (),
        output_order=row.output_order,
        failed=row.failed,
    )


def unknown_names(graph: Graph, loaded: CheckpointTuple) -> set[str]:
    """Name every node and join that pending work asks for and the graph lacks; LangGraph would drop each in silence."""
    pending = [*loaded.checkpoint["channel_values"].items()]
    pending += [(channel, value) for _, channel, value in loaded.pending_writes or ()]
    nodes = {name for channel, value in pending for name in _named(channel, value)}
    joins = {channel for channel, _ in pending if channel.startswith(_JOIN)}
    return {name for name in nodes if name not in graph.nodes} | {name for name in joins if name not in graph.channels}


def _named(channel: str, value: object) -> list[str]:
    if channel.startswith(_BRANCH):
        return [channel.removeprefix(_BRANCH)]
    if channel == _SENDS:
        sends = value if isinstance(value, list | tuple) else [value]
        return [send.node for send in sends if isinstance(send, Send)]
    return []


def _stops(graph: Graph) -> bool:
    return bool(graph.interrupt_before_nodes or graph.interrupt_after_nodes)


def _subgraphs(graph: Graph) -> Mapping[str, Graph]:
    return {name: one for name, one in graph.get_subgraphs(recurse=True) if isinstance(one, Pregel)}


async def _places(graph: Graph, saver: FencedSaver, loaded: CheckpointTuple) -> list[Place]:
    """Find where the root and each subgraph that runs under this head stand; one with a newer child has moved on."""
    thread_id = loaded.config["configurable"]["thread_id"]
    children = await checkpoints.children(saver.session, thread_id, loaded.checkpoint["id"])
    places = [Place(graph, loaded, _has_run(loaded) or bool(children))]
    subgraphs = _subgraphs(graph)
    for namespace, checkpoint_id in children.items():
        path = "|".join(part.split(":")[0] for part in namespace.split("|"))
        stands = await saver.aget_tuple(_config(thread_id, namespace, checkpoint_id))
        if stands is None or path not in subgraphs:
            continue
        below = any(inner.startswith(f"{namespace}|") and made > checkpoint_id for inner, made in children.items())
        places.append(Place(subgraphs[path], stands, _has_run(stands) or below))
    return places


def _has_run(stands: CheckpointTuple) -> bool:
    """Rows of a task say that a breakpoint in front of it has been passed."""
    return any(task != NULL_TASK for task, _, _ in stands.pending_writes or ())


async def _breakpoint(root: Graph, place: Place) -> str | None:
    if place.moved_on or not _stops(place.graph) or not _updated(place.stands):
        return None
    before = await _due(root, place.stands.config)
    if found := _matching(place.graph, place.graph.interrupt_before_nodes, before):
        return f"it stands at the breakpoint before {', '.join(found)}"
    parent = place.stands.parent_config
    if parent is None or not place.graph.interrupt_after_nodes:
        return None
    found = _matching(place.graph, place.graph.interrupt_after_nodes, await _due(root, parent))
    return f"it stands at the breakpoint after {', '.join(found)}" if found else None


def _updated(stands: CheckpointTuple) -> bool:
    """LangGraph stops at a breakpoint only where a channel has changed since it last stopped."""
    versions = stands.checkpoint["channel_versions"]
    seen = stands.checkpoint["versions_seen"].get(_BREAKPOINT_SEEN, {})
    return any(channel not in seen or version > seen[channel] for channel, version in versions.items())  # type: ignore[operator]


async def _due(root: Graph, config: RunnableConfig) -> tuple[str, ...]:
    """Name the nodes that were due at a checkpoint, whether or not their writes have been saved since."""
    async for snapshot in root.aget_state_history(config, limit=1):
        return snapshot.next
    return ()


def _matching(graph: Graph, nodes: Nodes, due: Iterable[str]) -> list[str]:
    if nodes == "*":
        return sorted({name for name in due if _HIDDEN not in (graph.nodes[name].tags or ())})
    return sorted(set(due) & set(nodes))


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
