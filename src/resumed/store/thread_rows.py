"""Reads all rows of one thread that an attempt is judged by, in one round trip."""

from dataclasses import dataclass
from datetime import datetime

from resumed.judge.registered_runs import with_registered_run
from resumed.judge.verdict import ThreadSnapshot
from resumed.model import Attempt, Case
from resumed.store import attempts, cases, checkpoints, locks, runs, watermark
from resumed.store.connection import Cursor, Session


@dataclass(frozen=True, slots=True)
class ThreadRows:
    """A thread as the database holds it at the time `now` of its clock.

    `snapshot` is None for a thread with neither checkpoint nor input, `case` for one that no sweep has recorded.
    """

    now: datetime
    snapshot: ThreadSnapshot | None
    case: Case | None


async def lock_thread(session: Session, thread_id: str) -> tuple[ThreadRows, Attempt | None] | None:
    """Take the thread's lock if it is free, and read what it protects: its rows and the attempt that was left open.

    Returns None where the lock is held elsewhere. Each statement sees what was committed before it, so the rows are
    those under the lock.
    """
    async with session.pipeline():
        asked = await locks.select_lock(session, thread_id)
        left_open = await attempts.select_open(session, thread_id)
        selected = await _select_rows(session, thread_id)
    locked, now = await locks.fetch_lock(asked)
    if not locked:
        return None
    return await _fetch_rows(thread_id, now, selected), await attempts.fetch_open(left_open)


async def read_thread(session: Session, thread_id: str) -> ThreadRows:
    """Read the thread's rows."""
    async with session.pipeline():
        clock = await watermark.select_clock(session)
        selected = await _select_rows(session, thread_id)
    return await _fetch_rows(thread_id, await watermark.fetch_clock(clock), selected)


async def _select_rows(session: Session, thread_id: str) -> tuple[Cursor, Cursor, Cursor]:
    threads = [thread_id]
    heads = await checkpoints.select_heads(session, threads)
    return heads, await runs.select_unended_runs(session, threads), await cases.select_cases(session, threads)


async def _fetch_rows(thread_id: str, now: datetime, selected: tuple[Cursor, Cursor, Cursor]) -> ThreadRows:
    heads, unended, case = selected
    head = (await checkpoints.fetch_heads(heads)).get(thread_id)
    run = (await runs.fetch_unended_runs(unended)).get(thread_id)
    return ThreadRows(now, with_registered_run(head, run), (await cases.fetch_cases(case)).get(thread_id))
