"""Writes to cases and attempts as a worker makes them, over the case as it is read now, at the database's time."""

from dataclasses import replace
from datetime import UTC, datetime

from resumed.judge.case import AttemptOutcomeFields, CaseUpdate
from resumed.judge.retry_policy import Tally
from resumed.model import Attempt
from resumed.store import attempts, cases
from resumed.store.connection import Session, one_row
from resumed.store.watermark import database_clock


async def settle(session: Session, update: CaseUpdate, fields: AttemptOutcomeFields | None = None) -> None:
    known = (await cases.of_threads(session, [update.thread_id])).get(update.thread_id)
    await cases.settle_attempt(session, update, fields, known=known, now=await database_clock(session))


async def begin(session: Session, update: CaseUpdate) -> Tally | None:
    """Begin an attempt for what it writes into the case; the attempt itself is taken away again."""
    begun = await begin_attempt(session, update)
    await session.execute("delete from resumed.attempts where thread_id = %s", [update.thread_id])
    return begun[1] if begun is not None else None


async def begin_attempt(session: Session, update: CaseUpdate) -> tuple[Attempt, Tally] | None:
    known = (await cases.of_threads(session, [update.thread_id])).get(update.thread_id)
    now = await database_clock(session)
    return await attempts.begin(session, blank_attempt(update), update, None, known=known, now=now)


def blank_attempt(update: CaseUpdate) -> Attempt:
    return Attempt(
        thread_id=update.thread_id, attempt=0, workflow=update.workflow or "", version="1", worker="w",
        started_at=datetime.now(UTC), finished_at=None, outcome=None, advanced=False, before=update.head, after=None,
        error_type=None, error_at=None, error=None,
    )  # fmt: skip


async def start(session: Session, blank: Attempt) -> Attempt:
    """Record an open attempt and nothing else, whatever its case says."""
    row = await one_row(
        session,
        b"insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, before)"
        b" select %(thread_id)s::text, coalesce(max(attempt), 0) + 1, %(workflow)s::text, %(version)s::text,"
        b" %(worker)s::text, clock_timestamp(), %(before)s::text from resumed.attempts"
        b" where thread_id = %(thread_id)s::text returning attempt, started_at",
        {name: getattr(blank, name) for name in ("thread_id", "workflow", "version", "worker", "before")},
    )
    return replace(blank, attempt=row["attempt"], started_at=row["started_at"])
