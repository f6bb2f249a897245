"""Owns the table of registered runs. An application's run is written by the session that holds its thread's lock."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from resumed.model import Verdict
from resumed.rows import Run
from resumed.store.connection import Cursor, Session, one_row
from resumed.store.locks import thread_key
from resumed.store.sql_files import load_sql

OPTIONS = "__options"
_SQL = load_sql("runs")
_ENDS = {
    Verdict.FINISHED: "finished",
    Verdict.WAITING: "waiting",
    Verdict.BREAKPOINT: "waiting",
    Verdict.EDITED: "waiting",
    Verdict.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as it is registered. `input` is its type and bytes, as LangGraph serialises values; None: continue.

    `call` are the scalars of the call's `configurable` and metadata, and under `OPTIONS` how the graph was called; no
    scalar has that name. For `rows_before` see `Run`.
    """

    run_id: str
    thread_id: str
    workflow: str
    version: str | None
    owner: str
    input: tuple[str, bytes] | None
    call: Mapping[str, Any]
    rows_before: str | None = None


@dataclass(frozen=True, slots=True)
class StoredCall:
    """The stored input of a run and the scalars of its call."""

    input: tuple[str, bytes]
    call: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LockAnswer:
    """The answer to a request for a thread's lock, and the thread's head then, empty for none."""

    said: str
    head: str | None


async def begin_run(session: Session, run: NewRun) -> LockAnswer:
    """Take the thread's lock and register the run: `begun`, `locked` (by another session) or `unfinished` (taken)."""
    return LockAnswer(**await one_row(session, _SQL["begin"], {**_columns(run), "key": thread_key(run.thread_id)}))


async def regain_run(session: Session, run_id: str, thread_id: str) -> LockAnswer:
    """Take the lock of one's own run again: `regained`, `locked` (by another session) or `gone`."""
    parameters = {"run_id": run_id, "thread_id": thread_id, "key": thread_key(thread_id)}
    return LockAnswer(**await one_row(session, _SQL["regain"], parameters))


async def release_run(session: Session, run_id: str, thread_id: str, state: str | None) -> bool:
    """Mark how a run ended (None: it has not) and release its thread's lock; return False where that was lost."""
    parameters = {"run_id": run_id, "key": thread_key(thread_id), "state": state}
    return bool((await one_row(session, _SQL["release"], parameters))["unlocked"])


async def submit(session: Session, run: NewRun) -> bool:
    """Store a run for the daemon to begin; return False where the thread was submitted before or has an open run."""
    return await (await session.execute(_SQL["submit"], _columns(run))).fetchone() is not None


async def was_submitted(session: Session, thread_id: str) -> bool:
    """Return whether a run of the thread was ever submitted."""
    return await (await session.execute(_SQL["was_submitted"], {"thread": thread_id})).fetchone() is not None


async def unended_runs(session: Session, threads: Sequence[str]) -> dict[str, Run]:
    """Read the runs of these threads that have not ended; a thread has one at most."""
    return await fetch_unended_runs(await select_unended_runs(session, threads))


async def select_unended_runs(session: Session, threads: Sequence[str]) -> Cursor:
    """Ask for the runs of these threads that have not ended; in a pipeline the answer comes later."""
    return await session.execute(_SQL["unended"], {"threads": list(threads)})


async def fetch_unended_runs(cursor: Cursor) -> dict[str, Run]:
    """Return what `select_unended_runs` has asked for, by thread."""
    return {row["thread_id"]: Run(**row) async for row in cursor}


async def has_table(session: Session) -> bool:
    """Return whether the database has our schema, with registered runs."""
    return bool((await one_row(session, _SQL["has_table"]))["has_table"])


async def abandoned_runs(session: Session, rows: int) -> AsyncIterator[list[str]]:
    """Find the threads of all open runs whose lock is free and that no case has taken up, `rows` at a time.

    A page may be worked off, and its transaction committed, before the next one is asked for.
    """
    after = ""
    while True:
        cursor = await session.execute(_SQL["abandoned"], {"after": after, "rows": rows})
        page = [row["thread_id"] async for row in cursor]
        if page:
            yield page
        if len(page) < rows:
            return
        after = page[-1]


async def stored_call(session: Session, run_id: str) -> StoredCall | None:
    """Read what the run was called with; None where its input is no longer there."""
    row = await (await session.execute(_SQL["input"], {"run_id": run_id})).fetchone()
    return StoredCall((row["input_type"], row["input"]), row["call"]) if row and row["input_type"] else None


async def options(session: Session, thread_id: str, run_id: str) -> object:
    """Read how a run, ended or not, called its graph; None where that was not stored, or the run is not on record."""
    parameters = {"thread": thread_id, "run_id": run_id, "name": OPTIONS}
    row = await (await session.execute(_SQL["options"], parameters)).fetchone()
    return row["options"] if row is not None else None


def state_at_end(verdict: Verdict) -> str | None:
    """Return the state in which a run ends whose thread has finished, waits for a person or is cancelled."""
    return _ENDS.get(verdict)


async def settle_run(session: Session, run: Run | None, verdict: Verdict) -> None:
    """End a run whose thread has finished, waits for a person or is cancelled; leave it open otherwise."""
    if run is not None and (state := state_at_end(verdict)) is not None:
        await end(session, run.run_id, state)


async def end(session: Session, run_id: str, state: str) -> None:
    """Mark a run that has not ended as `finished`, `waiting`, `failed` or `cancelled`."""
    await session.execute(_SQL["end"], {"run_id": run_id, "state": state})


async def adopt_run(session: Session, run_id: str, new: NewRun, head: str) -> None:
    """Continue a run that had died in a new call, under its thread's lock; `head` is the thread's, empty for none.

    What the new call says of itself goes before what the old one said; its options take the place of the old one's.
    A submitted run begins now: `rows_before` of the new call counts for it, see `Run`.
    """
    parameters = {"owner": new.owner, "head": head, "call": Jsonb(dict(new.call)), "name": OPTIONS}
    await session.execute(_SQL["adopt"], {"run_id": run_id, "rows_before": new.rows_before, **parameters})


async def cancel(session: Session, thread_id: str) -> bool:
    """End the thread's open run as cancelled; its process notices. Return False where there is none."""
    return await (await session.execute(_SQL["cancel"], {"thread": thread_id})).fetchone() is not None


async def cancel_head(session: Session, thread_id: str, workflow: str, head: str) -> None:
    """Mark the head at which a cancelled run has stopped as cancelled: it is never resumed."""
    await session.execute(_SQL["cancel_head"], {"thread": thread_id, "workflow": workflow, "head": head})


async def find_lost(session: Session, run_ids: Sequence[str]) -> dict[str, str]:
    """Map those of these runs that their application has lost to their state: `cancelled`, or `taken` by a daemon."""
    cursor = await session.execute(_SQL["lost"], {"runs": list(run_ids)})
    return {row["run_id"]: row["state"] async for row in cursor}


def _columns(run: NewRun) -> dict[str, object]:
    kind, value = run.input if run.input is not None else (None, None)
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "workflow": run.workflow,
        "version": run.version,
        "owner": run.owner,
        "input_type": kind,
        "input": value,
        "call": Jsonb(dict(run.call)),
        "rows_before": run.rows_before,
    }
