"""Asks the loaded graph and the loaded checkpoint whether a thread may be resumed, and which answer it needs.

Rows show neither. It reads through the saver, runs nothing and writes nothing, and refuses what it cannot rule out.
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
from resumed.runtime.pending_work import commanded_nodes, repaired_joins, unknown_nodes
from resumed.runtime.subgraphs import lagging_subgraph, leading_subgraph
from resumed.store.interrupts import StoredWrite


async def examine(reader: GraphReader, loaded: CheckpointTuple) -> Judgement | OpenAnswer | None:
    """Return the verdict that forbids a resume, or the answer to resume with, or None to resume without one."""
    answer = match_answers(await _load_interrupt_rows(reader, loaded))
    if isinstance(answer, Judgement):
        return answer
    found = await graph_positions(reader, loaded)
    if reason := _repair_joins(reader, found):
        return Judgement(Verdict.INCOMPATIBLE, reason)
    for position in found:
        if stands_at := await _find_breakpoint(reader, position):
            return Judgement(Verdict.BREAKPOINT, stands_at)
    if reason := await _find_missing(reader, found):
        return Judgement(Verdict.INCOMPATIBLE, reason)
    return answer


async def examine_first_input(
    reader: GraphReader, loaded: CheckpointTuple | None, graph_input: object
) -> Judgement | None:
    """Return the verdict that forbids a run to begin with this input; what waits is its caller's to drop or answer."""
    found = await graph_positions(reader, loaded) if loaded and isinstance(graph_input, Command) else []
    reason = _repair_joins(reader, found) or (await _find_missing(reader, found) if found else None)
    if reason is None and reader.lost:
        reason = f"classes of the state are missing or have changed: {', '.join(sorted(reader.lost))}"
    return Judgement(Verdict.INCOMPATIBLE, reason) if reason else None


async def _find_missing(reader: GraphReader, found: list[GraphPosition]) -> str | None:
    """Return what pending work and state need and this code does not have, as a reason."""
    certain = [position for position in found if position.certain]
    if unknown := {name for position in certain for name in unknown_nodes(position.graph, position.loaded)}:
        return f"pending work names what the graph does not have: {', '.join(sorted(unknown))}"
    stateful = await reader.stateful()
    for namespace in stateful:
        await reader.load(namespace)
    if reader.lost:
        return f"classes of the state are missing or have changed: {', '.join(sorted(reader.lost))}"
    return _find_out_of_step(reader, found, stateful) if stateful else None


async def _find_breakpoint(reader: GraphReader, position: GraphPosition) -> str | None:
    """Name the breakpoint at which a graph stands; one that does not fit the checkpoint did not save it."""
    fits = position.certain or not unknown_nodes(position.graph, position.loaded)
    if position.moved_on or not fits:
        return None
    namespace = position.loaded.config["configurable"]["checkpoint_ns"]
    return await breakpoint_at(position.graph, position.loaded, partial(reader.load, namespace))


def _repair_joins(reader: GraphReader, found: list[GraphPosition]) -> str | None:
    """Have each join load as it was at its checkpoint, which decides what is due; return where that is unknown."""
    lost: set[str] = set()
    for position in found:
        known = repaired_joins(position.graph, position.loaded) if position.certain else {}
        counted = {name: members for name, members in known.items() if members is not None}
        reader.saver.repair_joins(position.loaded.config, counted)
        position.loaded.checkpoint["channel_values"].update({name: set(members) for name, members in counted.items()})
        lost |= known.keys() - counted.keys()
    return f"a join has counted what was never saved: {', '.join(sorted(lost))}" if lost else None


def _find_out_of_step(reader: GraphReader, found: list[GraphPosition], stateful: Mapping[str, str]) -> str | None:
    """Name a subgraph with its own state that does not stand where its parent expects it."""
    known = subgraphs(reader.graph)
    due = [
        (position, due_nodes(position.graph, position.loaded) | commanded_nodes(position.loaded)) for position in found
    ]
    for position, names in due:
        if late := lagging_subgraph(position, names, stateful, known):
            return f"the stateful subgraph {late} is behind its parent"
    early = leading_subgraph(due, stateful, known)
    return f"the stateful subgraph {early} is ahead of its parent" if early else None


async def _load_interrupt_rows(reader: GraphReader, loaded: CheckpointTuple) -> list[InterruptRow]:
    """Load what was asked and answered with the thread's own serializer, in a thread: a class may take its time."""
    rows = await reader.questions(loaded.checkpoint["id"])
    return [await asyncio.to_thread(load_interrupt_row, reader.saver_for().serde, row) for row in rows]


def load_interrupt_row(serde: SerializerProtocol, row: StoredWrite) -> InterruptRow:
    """Load the question or the answer that a row holds."""
    value = serde.loads_typed((row.type, row.blob))
    listed = tuple(value) if isinstance(value, list | tuple) else (value,)
    return InterruptRow(
        task=(row.checkpoint_ns, row.checkpoint_id, row.task_id),
        channel=row.channel,
        order=row.order,
        ids=tuple(question.id for question in listed if isinstance(question, Interrupt))
        if row.channel == INTERRUPT
        else (),
        values=((value,) if row.task_id == NULL_TASK else listed) if row.channel == RESUME else (),
        output_order=row.output_order,
        failed=row.failed,
        left_behind=row.left_behind,
        path=row.task_path,
    )
