"""Judges threads without any registration: by their rows, by the ages that the caller names, and by a graph if any.

With a graph it judges as an attempt's preflight does, and runs nothing. Without one it says what only a graph can tell.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from resumed.judge.case import decide_verdict
from resumed.judge.interrupts import match_answers
from resumed.judge.verdict import INTERRUPT, Ages, Circumstances, ThreadSnapshot, needs_graph
from resumed.judge.workflow_match import WorkflowMatch, workflow_name
from resumed.model import RESUMABLE, Judgement, PolicyLimits, Registration, Verdict
from resumed.runtime.assessment import Approved, Assessment, run_preflight
from resumed.runtime.context import AttemptRequest
from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.preflight import load_interrupt_row
from resumed.store import checkpoints, interrupts, locks, runs, watermark
from resumed.store.connection import Session
from resumed.workflows.loaded_workflow import LoadedWorkflow, load_workflow, own_triggers
from resumed.workflows.workflow import Workflow

_PREFLIGHT_TIMEOUT = timedelta(minutes=1)
NO_AGES = Ages(timedelta(0), timedelta.max)
_ONLY_A_GRAPH = "only the graph can tell, pass it as graph="
_UNREADABLE = "what was asked or answered cannot be read without the graph's serializer, pass the graph as graph="


def workflow_of(graph: Any) -> LoadedWorkflow | None:
    """Make a workflow of the graph that a caller passes; None where there is none. Raises TypeError, RegistrationError.

    Values are loaded as its own checkpointer does. No context is needed: nothing is run.
    """
    if graph is None:
        return None
    policy = graph
    if not isinstance(graph, Workflow):
        saver = getattr(graph, "checkpointer", None)
        serde = saver.serde if isinstance(saver, BaseCheckpointSaver) else None
        policy = Workflow(graph=graph, serde=serde, context=lambda _: None)
    made = load_workflow("", policy, policy.graph)
    if made is None:
        message = "graph= takes a compiled graph, or a resumed.Workflow that holds one"
        raise TypeError(message)
    return made


def judge_rows(snapshot: ThreadSnapshot, now: datetime) -> Judgement:
    """Judge a thread whose lock the caller holds by its rows alone, as any code that accepts it would."""
    return _assess(snapshot, None, (NO_AGES, now), held=False, unknown=False)[0].judgement


async def judge_thread(
    session: Session, snapshots: Mapping[str, ThreadSnapshot], workflow: LoadedWorkflow | None, ages: Ages = NO_AGES
) -> dict[str, Judgement]:
    """Judge these threads; one whose lock is held is running."""
    held = await locks.held_threads(session, list(snapshots))
    return await _judge(session, snapshots, workflow, (ages, held))


async def judge_under_lock(session: Session, snapshot: ThreadSnapshot, workflow: LoadedWorkflow | None) -> Judgement:
    """Judge a thread whose lock the caller holds."""
    thread = snapshot.head.thread_id
    return (await _judge(session, {thread: snapshot}, workflow, (NO_AGES, frozenset())))[thread]


async def _judge(
    session: Session,
    snapshots: Mapping[str, ThreadSnapshot],
    workflow: LoadedWorkflow | None,
    by: tuple[Ages, frozenset[str]],
) -> dict[str, Judgement]:
    ages, held = by
    now, registered = await watermark.database_clock(session), await runs.has_table(session)
    formats = await checkpoints.formats(
        session, {thread: snapshot.head.checkpoint_id for thread, snapshot in snapshots.items()}
    )
    judgements: dict[str, Judgement] = {}
    for thread, snapshot in snapshots.items():
        unknown = workflow is None and thread in formats and formats[thread].low_level
        assessment, registration = _assess(snapshot, workflow, (ages, now), held=thread in held, unknown=unknown)
        if workflow is None:
            judgements[thread] = await _judge_by_rows(session, assessment, unknown=unknown)
        else:
            request = AttemptRequest(thread, workflow, registration)
            judgements[thread] = await _judge_by_graph(session, assessment, request, registered=registered)
    return judgements


def _assess(
    snapshot: ThreadSnapshot, workflow: LoadedWorkflow | None, when: tuple[Ages, datetime], *, held: bool, unknown: bool
) -> tuple[Assessment, Registration]:
    registration = _registration(snapshot, workflow, when, unknown=unknown)
    match = WorkflowMatch(registration.name, (registration,))
    circumstances = Circumstances(now=when[1], match=match, ages=when[0], lock_held=held)
    return Assessment(snapshot, circumstances, decide_verdict(snapshot, circumstances)), registration


def _registration(
    snapshot: ThreadSnapshot, workflow: LoadedWorkflow | None, when: tuple[Ages, datetime], *, unknown: bool
) -> Registration:
    """Make up the registration of the given code, or of code that accepts the thread.

    `unknown`: any of the channels may be a trigger.
    """
    ages, now = when
    name = workflow_name(snapshot.head, (), None) or ""
    numbers = PolicyLimits(ages.min_age, ages.max_age, 1, 1, ages.min_age, ages.min_age, _PREFLIGHT_TIMEOUT, 1)
    if workflow is None:
        triggers = snapshot.head.updated_channels if unknown else None
        return Registration(name, "", (), triggers or (), numbers, now)
    policy = workflow.policy
    return Registration(name, policy.version or "", tuple(policy.accepts), own_triggers(workflow.graph), numbers, now)


async def _judge_by_graph(
    session: Session, seen: Assessment, request: AttemptRequest, *, registered: bool
) -> Judgement:
    """Ask values and graph as preflight does, on a session that cannot write."""
    if not needs_graph(seen.judgement):
        return seen.judgement
    if not registered:
        head = replace(seen.snapshot.head, metadata_run=None)
        seen = replace(seen, snapshot=replace(seen.snapshot, head=head))
    await session.execute("select set_config('default_transaction_read_only', 'on', false)")
    saver = FencedSaver(session, seen.snapshot.head.checkpoint_id, request.workflow.policy.serde)
    result = await run_preflight(saver, seen, request)
    if not isinstance(result, Approved):
        return result
    return await _find_waiting(session, seen.snapshot, saver.serde) or seen.judgement


async def _judge_by_rows(session: Session, seen: Assessment, *, unknown: bool) -> Judgement:
    """Judge by rows alone, and by what was asked and answered, as far as LangGraph's own serializer loads that."""
    judgement, head = seen.judgement, seen.snapshot.head
    if not needs_graph(judgement) or head.unapplied:
        return judgement
    if judgement.verdict in RESUMABLE and (
        waiting := await _find_waiting(session, seen.snapshot, JsonPlusSerializer())
    ):
        return waiting
    if unknown:
        return replace(judgement, reason=f"{judgement.reason}; what starts its nodes {_ONLY_A_GRAPH}")
    if head.updated_channels is None:
        return replace(judgement, reason=f"{judgement.reason}; whether anything is left to run {_ONLY_A_GRAPH}")
    return replace(judgement, reason=f"{judgement.reason}; whether it stands at a breakpoint {_ONLY_A_GRAPH}")


async def _find_waiting(session: Session, snapshot: ThreadSnapshot, serde: SerializerProtocol) -> Judgement | None:
    """Return `waiting` where a person has to answer; the application goes on with LangGraph's own saver."""
    if snapshot.head.unapplied or not any(row.channel == INTERRUPT for row in snapshot.rows):
        return None
    rows = await interrupts.interrupt_rows(session, snapshot.head.thread_id, snapshot.head.checkpoint_id)
    try:
        loads = [await asyncio.to_thread(load_interrupt_row, serde, row) for row in rows]
    except Exception:  # noqa: BLE001 - whatever another serializer's values raise here
        return Judgement(Verdict.WAITING, _UNREADABLE)
    match = match_answers(loads, plainly=True)
    return match if isinstance(match, Judgement) else None
