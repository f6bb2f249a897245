"""Rows, cases and circumstances with sensible defaults: a thread of `orders`, quiet for an hour, with work left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from langgraph.checkpoint.base.id import UUID

from resumed.judge.case import CaseUpdate, case_update, decide_verdict, place_case
from resumed.judge.verdict import ERROR, INTERRUPT, NULL_TASK, RESUME, Ages, Circumstances, ThreadSnapshot
from resumed.judge.workflow_match import WorkflowMatch
from resumed.model import Case, PolicyLimits, Registration, State, Verdict
from resumed.rows import ControlRow, Head

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MIN_AGE = timedelta(minutes=5)
MAX_AGE = timedelta(hours=24)
QUIET_AT = NOW - timedelta(hours=1)
SECOND = timedelta(seconds=1)
TASK = "6f9f5c2e-0b1d-5a43-9c7e-000000000001"
OTHER_TASK = "6f9f5c2e-0b1d-5a43-9c7e-000000000002"
RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)

_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)


def id_at(instant: datetime, noise: int = 0x1A2B_0123_4567_89AB) -> str:
    """Make the id that LangGraph makes at `instant`; `noise` fills its clock sequence and node."""
    ticks = (instant - _EPOCH) // timedelta(microseconds=1) * 10
    return str(UUID(int=(ticks >> 12) << 80 | (ticks & 0xFFF) << 64 | noise, version=6))


HEAD = id_at(QUIET_AT)
NUMBERS = PolicyLimits(
    min_age=MIN_AGE,
    max_age=MAX_AGE,
    max_attempts=5,
    max_total_attempts=50,
    retry_base=timedelta(seconds=30),
    retry_cap=timedelta(hours=1),
    timeout=timedelta(minutes=15),
    concurrency=16,
)


def head(**changes: object) -> Head:
    """Build a head that has work waiting; its newest id is its own where none is given."""
    plain = Head(
        thread_id="orders_1",
        checkpoint_id=HEAD,
        newest_id=HEAD,
        stub=False,
        source="loop",
        updated_channels=("messages", "branch:to:pay"),
        null_channels=(),
        metadata_workflow=None,
        metadata_graph=None,
        metadata_version=None,
        metadata_attempt=None,
    )
    return replace(plain, **{"newest_id": changes.get("checkpoint_id", HEAD), **changes})


def row(**changes: object) -> ControlRow:
    """Build the row of a task that raised."""
    plain = ControlRow(
        thread_id="orders_1",
        checkpoint_ns="",
        checkpoint_id=HEAD,
        task_id=TASK,
        channel=ERROR,
        order=1,
        writer="701",
        cancelled=False,
        has_output=False,
    )
    return replace(plain, **changes)


def question(**changes: object) -> ControlRow:
    """Build the row of a task that asks a person."""
    return row(**{"channel": INTERRUPT, **changes})


def answer(**changes: object) -> ControlRow:
    """Build the row of an answer as an application stores it: on the null task."""
    return row(**{"channel": RESUME, "task_id": NULL_TASK, "order": 2, "writer": "702", **changes})


def snapshot(*rows: ControlRow, **changes: object) -> ThreadSnapshot:
    """Build what one look found; `changes` are the head's."""
    return ThreadSnapshot(head(**changes), rows)


def case(**changes: object) -> Case:
    """Build the open case of the default head without control rows; it has a due time while it is due."""
    waits = changes.get("state", State.DUE) in (State.DUE, State.BACKOFF)
    plain = Case(
        thread_id="orders_1",
        workflow="orders",
        version=None,
        verdict=Verdict.STOPPED,
        reason="as recorded",
        state=State.DUE,
        head=HEAD,
        fingerprint=snapshot().fingerprint,
        last_activity_at=QUIET_AT,
        first_seen_at=QUIET_AT + MIN_AGE,
        changed_at=None,
        due_at=QUIET_AT + MIN_AGE if waits else None,
        next_look_at=None,
        attempts=0,
        consecutive=0,
        revision=1,
    )
    return replace(plain, **changes)


def case_of(found: ThreadSnapshot, **changes: object) -> Case:
    """Build the open case that recorded exactly this sighting."""
    return case(**{"head": found.head.checkpoint_id, "fingerprint": found.fingerprint, **changes})


def registration(**changes: object) -> Registration:
    """Build version 1 of `orders`, seen just now."""
    plain = Registration(name="orders", version="1", accepts=(), triggers=(), numbers=NUMBERS, seen_at=NOW)
    return replace(plain, **changes)


def circumstances(**changes: object) -> Circumstances:
    """Build circumstances in which version 1 of `orders` is live and nobody holds the lock."""
    plain = Circumstances(now=NOW, match=WorkflowMatch("orders", (registration(),)), ages=Ages(MIN_AGE, MAX_AGE))
    return replace(plain, **changes)


def matched_by(*registrations: Registration) -> WorkflowMatch:
    """Build the match of these registrations of `orders`."""
    return WorkflowMatch("orders", registrations)


def look(found: ThreadSnapshot, circumstances: Circumstances) -> CaseUpdate:
    """Look at a thread as a sweep does."""
    judgement = decide_verdict(found, circumstances)
    return case_update(found, circumstances, judgement, place_case(judgement, circumstances))
