"""Owns what a verdict means for a case: which state it takes, when it is due, when it is looked at again."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from resumed.judge.verdict import Circumstances, ThreadSnapshot, is_unchanged, judge_snapshot, last_activity
from resumed.judge.workflow_match import accepts
from resumed.model import NEEDS_A_PERSON, Action, Case, Judgement, State, Verdict

_ABOVE_BREAKPOINT = (Verdict.CANCELLED, Verdict.WAITING)
_LONGEST_WAIT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CasePlacement:
    """The state of a case and the two times that go with it; `quarantine_reason` where it is quarantined."""

    state: State
    due_at: datetime | None = None
    next_look_at: datetime | None = None
    quarantine_reason: str | None = None


@dataclass(frozen=True, slots=True)
class CaseUpdate:
    """Where a thread stands after a look: what was seen of it, what was judged, where its case goes."""

    thread_id: str
    workflow: str | None
    version: str | None
    head: str
    fingerprint: str
    last_activity_at: datetime
    judgement: Judgement
    placement: CasePlacement


def still_known(snapshot: ThreadSnapshot, known: Case | None) -> Case | None:
    """Give the record as it counts for this head: a back-off belongs to the head that it was made for."""
    if known is None or known.head == snapshot.head.checkpoint_id:
        return known
    return replace(known, due_at=None)


def case_update(
    snapshot: ThreadSnapshot, circumstances: Circumstances, judgement: Judgement, placement: CasePlacement
) -> CaseUpdate:
    """Put together where a thread stands; a workflow that nobody registered is none."""
    head = snapshot.head
    return CaseUpdate(
        thread_id=head.thread_id,
        workflow=circumstances.claim.name if circumstances.claim.registrations else None,
        version=head.metadata_version,
        head=head.checkpoint_id,
        fingerprint=snapshot.fingerprint,
        last_activity_at=last_activity(head, circumstances.known, circumstances.now),
        judgement=judgement,
        placement=placement,
    )


def vanished_case(thread_id: str, workflow: str | None, now: datetime) -> CaseUpdate:
    """Where a thread stands that has no checkpoint any more: its case is closed."""
    judgement = Judgement(Verdict.FINISHED, "the thread has no checkpoint any more")
    return CaseUpdate(thread_id, workflow, None, "", "", now, judgement, CasePlacement(State.CLOSED))


def remembered_verdict(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """Give the verdict that a preflight gave on this very head, while a version that gave it is still about.

    A person's verdicts count whichever live version gave them: no deploy answers for a person.
    """
    known = circumstances.known
    if known is None or not is_unchanged(snapshot, known) or known.refusal not in NEEDS_A_PERSON:
        return None
    live = {one.version for one in circumstances.claim.live(circumstances.now)}
    still_said = bool(live & set(known.refused_by)) or not live
    return Judgement(known.refusal, known.refusal_reason or known.reason) if still_said else None


def decide_verdict(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement:
    """Judge by the rows, and by what a preflight said of this very head where rows alone cannot tell."""
    judgement = judge_snapshot(snapshot, circumstances)
    if circumstances.lock_held or judgement.verdict in _ABOVE_BREAKPOINT:
        return judgement
    return remembered_verdict(snapshot, circumstances) or judgement


def place_case(judgement: Judgement, circumstances: Circumstances) -> CasePlacement:
    """Decide where a thread of this verdict stands; a quarantined case stays so until it is released or finished."""
    if judgement.verdict is Verdict.FINISHED:
        return CasePlacement(State.CLOSED)
    if reason := quarantine_of(circumstances):
        return CasePlacement(State.QUARANTINED, None, _look_again(circumstances), reason)
    if judgement.unsure:
        return _due(circumstances)
    match judgement.verdict:
        case Verdict.RUNNING:
            soon = circumstances.now + min(circumstances.ages.min_age / 2, _LONGEST_WAIT)
            return CasePlacement(State.RUNNING, _kept_due_at(circumstances), judgement.until or soon)
        case Verdict.INCOMPATIBLE:
            return CasePlacement(State.QUARANTINED, None, _look_again(circumstances), judgement.reason)
        case Verdict.FAILED | Verdict.STOPPED:
            return _due(circumstances)
        case Verdict.WAITING | Verdict.BREAKPOINT | Verdict.EDITED | Verdict.CANCELLED:
            return CasePlacement(State.HELD, None, _look_again(circumstances))
        case Verdict.UNCLAIMED | Verdict.EXPIRED:
            return CasePlacement(State.HELD, None, _look_again(circumstances))
        case _:
            assert_never(judgement.verdict)


def action(judgement: Judgement, placement: CasePlacement) -> Action:
    """Say in one word what a sweep would do about the thread."""
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
            nobodys = judgement.verdict in (Verdict.UNCLAIMED, Verdict.EXPIRED)
            return Action.NONE if nobodys else Action.HOLD
        case _:
            assert_never(placement.state)


def quarantine_of(circumstances: Circumstances) -> str | None:
    """Say why a case stays in quarantine whatever its rows say: a person's word, or no live version has a try left."""
    known = circumstances.known
    if known is None or known.state is State.CLOSED:
        return None
    if known.pinned:
        return known.quarantine_reason or "a person put it into quarantine"
    untried = [one for one in circumstances.claim.live(circumstances.now) if one.version not in known.spent_by]
    if not known.spent_by or any(accepts(one, known.version) for one in untried):
        return None
    return known.quarantine_reason or "every version that is live has used up its attempts"


def _kept_due_at(circumstances: Circumstances) -> datetime | None:
    """A look at a thread that somebody is at does not make it forget its back-off."""
    return circumstances.known.due_at if circumstances.known is not None else None


def _look_again(circumstances: Circumstances) -> datetime:
    return circumstances.now + circumstances.ages.min_age / 2


def _due(circumstances: Circumstances) -> CasePlacement:
    known = circumstances.known
    if known is None or known.due_at is None or known.state is State.CLOSED:
        return CasePlacement(State.DUE, circumstances.now)
    waits = known.due_at > circumstances.now
    return CasePlacement(State.BACKOFF if waits else State.DUE, known.due_at)
