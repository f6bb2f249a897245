"""Says where threads stand, for applications: by the rows and by the rules of the daemon, without any registration."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.checkpoint_id import first_at, made_at
from resumed.judge.verdict import Ages, Sighting
from resumed.library.judging import NO_AGES, judged
from resumed.library.loop import run_sync
from resumed.model import Verdict
from resumed.store import checkpoints, locks, runs, schema, watermarks
from resumed.store.connect import Session, Target, opened
from resumed.store.faults import explained

_PAGE_ROWS = 5000
_RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)


@dataclass(frozen=True, slots=True)
class WorkflowCheckpoint:
    """Where a thread stands.

    Attributes:
        thread_id: The thread.
        checkpoint_id: Its newest root checkpoint.
        version: The version of the checkpoint's format, as LangGraph wrote it.
        created_at: When that checkpoint was made, by the clock of who made it, in UTC; None where its id tells no time.
        is_complete: Nothing is left to run.
        verdict: One of the verdicts of docs/verdicts.md, as rows alone tell it: breakpoints need the graph.
        workflow: The workflow that the thread's metadata names; None where it names none.
    """

    thread_id: str
    checkpoint_id: str
    version: str
    created_at: datetime | None
    is_complete: bool
    verdict: str
    workflow: str | None


def find_failed_workflows(
    connection_string: str, min_age_minutes: float = 5, max_age_hours: float = 24, limit: int | None = None
) -> list[WorkflowCheckpoint]:
    """Find threads that died: `failed` or `stopped`, the longest quiet first.

    Args:
        connection_string: Where LangGraph's tables are.
        min_age_minutes: Minutes for which a thread has saved nothing. Default: 5.
        max_age_hours: Hours; threads that have been quiet for longer are left out. Default: 24.
        limit: At most so many. Default: all.

    Raises:
        DatabaseError: The database cannot be reached or used.
    """
    return run_sync(afind_failed_workflows(connection_string, min_age_minutes, max_age_hours, limit))


async def afind_failed_workflows(
    connection_string: str, min_age_minutes: float = 5, max_age_hours: float = 24, limit: int | None = None
) -> list[WorkflowCheckpoint]:
    """Find threads that died, as `find_failed_workflows` does."""
    ages = Ages(timedelta(minutes=min_age_minutes), timedelta(hours=max_age_hours))
    async with looking(connection_string) as session:
        now = await watermarks.clock(session)
        threads = await _in_window(session, first_at(now - ages.max_age), first_at(now - ages.min_age))
        found: list[WorkflowCheckpoint] = []
        for start in range(0, len(threads), _PAGE_ROWS):
            statuses = await _statuses(session, threads[start : start + _PAGE_ROWS], ages)
            found += [one for one in statuses if one.verdict in _RESUMABLE]
    ordered = sorted(found, key=lambda one: (one.created_at or now, one.thread_id))
    return ordered if limit is None else ordered[:limit]


def get_checkpoint_status(thread_id: str, dsn: str) -> WorkflowCheckpoint | None:
    """Say where a thread stands; None where it has no checkpoint. Raises DatabaseError."""
    return run_sync(aget_checkpoint_status(thread_id, dsn))


async def aget_checkpoint_status(thread_id: str, dsn: str) -> WorkflowCheckpoint | None:
    """Say where a thread stands, as `get_checkpoint_status` does."""
    async with looking(dsn) as session:
        return next(iter(await _statuses(session, [thread_id], NO_AGES)), None)


def needs_resume(thread_id: str, dsn: str) -> bool:
    """Say whether a thread died with work left, and nobody is at it: `failed` or `stopped`. Raises DatabaseError."""
    return run_sync(aneeds_resume(thread_id, dsn))


async def aneeds_resume(thread_id: str, dsn: str) -> bool:
    """Say whether a thread died with work left, as `needs_resume` does."""
    status = await aget_checkpoint_status(thread_id, dsn)
    return status is not None and status.verdict in _RESUMABLE


@asynccontextmanager
async def looking(dsn: str) -> AsyncIterator[Session]:
    """Open a session that sees every row; what it cannot see must not be taken for what is not there.

    Raises DatabaseError for whatever the database refuses.
    """
    with explained():
        async with opened(Target(dsn), "resumed library") as session:
            await schema.require_visible(session)
            yield session


async def sighting(session: Session, threads: Sequence[str]) -> dict[str, Sighting]:
    """Read where threads stand; with their registered runs, where the database has our schema."""
    if await runs.have(session):
        return await checkpoints.sightings(session, threads)
    return await checkpoints.unregistered(session, threads)


async def _statuses(session: Session, threads: Sequence[str], ages: Ages) -> list[WorkflowCheckpoint]:
    found = {name: one for name, one in (await sighting(session, threads)).items() if one.head.checkpoint_id}
    now, held = await watermarks.clock(session), await locks.held(session, list(found))
    formats = await checkpoints.formats(session, {name: one.head.checkpoint_id for name, one in found.items()})
    return [
        _status(one, judged(one, now, held=name in held, ages=ages).verdict, formats.get(name, ""))
        for name, one in found.items()
    ]


def _status(found: Sighting, verdict: Verdict, version: str) -> WorkflowCheckpoint:
    head = found.head
    return WorkflowCheckpoint(
        thread_id=head.thread_id,
        checkpoint_id=head.checkpoint_id,
        version=version,
        created_at=made_at(head.checkpoint_id),
        is_complete=verdict is Verdict.FINISHED,
        verdict=verdict.value,
        workflow=head.metadata_workflow or head.metadata_graph,
    )


async def _in_window(session: Session, after: str, upper: str) -> list[str]:
    found: dict[str, None] = {}
    while True:
        page = await checkpoints.window_page(session, after, upper, _PAGE_ROWS)
        found |= dict.fromkeys(page.threads)
        if page.last_id is None or page.rows < _PAGE_ROWS:
            return list(found)
        after = page.last_id
