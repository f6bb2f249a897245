"""Looks at one thread: its rows, its case, then its values and its graph. Decides nothing, writes only the case."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import Command

from resumed.errors import DatabaseError, GraphNotMadeError, LockLostError
from resumed.judge.case import CasePlacement, CaseUpdate, case_update, decide_verdict, place_case, still_known
from resumed.judge.verdict import (
    ANY_CHANNEL,
    Ages,
    Circumstances,
    ThreadSnapshot,
    control_part,
    is_unchanged,
    work_left,
)
from resumed.model import NEEDS_A_PERSON, RESUMABLE, Judgement, State, Verdict
from resumed.rows import Run
from resumed.runtime import preflight
from resumed.runtime.call_restore import CallOptions, options_of, stored_configurable
from resumed.runtime.context import AttemptRequest
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.graph_positions import GraphReader, due_tasks
from resumed.store import cases, checkpoints, runs
from resumed.store.cases import AttemptOutcomeFields
from resumed.store.connection import Session
from resumed.store.database_errors import blames_value
from resumed.workers import memory
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import Graph, LoadedWorkflow, own_triggers

_IMPORT_PATIENCE = timedelta(seconds=20)
_NONE = CallOptions()
REFUSALS = NEEDS_A_PERSON | {Verdict.INCOMPATIBLE}


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a look at the rows found and how it was judged."""

    snapshot: ThreadSnapshot
    circumstances: Circumstances
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Approved:
    """A thread that may go on: the graph bound to the saver, the scalars of the original call, what it is given.

    `workflow` is the one that the graph was bound from; `options` say how the application called the graph, where a
    registered run stored that. `unfinished` are the namespaces of inner graphs under the head that have work left.
    `rows_before` are the control rows, as a fingerprint, where a run is begun with a `Command`.
    """

    workflow: LoadedWorkflow
    graph: Pregel[Any, Any, Any, Any]
    call: Mapping[str, Any]
    given: Any = None
    options: CallOptions = field(default_factory=CallOptions)
    unfinished: Collection[str] = ()
    rows_before: str | None = None


async def assess_thread(
    session: Session, now: datetime, request: AttemptRequest, *, ours: bool = False
) -> Assessment | None:
    """Judge the thread by its rows, with this worker's own code as its claim; None where it has no checkpoint.

    `ours` says that an attempt under the lock that we hold has written the head.
    """
    found = await checkpoints.snapshots(session, [request.thread_id])
    known = await cases.of_threads(session, [request.thread_id])
    if request.thread_id not in found:
        return None
    snapshot = found[request.thread_id]
    numbers = request.registration.numbers
    registration = replace(request.registration, seen_at=now)
    circumstances = Circumstances(
        now=now,
        claim=replace(request.claim, registrations=(registration,)),
        ages=Ages(numbers.min_age, numbers.max_age),
        known=still_known(snapshot, known.get(request.thread_id)),
        ours=ours,
    )
    return Assessment(snapshot, circumstances, _by_our_triggers(snapshot, circumstances))


