"""Assesses one thread: by its rows and its case, then by its values and its graph. Writes only the case."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import Command

from resumed import timings
from resumed.errors import DatabaseError, GraphNotMadeError, LockLostError
from resumed.judge.case import (
    AttemptOutcomeFields,
    CasePlacement,
    CaseUpdate,
    case_update,
    decide_verdict,
    known_for_head,
    place_case,
)
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
from resumed.runtime.call_restore import CallOptions, application_trace, options_of, stored_configurable
from resumed.runtime.context import AttemptRequest
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.graph_positions import GraphReader, due_tasks
from resumed.store import cases, checkpoints, runs
from resumed.store.connection import Session
from resumed.store.database_errors import blames_value
from resumed.store.thread_rows import ThreadRows
from resumed.workers import memory
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import Graph, LoadedWorkflow, own_triggers

REFUSALS = NEEDS_A_PERSON | {Verdict.INCOMPATIBLE}


@dataclass(frozen=True, slots=True)
class Assessment:
    """A thread as its rows were found, and the verdict on them."""

    snapshot: ThreadSnapshot
    circumstances: Circumstances
    judgement: Judgement

    @property
    def head_id(self) -> str:
        """The id of the head that was assessed."""
        return self.snapshot.head.checkpoint_id


@dataclass(frozen=True, slots=True)
class Approved:
    """A thread that may be resumed: the graph bound to the saver, and what it is called with.

    `workflow` is the one that the graph was bound from; `configurable` holds the scalars of the original call;
    `graph_input` is None, an answer, or the input of a registered run; `options` are those of the application's call,
    where a registered run stored them. `unfinished` are the namespaces of inner graphs under the head that have work
    left. `rows_before` is the fingerprint of the control rows where a run begins with a `Command`. `trace` is the trace
    context of the original call, for the metadata of new checkpoints.
    """

    workflow: LoadedWorkflow
    graph: Pregel[Any, Any, Any, Any]
    configurable: Mapping[str, Any]
    graph_input: Any = None
    options: CallOptions = field(default_factory=CallOptions)
    unfinished: Collection[str] = ()
    rows_before: str | None = None
    trace: Mapping[str, str] = field(default_factory=dict)


def assess_thread(rows: ThreadRows, request: AttemptRequest, *, skip_silence: bool = False) -> Assessment | None:
    """Judge the thread by its rows and this worker's own code; None where it has no checkpoint.

    `skip_silence`: do not wait for `min_age`, because an attempt of ours wrote the head, or a person asked.
    """
    snapshot = rows.snapshot
    if snapshot is None:
        return None
    numbers = request.registration.numbers
    registration = replace(request.registration, seen_at=rows.now)
    circumstances = Circumstances(
        now=rows.now,
        match=replace(request.workflow_match, registrations=(registration,)),
        ages=Ages(numbers.min_age, numbers.max_age),
        known=known_for_head(snapshot, rows.case),
        ours=skip_silence,
    )
    return Assessment(snapshot, circumstances, _judge_by_own_triggers(snapshot, circumstances))


def _judge_by_own_triggers(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement:
    """Judge by the triggers of this version's graph; it must not close a thread on which another one has work left."""
    judgement, known = decide_verdict(snapshot, circumstances), circumstances.known
    if judgement.verdict is not Verdict.FINISHED or known is None or not is_unchanged(snapshot, known):
        return judgement
    if known.verdict not in RESUMABLE:
        return judgement
    return Judgement(Verdict.INCOMPATIBLE, "what waits starts no node of this version, only of another")


async def run_preflight(saver: FencedSaver, assessment: Assessment, request: AttemptRequest) -> Approved | Judgement:
    """Ask values and graph for the last word: approve the thread, or return the verdict that says why not.

    State that does not load within the timeout of an attempt counts as unreadable: a class's module may hang. Since
    that verdict lasts until the next version, a busy machine has 20 s in any case, and a process without memory raises
    instead. Raises GraphNotMadeError.
    """
    workflow = await load_thread_workflow(saver, assessment, request)
    options = await _read_options(saver, assessment)
    graph = workflow.bind(saver, options.interrupt_before, options.interrupt_after)
    reader = GraphReader(assessment.snapshot, graph, saver)
    try:
        limit = max(request.registration.numbers.timeout, timings.current().state_load)
        async with asyncio.timeout(limit.total_seconds()):
            result = await _examine(reader, assessment, workflow)
            return replace(result, options=options) if isinstance(result, Approved) else result
    except (LockLostError, DatabaseError):
        raise
    except psycopg.Error as error:
        if not blames_value(error):
            raise
        return Judgement(Verdict.INCOMPATIBLE, f"the state does not load: {type(error).__name__}")
    except Exception as error:
        if memory.exhausted(error):
            raise
        # Whatever a serializer or a channel raises: such state cannot be run.
        return Judgement(Verdict.INCOMPATIBLE, f"the state does not load: {type(error).__name__}")


