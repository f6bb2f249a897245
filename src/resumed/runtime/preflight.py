"""Asks the loaded graph and the loaded checkpoint whether a thread may go on, and which answer it has to be given.

Rows cannot tell either. It reads through the saver, runs nothing, writes nothing; what it cannot rule out, it refuses.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Command, Interrupt

from resumed.judge.interrupts import InterruptRow, OpenAnswer, match_answers
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict
from resumed.runtime.breakpoints import breakpoint_at, due_nodes
from resumed.runtime.graph_positions import GraphPosition, GraphReader, graph_positions, subgraphs
from resumed.runtime.pending_work import carries_command, repaired_joins, unknown_nodes
from resumed.runtime.subgraphs import lagging_subgraph, leading_subgraph
from resumed.store import checkpoints, interrupts
from resumed.store.interrupts import StoredWrite


async def examine(reading: GraphReader, loaded: CheckpointTuple) -> Judgement | OpenAnswer | None:
    """Give the verdict that forbids a resume, the answer that it has to bring, or None: it may go on as it is."""
    answer = match_answers(await _exchanges(reading, loaded))
    if isinstance(answer, Judgement):
        return answer
    found = await graph_positions(reading, loaded)
    if said := _spoilt(reading, found):
        return Judgement(Verdict.INCOMPATIBLE, said)
    for place in found:
        if stands_at := await _breakpoint(reading, place):
            return Judgement(Verdict.BREAKPOINT, stands_at)
    if said := await _incompatible(reading, found):
        return Judgement(Verdict.INCOMPATIBLE, said)
    return answer


async def ready_for(reading: GraphReader, loaded: CheckpointTuple | None, given: object) -> Judgement | None:
    """Say what forbids to begin a run with this input; the work that waits is its caller's to drop or to answer."""
    found = await graph_positions(reading, loaded) if loaded and isinstance(given, Command) else []
    said = _spoilt(reading, found) or (await _incompatible(reading, found) if found else None)
    if said is None and reading.lost:
        said = f"classes of the state are missing or have changed: {', '.join(sorted(reading.lost))}"
    return Judgement(Verdict.INCOMPATIBLE, said) if said else None


async def _incompatible(reading: GraphReader, found: list[GraphPosition]) -> str | None:
    """Say what of the pending work or of the state this code does not have."""
    certain = [place for place in found if place.certain]
    if unknown := {name for place in certain for name in unknown_nodes(place.graph, place.stands)}:
        return f"pending work names what the graph does not have: {', '.join(sorted(unknown))}"
    stateful = await checkpoints.stateful(reading.saver.session, reading.thread_id)
    for namespace in stateful:
        await reading.load(namespace)
    if reading.lost:
        return f"classes of the state are missing or have changed: {', '.join(sorted(reading.lost))}"
    return await _out_of_step(reading, found, stateful) if stateful else None


async def _breakpoint(reading: GraphReader, place: GraphPosition) -> str | None:
    """Name the breakpoint at which a place stands. A graph that does not fit its checkpoint is not the one of it."""
    if place.moved_on or not (place.certain or not unknown_nodes(place.graph, place.stands)):
        return None
    namespace = place.stands.config["configurable"]["checkpoint_ns"]
    return await breakpoint_at(place.graph, place.stands, partial(reading.load, namespace))


def _spoilt(reading: GraphReader, found: list[GraphPosition]) -> str | None:
    """Have each join counted as it was at its checkpoint, which tells what is due; say of which that is not known."""
    lost: set[str] = set()
    for place in found:
        known = repaired_joins(place.graph, place.stands) if place.certain else {}
        counted = {name: members for name, members in known.items() if members is not None}
        reading.saver.recount(place.stands.config, counted)
        place.stands.checkpoint["channel_values"].update({name: set(members) for name, members in counted.items()})
        lost |= known.keys() - counted.keys()
    return f"a join has counted what was never saved: {', '.join(sorted(lost))}" if lost else None


async def _out_of_step(reading: GraphReader, found: list[GraphPosition], stateful: Mapping[str, str]) -> str | None:
    """Say which subgraph that keeps its own state does not stand where its parent takes it to stand."""
    known = subgraphs(reading.graph)
    called = [(place, due_nodes(place.graph, place.stands) | carries_command(place.stands)) for place in found]
    for place, names in called:
        if late := lagging_subgraph(place, names, stateful, known):
            return f"the stateful subgraph {late} is behind its parent"
    early = leading_subgraph(called, stateful, known)
    return f"the stateful subgraph {early} is ahead of its parent" if early else None


async def _exchanges(reading: GraphReader, loaded: CheckpointTuple) -> list[InterruptRow]:
    """Load what was asked and answered with the thread's own serializer, in a thread: a class may take its time."""
    rows = await interrupts.interrupt_rows(reading.saver.session, reading.thread_id, loaded.checkpoint["id"])
    return [await asyncio.to_thread(exchange_of, reading.reader().serde, row) for row in rows]


def exchange_of(serde: SerializerProtocol, row: StoredWrite) -> InterruptRow:
    """Load what a row asks or answers."""
    value = serde.loads_typed((row.type, row.blob))
    listed = tuple(value) if isinstance(value, list | tuple) else (value,)
    return InterruptRow(
        task=(row.checkpoint_ns, row.checkpoint_id, row.task_id),
        channel=row.channel,
        order=row.order,
        ids=tuple(one.id for one in listed if isinstance(one, Interrupt)) if row.channel == INTERRUPT else (),
        values=((value,) if row.task_id == NULL_TASK else listed) if row.channel == RESUME else (),
        output_order=row.output_order,
        failed=row.failed,
        left_behind=row.left_behind,
        called=row.called,
    )