def _by_our_triggers(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement:
    """Judge by what this version's graph starts with; where another one has work left, ours must not close it."""
    judgement, known = decide_verdict(snapshot, circumstances), circumstances.known
    if judgement.verdict is not Verdict.FINISHED or known is None or not is_unchanged(snapshot, known):
        return judgement
    if known.verdict not in RESUMABLE:
        return judgement
    return Judgement(Verdict.INCOMPATIBLE, "what waits starts no node of this version, only of another")


async def run_preflight(saver: FencedSaver, seen: Assessment, request: AttemptRequest) -> Approved | Judgement:
    """Ask values and graph for the last word: either the thread may go on, or the verdict that says why not.

    What cannot be read within the time of an attempt counts as what cannot be read: a class's module may hang. Never
    less than a time in which a busy machine imports it, and never what only a process without memory cannot read:
    the verdict lasts until the next version. Raises GraphNotMadeError.
    """
    workflow = await made_for(saver, seen, request)
    options = await _options(saver, seen)
    graph = workflow.bind(saver, options.interrupt_before, options.interrupt_after)
    reading = GraphReader(request.thread_id, graph, saver)
    try:
        async with asyncio.timeout(max(request.registration.numbers.timeout, _IMPORT_PATIENCE).total_seconds()):
            said = await _asked(reading, seen, workflow)
            return replace(said, options=options) if isinstance(said, Approved) else said
    except (LockLostError, DatabaseError):
        raise
    except psycopg.Error as error:
        if not blames_value(error):
            raise
        return Judgement(Verdict.INCOMPATIBLE, f"the state does not load: {type(error).__name__}")
    except Exception as error:
        if memory.exhausted(error):
            raise
        # Whatever a serializer or a channel raises, such state is not ours to run
        return Judgement(Verdict.INCOMPATIBLE, f"the state does not load: {type(error).__name__}")


async def made_for(saver: FencedSaver, seen: Assessment, request: AttemptRequest) -> LoadedWorkflow:
    """Return the workflow with the graph for this thread; a factory that takes a config is given what its call stored.

    Raises GraphNotMadeError, and the thread may be tried again: it is the factory that failed.
    """
    workflow, head = request.workflow, seen.snapshot.head
    if isinstance(workflow, LoadedWorkflow):
        return workflow
    call = stored_configurable(await checkpoints.metadata(saver.session, head.thread_id, head.checkpoint_id))
    if head.unapplied and head.run is not None and (begun := await runs.stored_call(saver.session, head.run.run_id)):
        call |= stored_configurable(begun.call)
    try:
        return await request.made(workflow, {**call, "thread_id": head.thread_id})
    except Exception as error:
        message = f"its factory fails for what the thread's call stored: {load_error(error)}"
        raise GraphNotMadeError(message) from error


async def _options(saver: FencedSaver, seen: Assessment) -> CallOptions:
    """Read how the run called its graph that waits to be gone on with, or that saved the head."""
    head = seen.snapshot.head
    run_id = head.run.run_id if head.run is not None else head.metadata_run
    if run_id is None:
        return _NONE
    return options_of(await runs.options(saver.session, head.thread_id, run_id))


async def _asked(reading: GraphReader, seen: Assessment, workflow: LoadedWorkflow) -> Approved | Judgement:
    loaded = await reading.load()
    if seen.snapshot.head.unapplied:
        return await _begun(reading, seen.snapshot.head.run, loaded, workflow)
    if loaded is None:
        return Judgement(Verdict.FINISHED, "the thread has no checkpoint any more")
    head = seen.snapshot.head
    if _starts_nothing(reading.graph, seen):
        return Judgement(Verdict.FINISHED, "no channel of the head starts a node of the graph made for this thread")
    given = any(one in reading.graph.trigger_to_nodes for one in head.null_channels)
    if head.updated_channels is None and not given and not await due_tasks(reading.graph, loaded.config):
        return Judgement(Verdict.FINISHED, "the graph has no node left to run")
    said = await preflight.examine(reading, loaded)
    if seen.judgement.verdict is Verdict.EDITED and not _persons(said):
        return replace(seen.judgement, unsure=False)
    if isinstance(said, Judgement):
        return said
    answer: Command[Any] | None = Command(resume={said.question: said.value}) if said is not None else None
    return Approved(
        workflow, reading.graph, stored_configurable(loaded.metadata), answer, unfinished=reading.unfinished
    )


def _starts_nothing(graph: Graph, seen: Assessment) -> bool:
    """Return whether a head that was taken for unfinished because nobody knew the triggers is finished after all."""
    unknown = any(ANY_CHANNEL in one.triggers for one in seen.circumstances.claim.registrations)
    return unknown and work_left(seen.snapshot.head, own_triggers(graph)) is None


async def _begun(
    reading: GraphReader, run: Run | None, loaded: CheckpointTuple | None, workflow: LoadedWorkflow
) -> Approved | Judgement:
    """Begin a registered run as its application would have: with the input that it stored."""
    kept = await runs.stored_call(reading.saver.session, run.run_id) if run is not None else None
    if kept is None:
        return Judgement(Verdict.FINISHED, "the registered run has ended")
    given = await asyncio.to_thread(reading.reader().serde.loads_typed, kept.input)
    if said := await preflight.ready_for(reading, loaded, given):
        return said
    before = stored_configurable(loaded.metadata) if loaded is not None else {}
    rows = await _rows_before(reading) if isinstance(given, Command) else None
    return Approved(workflow, reading.graph, {**before, **stored_configurable(kept.call)}, given, rows_before=rows)


async def _rows_before(reading: GraphReader) -> str | None:
    """Read how the rows stand that a command changes before its first checkpoint; what inner graphs save is not its."""
    found = await checkpoints.threads_without_run(reading.saver.session, [reading.thread_id])
    return control_part(found[reading.thread_id].fingerprint) if reading.thread_id in found else None


def _persons(said: object) -> bool:
    return isinstance(said, Judgement) and said.verdict in (Verdict.WAITING, Verdict.BREAKPOINT)


async def record_assessment(session: Session, seen: Assessment, judgement: Judgement, version: str) -> None:
    """Write what a look under the lock said; `version` is the one that looked.

    Whether another version takes what this one refuses, the next sweep knows.
    """
    placement = place_case(judgement, seen.circumstances)
    if judgement.verdict is Verdict.INCOMPATIBLE:
        placement = CasePlacement(State.HELD, None, seen.circumstances.now)
    refused = judgement.verdict in REFUSALS
    await cases.settle_attempt(
        session,
        case_update_of(seen, judgement, placement),
        AttemptOutcomeFields(refused_by=version if refused else None),
    )
    await runs.settle_run(session, seen.snapshot.head.run, judgement.verdict)


def case_update_of(seen: Assessment, judgement: Judgement, placement: CasePlacement) -> CaseUpdate:
    """Put together where the thread of this look stands."""
    return case_update(seen.snapshot, seen.circumstances, judgement, placement)
