"""Owns what a case becomes: the state that a verdict puts it in, and the row that a look or an attempt leaves of it.

The store writes such a row over the revision that it was computed from, so that nothing here can undo what a person or
another replica has written meanwhile: the row is then computed again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from resumed.judge.verdict import (
    Circumstances,
    ThreadSnapshot,
    control_part,
    is_unchanged,
    judge_snapshot,
    last_activity,
)
from resumed.judge.workflow_match import accepts
from resumed.model import NEEDS_A_PERSON, Action, Case, Judgement, State, Verdict

_ABOVE_BREAKPOINT = (Verdict.CANCELLED, Verdict.WAITING)
_LONGEST_WAIT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CasePlacement:
    """The state of a case with its two times, and the reason where it is quarantined."""

    state: State
    due_at: datetime | None = None
    next_look_at: datetime | None = None
    quarantine_reason: str | None = None


@dataclass(frozen=True, slots=True)
class CaseUpdate:
    """What a look found of a thread: its head and rows, the verdict on them, and where its case goes."""

    thread_id: str
    workflow: str | None
    version: str | None
    head: str
    fingerprint: str
    last_activity_at: datetime
    judgement: Judgement
    placement: CasePlacement


@dataclass(frozen=True, slots=True)
class AttemptOutcomeFields:
    """What only the holder of the thread's lock knows of a case.

    `consecutive` is the new count of charged attempts without progress; `refused_by` the version whose preflight
    refused this head, with the verdict of the update; `spent_by` the version that has used up its attempts; `own`
    that an attempt of ours left the head where it is; `suspect` whether the attempt ended with its worker. None leaves
    a field as it is.
    """

    consecutive: int | None = None
    refused_by: str | None = None
    spent_by: str | None = None
    own: bool = False
    suspect: bool | None = None


def known_for_head(snapshot: ThreadSnapshot, known: Case | None) -> Case | None:
    """Return the case as it counts for this head: a back-off belongs to the head that it was made for."""
    if known is None or known.head == snapshot.head.checkpoint_id:
        return known
    return replace(known, due_at=None)


def case_update(
    snapshot: ThreadSnapshot, circumstances: Circumstances, judgement: Judgement, placement: CasePlacement
) -> CaseUpdate:
    """Build the update of a thread's case; a workflow that is not registered counts as none."""
    head = snapshot.head
    return CaseUpdate(
        thread_id=head.thread_id,
        workflow=circumstances.match.name if circumstances.match.registrations else None,
        version=head.metadata_version,
        head=head.checkpoint_id,
        fingerprint=snapshot.fingerprint,
        last_activity_at=last_activity(head, circumstances.known, circumstances.now),
        judgement=judgement,
        placement=placement,
    )


def vanished_case(thread_id: str, workflow: str | None, now: datetime) -> CaseUpdate:
    """Build the update of a thread that has no checkpoint any more: its case is closed."""
    judgement = Judgement(Verdict.FINISHED, "the thread has no checkpoint any more")
    return CaseUpdate(thread_id, workflow, None, "", "", now, judgement, CasePlacement(State.CLOSED))