async def load_thread_workflow(saver: FencedSaver, assessment: Assessment, request: AttemptRequest) -> LoadedWorkflow:
    """Return the workflow with the graph for this thread; a factory that takes a config gets what its call stored.

    Raises GraphNotMadeError where the factory fails; the thread may then be tried again.
    """
    workflow, head = request.workflow, assessment.snapshot.head
    if isinstance(workflow, LoadedWorkflow):
        return workflow
    call = stored_configurable(await checkpoints.metadata(saver.session, head.thread_id, head.checkpoint_id))
    if head.unapplied and head.run is not None and (begun := await runs.stored_call(saver.session, head.run.run_id)):
        call |= stored_configurable(begun.call)
    try:
        return await request.load_thread_workflow(workflow, {**call, "thread_id": head.thread_id})
    except Exception as error:
        message = f"its factory fails for what the thread's call stored: {load_error(error)}"
        raise GraphNotMadeError(message) from error


async def _read_options(saver: FencedSaver, assessment: Assessment) -> CallOptions:
    """Read how the registered run that died, or that saved the head, called its graph."""
    head = assessment.snapshot.head
    run_id = head.run.run_id if head.run is not None else head.metadata_run
    if run_id is None:
        return CallOptions()
    return options_of(await runs.options(saver.session, head.thread_id, run_id))


async def _examine(reader: GraphReader, assessment: Assessment, workflow: LoadedWorkflow) -> Approved | Judgement:
    head, loaded = assessment.snapshot.head, await reader.load()
    if head.unapplied:
        return await _approve_first_input(reader, head.run, loaded, workflow)
    if loaded is None:
        return Judgement(Verdict.FINISHED, "the thread has no checkpoint any more")
    if _starts_nothing(reader.graph, assessment):
        return Judgement(Verdict.FINISHED, "no channel of the head starts a node of the graph made for this thread")
    given = any(channel in reader.graph.trigger_to_nodes for channel in head.null_channels)
    if head.updated_channels is None and not given and not await due_tasks(reader.graph, loaded.config):
        return Judgement(Verdict.FINISHED, "the graph has no node left to run")
    result = await preflight.examine(reader, loaded)
    needs_person = isinstance(result, Judgement) and result.verdict in (Verdict.WAITING, Verdict.BREAKPOINT)
    if assessment.judgement.verdict is Verdict.EDITED and not needs_person:
        return replace(assessment.judgement, unsure=False)
    if isinstance(result, Judgement):
        return result
    answer: Command[Any] | None = Command(resume={result.question: result.value}) if result is not None else None
    call = stored_configurable(loaded.metadata)
    trace = application_trace(loaded.metadata)
    return Approved(workflow, reader.graph, call, answer, unfinished=reader.unfinished, trace=trace)


def _starts_nothing(graph: Graph, assessment: Assessment) -> bool:
    """Return whether a head that counted as unfinished while the triggers were unknown is finished after all."""
    registrations = assessment.circumstances.match.registrations
    unknown = any(ANY_CHANNEL in registration.triggers for registration in registrations)
    return unknown and work_left(assessment.snapshot.head, own_triggers(graph)) is None


async def _approve_first_input(
    reader: GraphReader, run: Run | None, loaded: CheckpointTuple | None, workflow: LoadedWorkflow
) -> Approved | Judgement:
    """Approve the beginning of a registered run with the input that its application stored."""
    stored = await runs.stored_call(reader.saver.session, run.run_id) if run is not None else None
    if stored is None:
        return Judgement(Verdict.FINISHED, "the registered run has ended")
    graph_input = await asyncio.to_thread(reader.saver_for().serde.loads_typed, stored.input)
    if refusal := await preflight.examine_first_input(reader, loaded, graph_input):
        return refusal
    before = stored_configurable(loaded.metadata) if loaded is not None else {}
    return Approved(
        workflow,
        reader.graph,
        {**before, **stored_configurable(stored.call)},
        graph_input,
        rows_before=await _rows_before(reader) if isinstance(graph_input, Command) else None,
        trace=application_trace(stored.call),
    )


async def _rows_before(reader: GraphReader) -> str | None:
    """Return the fingerprint of the rows that a command changes before its first checkpoint, inner graphs' apart."""
    found = await checkpoints.threads_without_run(reader.saver.session, [reader.thread_id])
    return control_part(found[reader.thread_id].fingerprint) if reader.thread_id in found else None


async def record_assessment(session: Session, assessment: Assessment, judgement: Judgement, version: str) -> None:
    """Write to the case what was found under the lock; `version` is the one that assessed it.

    The next sweep knows whether another version takes what this one refuses.
    """
    placement = place_case(judgement, assessment.circumstances)
    if judgement.verdict is Verdict.INCOMPATIBLE:
        placement = CasePlacement(State.HELD, None, assessment.circumstances.now)
    await cases.settle_attempt(
        session,
        case_update_of(assessment, judgement, placement),
        AttemptOutcomeFields(refused_by=version if judgement.verdict in REFUSALS else None),
        known=assessment.circumstances.known,
        now=assessment.circumstances.now,
    )
    await runs.settle_run(session, assessment.snapshot.head.run, judgement.verdict)


def case_update_of(assessment: Assessment, judgement: Judgement, placement: CasePlacement) -> CaseUpdate:
    """Return what is to be recorded of the thread that was assessed."""
    return case_update(assessment.snapshot, assessment.circumstances, judgement, placement)
