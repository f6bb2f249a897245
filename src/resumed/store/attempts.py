"""Owns the table of attempts: append only, written by the session that holds the thread's lock."""

from collections.abc import Sequence
from dataclasses import replace

from psycopg.rows import DictRow

from resumed.judge.circuit_breaker import WINDOW, CircuitRecord, RecentAttempt
from resumed.judge.retry_policy import is_charged
from resumed.model import Attempt, Ending, Outcome
from resumed.store import text_encoding
from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("attempts")


async def start(session: Session, attempt: Attempt) -> Attempt:
    """Record that an attempt begins; return it with its number and the database's time."""
    parameters = {
        "thread_id": attempt.thread_id,
        "workflow": attempt.workflow,
        "version": attempt.version,
        "worker": attempt.worker,
        "before": attempt.before,
    }
    row = await one_row(session, _SQL["start"], parameters)
    return replace(attempt, attempt=row["attempt"], started_at=row["started_at"])


async def finish(session: Session, attempt: Attempt, ending: Ending, closer: str | None = None) -> Attempt | None:
    """Record how an attempt ended and who closed it (None: its worker). Return None where it was closed before."""
    parameters = {
        "thread_id": attempt.thread_id,
        "attempt": attempt.attempt,
        "closed_by": closer or attempt.worker,
        "outcome": ending.outcome.value,
        "advanced": ending.advanced,
        "charged": is_charged(ending),
        "after": ending.after,
        "error_type": text_encoding.fit_text(session, ending.error_type),
        "error_at": text_encoding.fit_text(session, ending.error_at),
        "error": text_encoding.fit_text(session, ending.error),
    }
    row = await (await session.execute(_SQL["finish"], parameters)).fetchone()
    return _attempt(row) if row else None


async def get_open(session: Session, thread_id: str) -> Attempt | None:
    """Read the attempt that was left open on a thread."""
    row = await (await session.execute(_SQL["open"], {"thread": thread_id})).fetchone()
    return _attempt(row) if row else None


async def find_orphans(session: Session, excepted: Sequence[str], rows: int) -> list[Attempt]:
    """Find open attempts whose thread's lock is free, the `excepted` threads left out."""
    cursor = await session.execute(_SQL["orphans"], {"except": list(excepted), "rows": rows})
    return [_attempt(row) async for row in cursor]


async def circuit_records(session: Session, workflows: Sequence[str]) -> dict[str, CircuitRecord]:
    """Read of each workflow the last attempts that count for its circuit, of all replicas."""
    parameters = {"workflows": list(workflows), "rows": WINDOW}
    ended: dict[str, list[RecentAttempt]] = {name: [] for name in workflows}
    async for row in await session.execute(_SQL["recent"], parameters):
        ended[row.pop("workflow")].append(RecentAttempt(**row))
    cursor = await session.execute(_SQL["open_by_workflow"], {"workflows": list(workflows)})
    still_open = {row["workflow"]: row["open"] async for row in cursor}
    return {name: CircuitRecord(tuple(found), still_open.get(name, 0)) for name, found in ended.items()}


async def of_thread(session: Session, thread_id: str) -> list[Attempt]:
    """Read all attempts on a thread, in their order."""
    cursor = await session.execute(_SQL["of_thread"], {"thread": thread_id})
    return [_attempt(row) async for row in cursor]


def _attempt(row: DictRow) -> Attempt:
    return Attempt(**{**row, "outcome": Outcome(row["outcome"]) if row["outcome"] else None})
