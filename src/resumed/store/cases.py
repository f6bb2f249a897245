"""Owns the table of cases. A write names the state it assumes, or the revision it saw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from psycopg.rows import DictRow

from resumed.judge.case import CaseUpdate
from resumed.judge.retry_policy import Tally
from resumed.judge.verdict import control_part
from resumed.model import Case, Registration, State, Verdict
from resumed.store import text_encoding
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("cases")


@dataclass(frozen=True, slots=True)
class AttemptOutcomeFields:
    """What only the holder of the lock can say of a case.

    `consecutive` is the new count of charged attempts without progress; `refused_by` the version whose preflight
    refused this head, with the verdict of the standing; `spent_by` the version that has used up its attempts; `own`
    that an attempt of ours left the head where it stands; `suspect` that the attempt ended with its worker, or did not.
    """

    consecutive: int | None = None
    refused_by: str | None = None
    spent_by: str | None = None
    own: bool = False
    suspect: bool | None = None


_NOTHING_MORE = AttemptOutcomeFields()


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What can be taken of one workflow: at most `room` cases, either suspects or none of them."""

    registration: Registration
    room: int
    suspects: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A due case that was handed to this replica."""

    thread_id: str
    workflow: str
    version: str | None
    due_at: datetime


async def of_threads(session: Session, threads: Sequence[str]) -> dict[str, Case]:
    """Read the cases of these threads, closed ones too."""
    cursor = await session.execute(_SQL["of_threads"], {"threads": list(threads)})
    return {row["thread_id"]: _case(row) async for row in cursor}


async def to_look_at(session: Session, now: datetime, rows: int) -> list[str]:
    """Name the threads whose case is to be looked at again, the one that waits longest first."""
    cursor = await session.execute(_SQL["to_look_at"], {"now": now, "rows": rows})
    return [row["thread_id"] async for row in cursor]


async def listing(session: Session, state: str | None = None) -> list[Case]:
    """Read the open cases, oldest first, of one state where one is named."""
    cursor = await session.execute(_SQL["listing"], {"state": state})
    return [_case(row) async for row in cursor]


async def record(session: Session, standings: Sequence[tuple[CaseUpdate, Case | None]], now: datetime) -> None:
    """Write what a look found, each over the case as the look saw it; a case that moved since is left alone."""
    async with session.cursor() as cursor:
        await cursor.executemany(
            _SQL["record"], [_recorded(session, standing, known, now) for standing, known in standings]
        )


async def claim(
    session: Session, wanted: Sequence[ClaimRequest], claimant: str, rows: int, due_by: datetime | None = None
) -> list[Claimed]:
    """Hand out at most `rows` cases that were due by then, of what is wanted: the workflows in turn, oldest first."""
    pairs = {(one.registration.name, kind) for one in wanted for kind in _accepted(one.registration)}
    parameters = {
        "workflows": [one.registration.name for one in wanted],
        "versions": [one.registration.version for one in wanted],
        "suspects": [one.suspects for one in wanted],
        "rooms": [one.room for one in wanted],
        "acceptors": [name for name, _ in pairs],
        "accepted": [version for _, version in pairs],
    }
    cursor = await session.execute(_SQL["claim"], {**parameters, "rows": rows, "claimant": claimant, "due_by": due_by})
    claimed = [Claimed(**row) async for row in cursor]
    return sorted(claimed, key=lambda one: one.due_at)


async def any_due(session: Session, wanted: Sequence[ClaimRequest], due_by: datetime | None = None) -> bool:
    """Say whether any case of what is wanted was due by then; whoever claims may still find that it is not."""
    parameters = {
        "workflows": [one.registration.name for one in wanted],
        "suspects": [one.suspects for one in wanted],
        "due_by": due_by,
    }
    return await (await session.execute(_SQL["any_due"], parameters)).fetchone() is not None


async def still_claimed(session: Session, threads: Sequence[str], claimant: str) -> list[str]:
    """Give those of the threads that were claimed and that no attempt has given back."""
    cursor = await session.execute(_SQL["still_claimed"], {"threads": list(threads), "claimant": claimant})
    return [row["thread_id"] async for row in cursor]


async def unclaim(session: Session, threads: Sequence[str], claimant: str) -> None:
    """Give back cases that were claimed and not tried."""
    await session.execute(_SQL["unclaim"], {"threads": list(threads), "claimant": claimant})


async def postpone(session: Session, thread_id: str, delay: timedelta) -> None:
    """Make a due case due later, for a reason that is not its own."""
    await session.execute(_SQL["postpone"], {"thread": thread_id, "delay": delay})


async def make_due(session: Session, standing: CaseUpdate, claimant: str, *, pinned: bool) -> bool:
    """Make a case due because a person asks: out of back-off and quarantine, its tries given back, claimed by us.

    `pinned` says that the person knew of another one's quarantine. False where somebody has forbidden it meanwhile.
    """
    parameters = {**_columns(session, standing), "claimant": claimant, "pinned": pinned}
    return await (await session.execute(_SQL["make_due"], parameters)).fetchone() is not None


async def settle_attempt(session: Session, standing: CaseUpdate, extra: AttemptOutcomeFields = _NOTHING_MORE) -> None:
    """Write what was said under the thread's lock."""
    await session.execute(_SQL["settle"], {**_columns(session, standing), **asdict(extra)})


async def begin_attempt(session: Session, standing: CaseUpdate) -> Tally | None:
    """Mark the case as being tried, and count the attempt; None where a person has forbidden it since the look."""
    row = await (await session.execute(_SQL["begin"], _columns(session, standing))).fetchone()
    return Tally(row["attempts"], row["consecutive"]) if row else None


def _accepted(registration: Registration) -> tuple[str, ...]:
    return registration.version, *registration.accepts


def _columns(session: Session, standing: CaseUpdate) -> dict[str, object]:
    return {
        "thread_id": standing.thread_id,
        "workflow": standing.workflow,
        "version": standing.version,
        "verdict": standing.judgement.verdict.value,
        "reason": text_encoding.fitting_text(session, standing.judgement.reason),
        "state": standing.placement.state.value,
        "head": standing.head,
        "fingerprint": standing.fingerprint,
        "last_activity_at": standing.last_activity_at,
        "due_at": standing.placement.due_at,
        "next_look_at": standing.placement.next_look_at,
        "quarantine_reason": text_encoding.fitting_text(session, standing.placement.quarantine_reason),
    }


def _recorded(session: Session, standing: CaseUpdate, known: Case | None, now: datetime) -> dict[str, object]:
    before = known if known is not None and known.head == standing.head else None
    same = before is not None and before.fingerprint == standing.fingerprint
    unchanged = before is not None and control_part(before.fingerprint) == control_part(standing.fingerprint)
    kept = before.changed_at if before is not None and unchanged else None
    return {
        **_columns(session, standing),
        "now": now,
        "same": same,
        "changed_at": now if before is not None and not unchanged else kept,
        "anew": known is not None and known.state is State.CLOSED,
        "revision": known.revision if known is not None else -1,
    }


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
