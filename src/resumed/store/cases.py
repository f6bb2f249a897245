"""Owns the table of cases.

What a case becomes is decided by `judge/case.py` from the row as it was read. The write names the revision of that row,
so that it cannot undo what another process has written since.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import DictRow

from resumed.judge.case import (
    AttemptOutcomeFields,
    CaseUpdate,
    make_case_due,
    record_look,
    settle_case,
)
from resumed.model import Case, Registration, State, Verdict
from resumed.store import case_commands, text_encoding
from resumed.store.connection import Cursor, Session, one_row
from resumed.store.slices import in_slices
from resumed.store.sql_files import load_sql
from resumed.store.watermark import database_clock

_SQL = load_sql("cases")
_FIELDS = tuple(Case.__dataclass_fields__)
_TEXTS = ("reason", "refusal_reason", "quarantine_reason")
_ROWS_A_WRITE = 250
# How a case is written, see `case_row` in the SQL.
KEEPING_CLAIM: Mapping[str, object] = {"claim": "keep", "claimant": None}
RELEASING_CLAIM: Mapping[str, object] = {"claim": "clear", "claimant": None}


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What may be claimed of one workflow: at most `room` cases, either suspects or none of them."""

    registration: Registration
    room: int
    suspects: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A due case that this replica has claimed."""

    thread_id: str
    workflow: str
    version: str | None
    due_at: datetime


async def of_threads(session: Session, threads: Sequence[str]) -> dict[str, Case]:
    """Read the cases of these threads, closed ones too."""
    return await fetch_cases(await select_cases(session, threads))


async def select_cases(session: Session, threads: Sequence[str]) -> Cursor:
    """Ask for the cases of these threads, closed ones too; in a pipeline the answer comes later."""
    return await session.execute(_SQL["of_threads"], {"threads": list(threads)})


async def fetch_cases(cursor: Cursor) -> dict[str, Case]:
    """Return what `select_cases` has asked for, by thread."""
    return {row["thread_id"]: _case(row) async for row in in_slices(await cursor.fetchall())}


async def find_due_looks(session: Session, now: datetime, rows: int) -> list[str]:
    """Return the threads whose next look is due, the longest waiting first."""
    cursor = await session.execute(_SQL["due_looks"], {"now": now, "rows": rows})
    return [row["thread_id"] async for row in cursor]


@dataclass(frozen=True, slots=True)
class AnsweredPage:
    """One page of the cases that wait for a person: how many, the last id (None: none), the threads with an answer."""

    rows: int
    last_id: str | None
    threads: tuple[str, ...]


async def find_answered(session: Session, after: str, rows: int) -> AnsweredPage:
    """Search the next `rows` cases that wait for a person, in the order of their ids, for answers on their heads."""
    row = await one_row(session, _SQL["answered"], {"after": after, "rows": rows})
    return AnsweredPage(row["rows"], row["last_id"], tuple(row["threads"]))


async def list_open(session: Session, state: str | None = None) -> list[Case]:
    """Read the open cases, oldest first; of one state unless `state` is None."""
    cursor = await session.execute(_SQL["open"], {"state": state})
    return [_case(row) async for row in cursor]


async def record(session: Session, looks: Sequence[tuple[CaseUpdate, Case | None]], now: datetime) -> set[str]:
    """Write what looks found, each over the case as that look read it; a case that was written since is left alone.

    Returns the threads whose case was written.
    """
    written: set[str] = set()
    for first in range(0, len(looks), _ROWS_A_WRITE):
        decided = [record_look(known, update, now) for update, known in looks[first : first + _ROWS_A_WRITE]]
        cursor = await session.execute(_SQL["write_all"], {**_many_columns(session, decided), **KEEPING_CLAIM})
        written |= {row["thread_id"] async for row in cursor}
    return written


async def claim(
    session: Session, wanted: Sequence[ClaimRequest], claimant: str, rows: int, due_by: datetime | None = None
) -> list[Claimed]:
    """Claim at most `rows` cases that were due by `due_by` (None: by now), workflows in turn, oldest first."""
    pairs = {(request.registration.name, version) for request in wanted for version in _accepted(request.registration)}
    parameters = {
        "workflows": [request.registration.name for request in wanted],
        "versions": [request.registration.version for request in wanted],
        "suspects": [request.suspects for request in wanted],
        "rooms": [request.room for request in wanted],
        "acceptors": [name for name, _ in pairs],
        "accepted": [version for _, version in pairs],
    }
    cursor = await session.execute(_SQL["claim"], {**parameters, "rows": rows, "claimant": claimant, "due_by": due_by})
    claimed = [Claimed(**row) async for row in cursor]
    return sorted(claimed, key=lambda case: case.due_at)


async def is_any_due(session: Session, wanted: Sequence[ClaimRequest], due_by: datetime | None = None) -> bool:
    """Return whether any case that is wanted was due by then; a claim may still find none that a version accepts."""
    parameters = {
        "workflows": [request.registration.name for request in wanted],
        "suspects": [request.suspects for request in wanted],
        "due_by": due_by,
    }
    return await (await session.execute(_SQL["any_due"], parameters)).fetchone() is not None


async def find_claimed(session: Session, threads: Sequence[str], claimant: str) -> list[str]:
    """Return those of the threads that this claimant still has claimed: no attempt has settled them."""
    cursor = await session.execute(_SQL["claimed"], {"threads": list(threads), "claimant": claimant})
    return [row["thread_id"] async for row in cursor]


async def release_claims(session: Session, threads: Sequence[str], claimant: str) -> None:
    """Release the claims on cases on which no attempt was made."""
    await session.execute(_SQL["release_claims"], {"threads": list(threads), "claimant": claimant})


async def postpone(session: Session, thread_id: str, delay: timedelta) -> None:
    """Delay a due case, for a reason that is not its own, and release the claim."""
    await session.execute(_SQL["postpone"], {"thread": thread_id, "delay": delay})


async def make_due(session: Session, update: CaseUpdate, claimant: str, *, known: Case | None, pinned: bool) -> bool:
    """Make a case due because a person asks: out of back-off and quarantine, its attempts allowed again, claimed by us.

    `known` is the case as it was read before; `pinned` says that the person knew of another one's quarantine. False
    where another person has forbidden it meanwhile.
    """
    now = await database_clock(session)

    def decide(current: Case | None) -> Case | None:
        return make_case_due(current, update, now, pinned=pinned)

    claiming = {"claim": "take", "claimant": claimant}
    return await write_over(session, update.thread_id, known, decide, _plain_write(session, claiming)) is not None


async def settle_attempt(
    session: Session,
    update: CaseUpdate,
    fields: AttemptOutcomeFields | None = None,
    *,
    known: Case | None,
    now: datetime,
) -> None:
    """Write what a look or an attempt under the thread's lock left, and release the claim. Makes no case.

    `known` is the case as it was read under that lock; None: it was not read.
    """

    def decide(current: Case | None) -> Case | None:
        return settle_case(current, update, fields or AttemptOutcomeFields(), now) if current is not None else None

    await write_over(session, update.thread_id, known, decide, _plain_write(session, RELEASING_CLAIM))


async def write_over(
    session: Session,
    thread_id: str,
    known: Case | None,
    decide: Callable[[Case | None], Case | None],
    write: Callable[[Case], Awaitable[DictRow | None]],
) -> tuple[Case, DictRow] | None:
    """Write the case that is decided from the one that was read before: one round trip where that is still current.

    `write` returns no row where it is not; the case is then locked, read and decided again. Returns what was written
    and the row that came back; None where the decision, or `write` of the current case, forbids it.
    """
    while True:
        decided = decide(known)
        if decided is not None and (row := await write(decided)) is not None:
            return decided, row
        current = await _lock_case(session, thread_id)
        if _revision(current) == _revision(known):
            return None
        known = current


def _plain_write(session: Session, how: Mapping[str, object]) -> Callable[[Case], Awaitable[DictRow | None]]:
    """Return how to write a case and nothing else."""

    async def write(case: Case) -> DictRow | None:
        return await (await session.execute(_SQL["write"], {**case_columns(session, case), **how})).fetchone()

    return write


async def _lock_case(session: Session, thread_id: str) -> Case | None:
    """Lock the case's row until the transaction ends, and read it; None where there is none."""
    await case_commands.lock(session, [thread_id])
    return (await of_threads(session, [thread_id])).get(thread_id)


