"""Asks the loaded graph and the loaded checkpoint whether a thread may go on, and which answer it has to be given.

Rows cannot tell either. It reads through the saver, runs nothing, writes nothing; what it cannot rule out, it refuses.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Command, Interrupt

from resumed.engine.breakpoints import breakpoint_at, due_nodes
from resumed.engine.pending import commanded, recounted, unknown_names
from resumed.engine.places import Place, Reading, places, subgraphs
from resumed.engine.saver import FencedSaver
from resumed.engine.stateful import ahead, behind
from resumed.judge.answers import Exchange, Given, settle
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict
from resumed.store import checkpoints, questions
from resumed.store.questions import Stored


async def examine(reading: Reading, loaded: CheckpointTuple) -> Judgement | Given | None:
    """Give the verdict that forbids a resume, the answer that it has to bring, or None: it may go on as it is."""
    answer = settle(await _exchanges(reading, loaded))
    if isinstance(answer, Judgement):
        return answer
    found = await places(reading, loaded)
    if said := _spoilt(reading, found):
        return Judgement(Verdict.INCOMPATIBLE, said)
    for place in found:
        if stands_at := await _breakpoint(reading, place):
            return Judgement(Verdict.BREAKPOINT, stands_at)
    if said := await _incompatible(reading, found):
        return Judgement(Verdict.INCOMPATIBLE, said)
    return answer


async def ready_for(reading: Reading, loaded: CheckpointTuple | None, given: object) -> Judgement | None:
    """Say what forbids to begin a run with this input; the work that waits is its caller's to drop or to answer."""
    found = await places(reading, loaded) if loaded and isinstance(given, Command) else []
    said = _spoilt(reading, found) or (await _incompatible(reading, found) if found else None)
    if said is None and reading.lost:
        said = f"classes of the state are missing or have changed: {', '.join(sorted(reading.lost))}"
    return Judgement(Verdict.INCOMPATIBLE, said) if said else None


async def _incompatible(reading: Reading, found: list[Place]) -> str | None:
    """Say what of the pending work or of the state this code does not have."""
    certain = [place for place in found if place.certain]
    if unknown := {name for place in certain for name in unknown_names(place.graph, place.stands)}:
        return f"pending work names what the graph does not have: {', '.join(sorted(unknown))}"
    stateful = await checkpoints.stateful(reading.saver.session, reading.thread_id)
    for namespace in stateful:
        await reading.load(namespace)
    if reading.lost:
        return f"classes of the state are missing or have changed: {', '.join(sorted(reading.lost))}"
    return await _out_of_step(reading, found, stateful) if stateful else None


async def _breakpoint(reading: Reading, place: Place) -> str | None:
    """Name the breakpoint at which a place stands. A graph that does not fit its checkpoint is not the one of it."""
    if place.moved_on or not (place.certain or not unknown_names(place.graph, place.stands)):
        return None
    namespace = place.stands.config["configurable"]["checkpoint_ns"]
    return await breakpoint_at(place.graph, place.stands, partial(reading.load, namespace))


def _spoilt(reading: Reading, found: list[Place]) -> str | None:
    """Have each join counted as it was at its checkpoint, which tells what is due; say of which that is not known."""
    lost: set[str] = set()
    for place in found:
        known = recounted(place.graph, place.stands) if place.certain else {}
        counted = {name: members for name, members in known.items() if members is not None}
        reading.saver.recount(place.stands.config, counted)
        place.stands.checkpoint["channel_values"].update({name: set(members) for name, members in counted.items()})
        lost |= known.keys() - counted.keys()
    return f"a join has counted what was never saved: {', '.join(sorted(lost))}" if lost else None


async def _out_of_step(reading: Reading, found: list[Place], stateful: Mapping[str, str]) -> str | None:
    """Say which subgraph that keeps its own state does not stand where its parent takes it to stand."""
    known = subgraphs(reading.graph)
    called = [(place, due_nodes(place.graph, place.stands) | commanded(place.stands)) for place in found]
    for place, names in called:
        if late := behind(place, names, stateful, known):
            return f"the stateful subgraph {late} is behind its parent"
    early = ahead(called, stateful, known)
    return f"the stateful subgraph {early} is ahead of its parent" if early else None


async def _exchanges(reading: Reading, loaded: CheckpointTuple) -> list[Exchange]:
    """Load what was asked and answered with the thread's own serializer, in a thread: a class may take its time."""
    rows = await questions.exchanged(reading.saver.session, reading.thread_id, loaded.checkpoint["id"])
    return [await asyncio.to_thread(_loaded, reading.reader(), row) for row in rows]


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
        called=row.called,
    )
