"""Owns the table of attempts: append only, written by the session that holds the thread's lock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg.rows import DictRow

from resumed.judge.case import AttemptOutcomeFields, CaseUpdate, begin_case, settle_case
from resumed.judge.circuit_breaker import WINDOW, CircuitRecord, RecentAttempt
from resumed.judge.retry_policy import Tally, is_charged
from resumed.model import Attempt, Case, Ending, Outcome
from resumed.rows import AttemptOrigin, Run
from resumed.store import cases, runs, text_encoding
from resumed.store.connection import Cursor, Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("attempts")


async def begin(
    session: Session, blank: Attempt, update: CaseUpdate, rows_before: str | None, *, known: Case | None, now: datetime
) -> tuple[Attempt, Tally] | None:
    """Mark the case as running, record that an attempt begins and take the thread's run, all at once.

    `known` is the case as it was read under the thread's lock, None where there was none; for `rows_before` see `Run`.
    Returns the attempt with its number and the database's time, and how often the thread was tried; None where a
    person has forbidden it since the look.
    """
    parameters = {
        "attempt_workflow": blank.workflow,
        "attempt_version": blank.version,
        "worker": blank.worker,
        "before": blank.before,
        "rows_before": rows_before,
        **cases.KEEPING_CLAIM,
    }

    async def write(case: Case) -> DictRow | None:
        return await (
            await session.execute(_SQL["begin"], {**cases.case_columns(session, case), **parameters})
        ).fetchone()

    begun = await cases.write_over(
        session, blank.thread_id, known, lambda current: begin_case(current, update, now), write
    )
    if begun is None:
        return None
    case, row = begun
    attempt = replace(blank, attempt=row["attempt"], started_at=row["started_at"])
    return attempt, Tally(case.attempts, case.consecutive)


async def finish(session: Session, attempt: Attempt, ending: Ending, closer: str | None = None) -> Attempt | None:
    """Record how an attempt ended and who closed it (None: its worker). Return None where it was closed before."""
    row = await (await session.execute(_SQL["finish"], _end_columns(session, attempt, ending, closer))).fetchone()
    return _attempt(row) if row else None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What an attempt leaves, beside its own row: its thread's case, and the run with its new state where it ends.

    `known` is the case as it was read under the thread's lock, at the database's time `now`.
    """

    update: CaseUpdate
    fields: AttemptOutcomeFields
    known: Case | None
    now: datetime
    run: Run | None


async def conclude(session: Session, attempt: Attempt, ending: Ending, conclusion: Conclusion) -> Attempt | None:
    """Record how an attempt ended with all that it leaves, and release the claim. None where it was closed before."""
    run_state = runs.state_at_end(conclusion.update.judgement.verdict)
    parameters = {
        **_end_columns(session, attempt, ending),
        "run_id": conclusion.run.run_id if conclusion.run is not None and run_state is not None else None,
        "run_state": run_state,
        **cases.RELEASING_CLAIM,
    }

    def decide(current: Case | None) -> Case | None:
        if current is None:
            return None
        return settle_case(current, conclusion.update, conclusion.fields, conclusion.now)

    async def write(case: Case) -> DictRow | None:
        cursor = await session.execute(_SQL["conclude"], {**cases.case_columns(session, case), **parameters})
        row = await cursor.fetchone()
        return row if row is not None and (row["thread_id"] is not None or not row["is_open"]) else None

    written = await cases.write_over(session, attempt.thread_id, conclusion.known, decide, write)
    if written is None:  # its case was deleted
        async with session.transaction():
            await runs.settle_run(session, conclusion.run, conclusion.update.judgement.verdict)
            return await finish(session, attempt, ending)
    row = written[1]
    return _attempt(row) if row.pop("is_open") else None


async def select_open(session: Session, thread_id: str) -> Cursor:
    """Ask for the attempt that was left open on a thread; in a pipeline the answer comes later."""
    return await session.execute(_SQL["open"], {"thread": thread_id})


async def fetch_open(cursor: Cursor) -> Attempt | None:
    """Return what `select_open` has asked for."""
    row = await cursor.fetchone()
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


async def origins(session: Session, ended: Sequence[Attempt]) -> dict[tuple[str, int], AttemptOrigin]:
    """Read what these attempts went on with, by thread and number."""
    parameters = {
        "threads": [attempt.thread_id for attempt in ended],
        "attempts": [attempt.attempt for attempt in ended],
        "before": [attempt.before for attempt in ended],
        "after": [attempt.after for attempt in ended],
    }
    cursor = await session.execute(_SQL["origins"], parameters)
    return {(row.pop("thread_id"), row.pop("attempt")): AttemptOrigin(**row) async for row in cursor}


def _end_columns(session: Session, attempt: Attempt, ending: Ending, closer: str | None = None) -> dict[str, object]:
    return {
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


def _attempt(row: DictRow) -> Attempt:
    return Attempt(**{**row, "outcome": Outcome(row["outcome"]) if row["outcome"] else None})