def _accepted(registration: Registration) -> tuple[str, ...]:
    return registration.version, *registration.accepts


def _revision(case: Case | None) -> int:
    return case.revision if case is not None else 0


def case_columns(session: Session, case: Case) -> dict[str, Any]:
    """Return the parameters by which `case_row` in the SQL writes a case."""
    fields = {name: getattr(case, name) for name in _FIELDS}
    texts = {name: text_encoding.fit_text(session, fields[name]) for name in _TEXTS}
    return {**fields, **texts, "refused_by": list(case.refused_by), "spent_by": list(case.spent_by)}


def _many_columns(session: Session, decided: Sequence[Case]) -> dict[str, list[Any]]:
    """Turn cases into one list a column, as `write_all` takes them."""
    rows = [case_columns(session, case) for case in decided]
    columns = {name: [row[name] for row in rows] for name in _FIELDS}
    return {**columns, **{name: [_array_literal(row[name]) for row in rows] for name in ("refused_by", "spent_by")}}


def _array_literal(values: Sequence[str]) -> str:
    """Write an array of texts as Postgres reads it: arrays of different lengths cannot be passed in one."""
    quoted = (value.replace("\\", r"\\").replace('"', r"\"") for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _case(row: DictRow) -> Case:
    return Case(
        **{
            **row,
            "verdict": Verdict(row["verdict"]),
            "state": State(row["state"]),
            "refused_by": tuple(row["refused_by"]),
            "refusal": Verdict(row["refusal"]) if row["refusal"] else None,
            "spent_by": tuple(row["spent_by"]),
        }
    )
