"""Asks the loaded graph and the loaded checkpoint whether a thread may go on: answers, breakpoints, pending names.

Rows cannot tell either. It reads through the saver, runs nothing, writes nothing; what it cannot rule out, it refuses.
"""

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt, Send

from resumed.engine.breakpoints import breakpoint_at, stops
from resumed.engine.places import Graph, places, subgraphs
from resumed.engine.saver import FencedSaver
from resumed.judge.answers import Exchange, Given, settle
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict
from resumed.store import questions
from resumed.store.questions import Stored

_BRANCH = "branch:to:"
_JOIN = "join:"
_SENDS = "__pregel_tasks"


async def examine(graph: Graph, saver: FencedSaver, loaded: CheckpointTuple) -> Judgement | Given | None:
    """Give the verdict that forbids a resume, the answer that it has to bring, or None: it may go on as it is."""
    answer = settle(await _exchanges(saver, loaded))
    if isinstance(answer, Judgement):
        return answer
    if unknown := unknown_names(graph, loaded):
        said = f"pending work names what the graph does not have: {', '.join(sorted(unknown))}"
        return Judgement(Verdict.INCOMPATIBLE, said)
    if not any(stops(one) for one in (graph, *subgraphs(graph).values())):
        return answer
    for place in await places(graph, saver, loaded):
        if stands_at := await breakpoint_at(graph, place):
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
        left_behind=row.left_behind,
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
