"""Asks the loaded graph and the loaded checkpoint whether a thread may go on, and which answer it has to be given.

Rows cannot tell either. It reads through the saver, runs nothing, writes nothing; what it cannot rule out, it refuses.
"""

import asyncio
from collections.abc import Mapping

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Command, Interrupt

from resumed.engine.breakpoints import breakpoint_at
from resumed.engine.pending import ahead, behind, commanded, recounted, unknown_names
from resumed.engine.places import Place, Reading, due, places, subgraphs
from resumed.engine.saver import FencedSaver
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
    for place in found:
        if stands_at := await breakpoint_at(reading.graph, place):
            return Judgement(Verdict.BREAKPOINT, stands_at)
    if said := await _incompatible(reading, found):
        return Judgement(Verdict.INCOMPATIBLE, said)
    return answer


async def ready_for(reading: Reading, loaded: CheckpointTuple | None, given: object) -> Judgement | None:
    """Say what forbids to begin a run with this input; the work that waits is its caller's to drop or to answer."""
    said = (
        await _incompatible(reading, await places(reading, loaded)) if loaded and isinstance(given, Command) else None
    )
    if said is None and reading.lost:
        said = f"classes of the state are missing or have changed: {', '.join(sorted(reading.lost))}"
    return Judgement(Verdict.INCOMPATIBLE, said) if said else None


async def _incompatible(reading: Reading, found: list[Place]) -> str | None:
    """Say what of the pending work or of the state this code does not have."""
    if unknown := {name for place in found for name in unknown_names(place.graph, place.stands)}:
        return f"pending work names what the graph does not have: {', '.join(sorted(unknown))}"
    if spoilt := {name for place in found for name in _beyond_repair(reading, place)}:
        return f"a join has counted what was never saved: {', '.join(sorted(spoilt))}"
    stateful = await checkpoints.stateful(reading.saver.session, reading.thread_id)
    for namespace in stateful:
        await reading.load(namespace)
    if reading.lost:
        return f"classes of the state are missing or have changed: {', '.join(sorted(reading.lost))}"
    return await _out_of_step(reading, found, stateful) if stateful else None


def _beyond_repair(reading: Reading, place: Place) -> list[str]:
    """Have the saver load each join as it was at its checkpoint; name those of which that cannot be told."""
    known = recounted(place.graph, place.stands)
    reading.saver.recount(
        place.stands.config, {name: members for name, members in known.items() if members is not None}
    )
    return [name for name, members in known.items() if members is None]


async def _out_of_step(reading: Reading, found: list[Place], stateful: Mapping[str, str]) -> str | None:
    """Say which subgraph that keeps its own state does not stand where its parent takes it to stand."""
    known = subgraphs(reading.graph)
    called = [(place, {*await due(reading.graph, place.stands.config), *commanded(place.stands)}) for place in found]
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
