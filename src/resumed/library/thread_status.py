"""Tells applications where threads stand: by their rows and the rules of the daemon, with or without the graph."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from resumed.judge.checkpoint_id import first_at, made_at
from resumed.judge.verdict import Ages, ThreadSnapshot
from resumed.library.event_loop import run_sync
from resumed.library.thread_judgement import NO_AGES, judge_thread, workflow_of
from resumed.model import RESUMABLE, Judgement, Verdict
from resumed.store import checkpoints, runs, schema, watermark
from resumed.store.connection import Session, Target, open_session
from resumed.store.database_errors import explaining
from resumed.workflows.loaded_workflow import LoadedWorkflow

_PAGE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class WorkflowCheckpoint:
    """Where a thread stands.

    Attributes:
        thread_id: The thread.
        checkpoint_id: Its newest root checkpoint.
        version: The version of the checkpoint's format, as LangGraph wrote it.
        created_at: When that checkpoint was made, by its process's clock, in UTC; None where its id tells no time.
        is_complete: Nothing is left to run.
        verdict: One of the verdicts of docs/verdicts.md, as far as rows tell where no graph was passed.
        workflow: The workflow that the thread's metadata names; None where it names none.
        reason: A sentence that explains the verdict, and names what only the graph can tell where none was passed.
    """

    thread_id: str
    checkpoint_id: str
    version: str
    created_at: datetime | None
    is_complete: bool
    verdict: str
    workflow: str | None
    reason: str = ""


def find_failed_workflows(
    connection_string: str,
    min_age_minutes: float = 5,
    max_age_hours: float = 24,
    limit: int | None = None,
    *,
    graph: Any = None,
) -> list[WorkflowCheckpoint]:
    """Find threads that died: `failed` or `stopped`, the longest quiet first.

    Args:
        connection_string: Where LangGraph's tables are.
        min_age_minutes: Minutes for which a thread has saved nothing. Default: 5.
        max_age_hours: Hours; threads that have been quiet for longer are left out. Default: 24.
        limit: The most threads to return. Default: all.
        graph: The compiled graph of these threads, or a `Workflow` that holds it: it is asked about each of them as the
            daemon would, and threads that stand at a breakpoint, or that it cannot take, are left out. Nothing is run.
            Default: by rows alone.

    Raises:
        DatabaseError: The database cannot be reached or used.
    """
    return run_sync(afind_failed_workflows(connection_string, min_age_minutes, max_age_hours, limit, graph=graph))


async def afind_failed_workflows(
    connection_string: str,
    min_age_minutes: float = 5,
    max_age_hours: float = 24,
    limit: int | None = None,
    *,
    graph: Any = None,
) -> list[WorkflowCheckpoint]:
    """Find threads that died, as `find_failed_workflows` does."""
    workflow = workflow_of(graph)
    ages = Ages(timedelta(minutes=min_age_minutes), timedelta(hours=max_age_hours))
    async with reading_session(connection_string) as session:
        now = await watermark.database_clock(session)
        window = first_at(now - ages.max_age), first_at(now - ages.min_age)
        seen: dict[str, None] = {}
        async for page in checkpoints.window_pages(session, window, _PAGE_ROWS):
            seen |= dict.fromkeys(page.threads)
        threads = list(seen)
        found: list[WorkflowCheckpoint] = []
        for start in range(0, len(threads), _PAGE_ROWS):
            statuses = await _statuses(session, threads[start : start + _PAGE_ROWS], workflow, ages)
            found += [status for status in statuses if status.verdict in RESUMABLE]
    ordered = sorted(found, key=lambda status: (status.created_at or now, status.thread_id))
    return ordered if limit is None else ordered[:limit]


def get_checkpoint_status(thread_id: str, dsn: str, *, graph: Any = None) -> WorkflowCheckpoint | None:
    """Return where a thread stands; None where it has no checkpoint. Raises DatabaseError.

    With `graph`, the thread's compiled graph or a `Workflow` that holds it, it is judged as the daemon would. Without
    it `reason` names what only the graph can tell.
    """
    return run_sync(aget_checkpoint_status(thread_id, dsn, graph=graph))


async def aget_checkpoint_status(thread_id: str, dsn: str, *, graph: Any = None) -> WorkflowCheckpoint | None:
    """Return where a thread stands, as `get_checkpoint_status` does."""
    workflow = workflow_of(graph)
    async with reading_session(dsn) as session:
        return next(iter(await _statuses(session, [thread_id], workflow, NO_AGES)), None)


def needs_resume(thread_id: str, dsn: str, *, graph: Any = None) -> bool:
    """Return whether a thread died with work left, and is not running: `failed` or `stopped`. Raises DatabaseError.

    Without `graph` a thread that stands at a breakpoint cannot be told from one that died.
    """
    return run_sync(aneeds_resume(thread_id, dsn, graph=graph))


async def aneeds_resume(thread_id: str, dsn: str, *, graph: Any = None) -> bool:
    """Return whether a thread died with work left, as `needs_resume` does."""
    status = await aget_checkpoint_status(thread_id, dsn, graph=graph)
    return status is not None and status.verdict in RESUMABLE


@asynccontextmanager
async def reading_session(dsn: str) -> AsyncIterator[Session]:
    """Open a session that sees every row; what it cannot see must not be taken for what is not there.

    Raises DatabaseError for whatever the database refuses.
    """
    with explaining():
        async with open_session(Target(dsn), "resumed library") as session:
            await schema.require_visible(session)
            yield session


async def read_snapshots(session: Session, threads: Sequence[str]) -> dict[str, ThreadSnapshot]:
    """Read where threads stand; with their registered runs, where the database has our schema."""
    if await runs.has_table(session):
        return await checkpoints.snapshots(session, threads)
    return await checkpoints.threads_without_run(session, threads)


async def _statuses(
    session: Session, threads: Sequence[str], workflow: LoadedWorkflow | None, ages: Ages
) -> list[WorkflowCheckpoint]:
    read = await read_snapshots(session, threads)
    heads = {thread: snapshot.head.checkpoint_id for thread, snapshot in read.items() if snapshot.head.checkpoint_id}
    snapshots = {thread: read[thread] for thread in heads}
    formats = await checkpoints.formats(session, heads)
    versions = {thread: found.version for thread, found in formats.items()}
    judgements = await judge_thread(session, snapshots, workflow, ages)
    return [_status(snapshots[thread], judgement, versions.get(thread, "")) for thread, judgement in judgements.items()]


def _status(snapshot: ThreadSnapshot, judgement: Judgement, version: str) -> WorkflowCheckpoint:
    head = snapshot.head
    return WorkflowCheckpoint(
        thread_id=head.thread_id,
        checkpoint_id=head.checkpoint_id,
        version=version,
        created_at=made_at(head.checkpoint_id),
        is_complete=judgement.verdict is Verdict.FINISHED,
        verdict=judgement.verdict.value,
        workflow=head.metadata_workflow or head.metadata_graph,
        reason=judgement.reason,
    )