def remembered_verdict(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """Return the verdict of a preflight on this very head, as long as a version that gave it is live.

    Only verdicts that need a person are remembered: a deploy does not answer for a person.
    """
    known = circumstances.known
    if known is None or not is_unchanged(snapshot, known) or known.refusal not in NEEDS_A_PERSON:
        return None
    live = {one.version for one in circumstances.match.live(circumstances.now)}
    still_counts = bool(live & set(known.refused_by)) or not live
    return Judgement(known.refusal, known.refusal_reason or known.reason) if still_counts else None


def decide_verdict(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement:
    """Judge by the rows, and by what a preflight found on this very head where rows alone cannot tell."""
    judgement = judge_snapshot(snapshot, circumstances)
    if circumstances.lock_held or judgement.verdict in _ABOVE_BREAKPOINT:
        return judgement
    return remembered_verdict(snapshot, circumstances) or judgement


def place_case(judgement: Judgement, circumstances: Circumstances) -> CasePlacement:
    """Decide the state of a thread's case; a quarantined one stays so until it is released or has finished."""
    if judgement.verdict is Verdict.FINISHED:
        return CasePlacement(State.CLOSED)
    if reason := get_quarantine_reason(circumstances):
        return CasePlacement(State.QUARANTINED, None, _next_look(circumstances), reason)
    if judgement.unsure:
        return _due(circumstances)
    match judgement.verdict:
        case Verdict.RUNNING:
            soon = circumstances.now + min(circumstances.ages.min_age / 2, _LONGEST_WAIT)
            back_off = circumstances.known.due_at if circumstances.known is not None else None
            return CasePlacement(State.RUNNING, back_off, judgement.until or soon)
        case Verdict.INCOMPATIBLE:
            return CasePlacement(State.QUARANTINED, None, _next_look(circumstances), judgement.reason)
        case Verdict.FAILED | Verdict.STOPPED:
            return _due(circumstances)
        case Verdict.WAITING | Verdict.BREAKPOINT | Verdict.EDITED | Verdict.CANCELLED:
            return CasePlacement(State.HELD, None, _next_look(circumstances))
        case Verdict.UNCLAIMED | Verdict.EXPIRED:
            return CasePlacement(State.HELD, None, _next_look(circumstances))
        case _:
            assert_never(judgement.verdict)


def decide_case(snapshot: ThreadSnapshot, circumstances: Circumstances) -> CaseUpdate:
    """Judge a thread by its rows, and return where its case goes."""
    judgement = decide_verdict(snapshot, circumstances)
    return case_update(snapshot, circumstances, judgement, place_case(judgement, circumstances))


def enters_quarantine(update: CaseUpdate, known: Case | None) -> bool:
    """Return whether an update puts a case into quarantine that was not there before."""
    was_there = known is not None and known.state is State.QUARANTINED
    return update.placement.state is State.QUARANTINED and not was_there


def action(judgement: Judgement, placement: CasePlacement) -> Action:
    """Return what a sweep would do about the thread."""
    match placement.state:
        case State.CLOSED:
            return Action.CLOSE
        case State.DUE | State.BACKOFF:
            return Action.RESUME if placement.state is State.DUE else Action.WAIT
        case State.RUNNING:
            return Action.WAIT
        case State.QUARANTINED:
            return Action.QUARANTINE
        case State.HELD:
            return Action.NONE if judgement.verdict in (Verdict.UNCLAIMED, Verdict.EXPIRED) else Action.HOLD
        case _:
            assert_never(placement.state)


def get_quarantine_reason(circumstances: Circumstances) -> str | None:
    """Return why a case stays in quarantine whatever its rows say: a person's decision, or no attempts left."""
    known = circumstances.known
    if known is None or known.state is State.CLOSED:
        return None
    if known.pinned:
        return known.quarantine_reason or "a person put it into quarantine"
    live = circumstances.match.live(circumstances.now)
    unspent = [registration for registration in live if registration.version not in known.spent_by]
    if not known.spent_by or any(accepts(registration, known.version) for registration in unspent):
        return None
    return known.quarantine_reason or "every live version has used up its attempts"


def _next_look(circumstances: Circumstances) -> datetime:
    return circumstances.now + circumstances.ages.min_age / 2


def _due(circumstances: Circumstances) -> CasePlacement:
    known = circumstances.known
    if known is None or known.due_at is None or known.state is State.CLOSED:
        return CasePlacement(State.DUE, circumstances.now)
    waits = known.due_at > circumstances.now
    return CasePlacement(State.BACKOFF if waits else State.DUE, known.due_at)


def record_look(known: Case | None, update: CaseUpdate, now: datetime) -> Case:
    """Compute the case that a look without the thread's lock leaves; `known` is the case as that look read it.

    A closed case starts again without its history. What a preflight said counts as long as head and control rows are
    the same; the count of charged attempts as long as the head is the same and the case does not leave quarantine.
    """
    if known is None:
        return _new_case(update, now)
    leaves_quarantine = known.state is State.QUARANTINED and update.placement.state is not State.QUARANTINED
    recorded = replace(
        _placed(_moved(known, update, now), update),
        workflow=update.workflow,
        version=update.version,
        consecutive=known.consecutive if known.head == update.head and not leaves_quarantine else 0,
    )
    if known.state is not State.CLOSED:
        return recorded
    return replace(recorded, first_seen_at=now, attempts=0, consecutive=0, spent_by=(), pinned=False, suspect=False)


def settle_case(known: Case, update: CaseUpdate, fields: AttemptOutcomeFields, now: datetime) -> Case:
    """Compute the case that a look or an attempt under the thread's lock leaves.

    A person may have acted since that look: a pinned case stays in quarantine, and the head where the attempt of a
    cancelled one stopped is its cancelled head. Neither matters once the thread has finished.
    """
    settled = _placed(_moved(known, update, now), update)
    if known.pinned or known.cancel_pending:
        settled = replace(settled, due_at=None, cancel_pending=False)
        if update.placement.state is not State.CLOSED:
            settled = _obey_person(known, settled, now)
    if fields.refused_by is not None:
        settled = replace(
            settled,
            refused_by=_with_last(settled.refused_by, fields.refused_by),
            refusal=update.judgement.verdict,
            refusal_reason=update.judgement.reason,
        )
    return replace(
        settled,
        consecutive=known.consecutive if fields.consecutive is None else fields.consecutive,
        spent_by=known.spent_by if fields.spent_by is None else _with_last(known.spent_by, fields.spent_by),
        own_head=update.head if fields.own else known.own_head,
        suspect=known.suspect if fields.suspect is None else fields.suspect,
    )


def begin_case(known: Case | None, update: CaseUpdate, now: datetime) -> Case | None:
    """Compute the case on which an attempt begins; None where a person has cancelled or quarantined it."""
    if known is None:
        return replace(_new_case(replace(update, placement=CasePlacement(State.RUNNING)), now), attempts=1)
    if known.pinned or _is_cancelled(known, update.head):
        return None
    return replace(
        _moved(known, update, now),
        state=State.RUNNING,
        last_activity_at=known.last_activity_at,
        changed_at=known.changed_at,
        due_at=None,
        next_look_at=None,
        attempts=known.attempts + 1,
    )


def make_case_due(known: Case | None, update: CaseUpdate, now: datetime, *, pinned: bool) -> Case | None:
    """Compute the case of a thread for which a person asks an attempt now, all its attempts allowed again.

    `pinned` says that this person knew of the quarantine. None where another person has cancelled or quarantined it.
    """
    if known is None:
        return _new_case(replace(update, placement=CasePlacement(State.DUE, now)), now)
    if (known.pinned and not pinned) or _is_cancelled(known, update.head):
        return None
    return replace(
        known,
        workflow=update.workflow,
        version=update.version,
        verdict=update.judgement.verdict,
        reason=update.judgement.reason,
        state=State.DUE,
        head=update.head,
        fingerprint=update.fingerprint,
        due_at=now,
        next_look_at=None,
        consecutive=0,
        refused_by=(),
        refusal=None,
        refusal_reason=None,
        spent_by=(),
        pinned=False,
        suspect=False,
        quarantine_reason=None,
        revision=known.revision + 1,
    )


def _new_case(update: CaseUpdate, now: datetime) -> Case:
    return Case(
        thread_id=update.thread_id,
        workflow=update.workflow,
        version=update.version,
        verdict=update.judgement.verdict,
        reason=update.judgement.reason,
        state=update.placement.state,
        head=update.head,
        fingerprint=update.fingerprint,
        last_activity_at=update.last_activity_at,
        first_seen_at=now,
        head_seen_at=now,
        changed_at=None,
        due_at=update.placement.due_at,
        next_look_at=update.placement.next_look_at,
        quarantine_reason=update.placement.quarantine_reason,
        attempts=0,
        consecutive=0,
        revision=1,
    )


def _moved(known: Case, update: CaseUpdate, now: datetime) -> Case:
    """Return the case at the head and the control rows of an update, with the verdict on them.

    When the head was first seen and when its control rows changed are kept as long as they are the same.
    """
    same_head = known.head == update.head
    same_rows = same_head and control_part(known.fingerprint) == control_part(update.fingerprint)
    unchanged = same_head and known.fingerprint == update.fingerprint
    return replace(
        known,
        verdict=update.judgement.verdict,
        reason=update.judgement.reason,
        head=update.head,
        fingerprint=update.fingerprint,
        last_activity_at=update.last_activity_at,
        head_seen_at=known.head_seen_at if same_head else now,
        changed_at=known.changed_at if same_rows else now if same_head else None,
        refused_by=known.refused_by if unchanged else (),
        refusal=known.refusal if unchanged else None,
        refusal_reason=known.refusal_reason if unchanged else None,
        revision=known.revision + 1,
    )


def _placed(case: Case, update: CaseUpdate) -> Case:
    placement = update.placement
    return replace(
        case,
        state=placement.state,
        due_at=placement.due_at,
        next_look_at=placement.next_look_at,
        quarantine_reason=placement.quarantine_reason,
    )


def _obey_person(known: Case, settled: Case, now: datetime) -> Case:
    """Put a case where the person wants it who has pinned or cancelled it, and look at it again at the next sweep."""
    settled = replace(settled, state=State.HELD, next_look_at=now)
    if known.cancel_pending:
        reason = "a person cancelled it while an attempt was running"
        settled = replace(settled, verdict=Verdict.CANCELLED, reason=reason, cancelled_head=settled.head)
    if known.pinned:
        settled = replace(settled, state=State.QUARANTINED, quarantine_reason=known.quarantine_reason)
    return settled


def _is_cancelled(known: Case, head: str) -> bool:
    return known.cancel_pending or known.cancelled_head == head


def _with_last(versions: tuple[str, ...], version: str) -> tuple[str, ...]:
    return (*(other for other in versions if other != version), version)
