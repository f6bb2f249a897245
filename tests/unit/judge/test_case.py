"""What a verdict means for a case: its state, when it is due, when it is looked at again, what is remembered of it."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.case import Placement, action, decide, kept_out, place, remembered, standing, still_known, vanished
from resumed.judge.verdict import Ages, Circumstances, Sighting
from resumed.model import Action, Case, Judgement, Registration, State, Verdict
from unit.judge.builders import (
    HEAD,
    MIN_AGE,
    NOW,
    QUIET_AT,
    RESUMABLE,
    SECOND,
    around,
    case,
    case_of,
    claimed_by,
    id_at,
    look,
    question,
    recorded,
    registration,
    row,
    sighting,
)

AWAY_AT = NOW - timedelta(minutes=2)
LATER = NOW + timedelta(minutes=40)
BEFORE = NOW - timedelta(minutes=40)
PERSONAL = (Verdict.WAITING, Verdict.BREAKPOINT, Verdict.EDITED)
REASON = "a person said so"


def said(verdict: Verdict, until: datetime | None = None) -> Judgement:
    return Judgement(verdict, "because", until)


def personal(verdict: Verdict = Verdict.BREAKPOINT, **changes: object) -> Case:
    said_so = {"refused_by": ("1",), "refusal": verdict, "refusal_reason": "stands before pay"}
    return case(**{"verdict": verdict, "state": State.HELD, **said_so, **changes})


def quarantined(**changes: object) -> Case:
    return case(**{"state": State.QUARANTINED, "due_at": None, "quarantine_reason": REASON, **changes})


# What a preflight said is remembered


@pytest.mark.parametrize("verdict", PERSONAL)
def test_what_a_preflight_said_for_a_person_holds_while_nothing_changes(verdict: Verdict) -> None:
    known = personal(verdict)
    assert decide(sighting(), around(known=known)) == Judgement(verdict, "stands before pay")


@pytest.mark.parametrize(
    ("found", "circumstances"),
    [
        pytest.param(sighting(), around(claim=claimed_by()), id="unclaimed"),
        pytest.param(sighting(metadata_version="0"), around(), id="incompatible"),
        pytest.param(sighting(newest_id=id_at(NOW)), around(), id="not quiet"),
        pytest.param(sighting(), around(ours=True), id="ours"),
    ],
)
def test_a_person_comes_before_what_rows_say(found: Sighting, circumstances: Circumstances) -> None:
    known = personal(fingerprint=found.fingerprint)
    assert decide(found, replace(circumstances, known=known)).verdict is Verdict.BREAKPOINT


def test_a_question_in_the_rows_comes_before_a_remembered_breakpoint() -> None:
    found = sighting(question())
    assert decide(found, around(known=personal(fingerprint=found.fingerprint))).verdict is Verdict.WAITING


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(sighting(row()), id="its control rows changed"),
        pytest.param(sighting(checkpoint_id=id_at(QUIET_AT + SECOND)), id="its head moved"),
    ],
)
def test_what_a_preflight_said_is_over_when_the_thread_changes(found: Sighting) -> None:
    assert remembered(found, around(known=personal())) is None


def test_nothing_is_remembered_of_a_thread_without_a_case() -> None:
    assert remembered(sighting(), around(known=None)) is None


@pytest.mark.parametrize("verdict", [None, Verdict.INCOMPATIBLE])
def test_only_what_a_person_has_to_decide_is_remembered(verdict: Verdict | None) -> None:
    known = personal(Verdict.WAITING, refusal=verdict)
    assert remembered(sighting(), around(known=known)) is None


@pytest.mark.parametrize(
    ("live", "refused_by", "holds"),
    [
        pytest.param((registration(),), ("1",), True, id="the version that said it"),
        pytest.param((registration(), registration(version="2")), ("1",), True, id="and a new one beside it"),
        pytest.param((registration(version="2"),), ("1",), False, id="only a new one"),
        pytest.param((registration(version="2"),), ("1", "2"), True, id="a new one that said it too"),
        pytest.param((registration(seen_at=AWAY_AT),), ("1",), True, id="nobody is about"),
        pytest.param((), ("1",), True, id="nobody ever was"),
        pytest.param((registration(version="2"), registration(seen_at=AWAY_AT)), ("1",), False, id="replaced"),
        pytest.param((registration(),), (), False, id="no version ever said it"),
    ],
)
def test_it_holds_while_a_version_that_said_it_is_about_or_none_is(
    live: tuple[Registration, ...],
    refused_by: tuple[str, ...],
    holds: bool,
) -> None:
    found = remembered(sighting(), around(known=personal(refused_by=refused_by), claim=claimed_by(*live)))
    assert (found is not None) is holds


@pytest.mark.parametrize("verdict", PERSONAL)
def test_what_a_preflight_said_outlives_a_glimpse_of_a_held_lock(verdict: Verdict) -> None:
    known = personal(verdict)
    glimpsed = recorded(known, look(sighting(), around(known=known, lock_held=True)), NOW)
    assert decide(sighting(), around(known=glimpsed, now=NOW + SECOND)).verdict is verdict


# The state that a verdict gives


@pytest.mark.parametrize(
    ("verdict", "state", "act"),
    [
        (Verdict.RUNNING, State.RUNNING, Action.WAIT),
        (Verdict.CANCELLED, State.HELD, Action.HOLD),
        (Verdict.WAITING, State.HELD, Action.HOLD),
        (Verdict.BREAKPOINT, State.HELD, Action.HOLD),
        (Verdict.FINISHED, State.CLOSED, Action.CLOSE),
        (Verdict.EDITED, State.HELD, Action.HOLD),
        (Verdict.UNCLAIMED, State.HELD, Action.NONE),
        (Verdict.INCOMPATIBLE, State.QUARANTINED, Action.QUARANTINE),
        (Verdict.EXPIRED, State.HELD, Action.NONE),
        (Verdict.FAILED, State.DUE, Action.RESUME),
        (Verdict.STOPPED, State.DUE, Action.RESUME),
    ],
)
@pytest.mark.parametrize("known", [None, State.DUE, State.RUNNING, State.HELD, State.CLOSED], ids=str)
def test_a_verdict_gives_a_case_its_state_and_a_sweep_its_action(
    verdict: Verdict, state: State, act: Action, known: State | None
) -> None:
    placement = place(said(verdict), around(known=known and case(state=known, due_at=None)))
    assert placement.state is state
    assert action(said(verdict), placement) is act


def test_a_held_incompatible_thread_is_on_hold() -> None:
    assert action(said(Verdict.INCOMPATIBLE), Placement(State.HELD)) is Action.HOLD


def test_a_thread_in_back_off_waits() -> None:
    assert action(said(Verdict.FAILED), Placement(State.BACKOFF, LATER)) is Action.WAIT


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_action_on_a_quarantined_case_is_its_quarantine(verdict: Verdict) -> None:
    assert action(said(verdict), Placement(State.QUARANTINED)) is Action.QUARANTINE


def test_an_incompatible_thread_is_quarantined_for_the_reason_of_its_judgement() -> None:
    placement = place(said(Verdict.INCOMPATIBLE), around())
    assert (placement.state, placement.quarantine_reason) == (State.QUARANTINED, "because")


# When it is due


@pytest.mark.parametrize("verdict", RESUMABLE)
def test_a_thread_that_may_be_resumed_is_due_now(verdict: Verdict) -> None:
    assert place(said(verdict), around()) == Placement(State.DUE, NOW)


@pytest.mark.parametrize("verdict", RESUMABLE)
@pytest.mark.parametrize("state", [State.BACKOFF, State.RUNNING])
def test_another_look_does_not_shorten_a_back_off(verdict: Verdict, state: State) -> None:
    known = case(state=state, due_at=LATER)
    assert place(said(verdict), around(known=known)) == Placement(State.BACKOFF, LATER)


@pytest.mark.parametrize("due_at", [BEFORE, NOW])
def test_a_back_off_that_is_over_is_due(due_at: datetime) -> None:
    known = case(state=State.BACKOFF, due_at=due_at)
    placement = place(said(Verdict.FAILED), around(known=known))
    assert placement == Placement(State.DUE, due_at)
    assert action(said(Verdict.FAILED), placement) is Action.RESUME


def test_another_look_does_not_move_a_due_case_to_the_end_of_the_queue() -> None:
    assert place(said(Verdict.STOPPED), around(known=case(due_at=BEFORE))) == Placement(State.DUE, BEFORE)


@pytest.mark.parametrize("state", [State.RUNNING, State.HELD, State.CLOSED])
def test_a_case_that_had_no_time_is_due_from_now_on(state: State) -> None:
    assert place(said(Verdict.FAILED), around(known=case(state=state))) == Placement(State.DUE, NOW)


def test_a_closed_case_leaves_no_back_off_behind() -> None:
    known = case(state=State.CLOSED, due_at=LATER)
    assert place(said(Verdict.FAILED), around(known=known)) == Placement(State.DUE, NOW)


def test_a_back_off_outlives_a_glimpse_of_a_held_lock() -> None:
    found = sighting(row())
    known = case_of(found, verdict=Verdict.FAILED, state=State.BACKOFF, due_at=LATER, own_head=HEAD)
    glimpsed = recorded(known, look(found, around(known=known, lock_held=True)), NOW)
    assert glimpsed.state is State.RUNNING
    after = look(found, around(known=glimpsed, now=NOW + SECOND))
    assert after.judgement.verdict is Verdict.FAILED
    assert after.placement == Placement(State.BACKOFF, LATER)


def test_a_back_off_belongs_to_the_head_that_it_was_made_for() -> None:
    known = case(state=State.BACKOFF, due_at=LATER, attempts=3)
    assert still_known(sighting(row()), known) is known
    moved = still_known(sighting(checkpoint_id=id_at(QUIET_AT + SECOND)), known)
    assert moved == replace(known, due_at=None)
    assert still_known(sighting(), None) is None


# When it is looked at again


@pytest.mark.parametrize(
    "verdict",
    [*PERSONAL, Verdict.CANCELLED, Verdict.UNCLAIMED, Verdict.EXPIRED, Verdict.INCOMPATIBLE],
)
def test_a_held_case_is_looked_at_again_after_half_of_min_age(verdict: Verdict) -> None:
    placement = place(said(verdict), around())
    assert (placement.due_at, placement.next_look_at) == (None, NOW + MIN_AGE / 2)


def test_a_thread_that_is_not_quiet_is_looked_at_when_it_will_be() -> None:
    assert place(said(Verdict.RUNNING, LATER), around()) == Placement(State.RUNNING, None, LATER)


@pytest.mark.parametrize(
    ("min_age", "wait"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(seconds=30), timedelta(seconds=15)),
        (timedelta(minutes=2), timedelta(minutes=1)),
        (timedelta(hours=5), timedelta(minutes=1)),
    ],
)
def test_a_held_lock_is_looked_at_again_within_a_minute(min_age: timedelta, wait: timedelta) -> None:
    placement = place(said(Verdict.RUNNING), around(ages=Ages(min_age, timedelta(days=1))))
    assert placement == Placement(State.RUNNING, None, NOW + wait)


# Quarantine


JUDGEMENTS = st.builds(
    Judgement,
    verdict=st.sampled_from([one for one in Verdict if one is not Verdict.FINISHED]),
    reason=st.just("because"),
    until=st.none() | st.just(LATER),
)


TIMES = st.none() | st.sampled_from((BEFORE, NOW, LATER))
LIVE = st.sampled_from(
    (
        (),
        (registration(),),
        (registration(version="2"),),
        (registration(version="3", accepts=("1",)), registration()),
        (registration(seen_at=AWAY_AT),),
    )
)
HELD_BACK = Placement(State.QUARANTINED, None, NOW + MIN_AGE / 2, REASON)


@given(JUDGEMENTS, st.sampled_from(Verdict), TIMES, LIVE, st.booleans())
def test_a_case_that_a_person_quarantined_never_becomes_due(
    judgement: Judgement,
    last: Verdict,
    due_at: datetime | None,
    live: tuple[Registration, ...],
    held: bool,
) -> None:
    known = quarantined(verdict=last, due_at=due_at, pinned=True)
    assert place(judgement, around(known=known, claim=claimed_by(*live), lock_held=held)) == HELD_BACK


@given(JUDGEMENTS, st.sampled_from(Verdict), TIMES, st.booleans())
def test_a_case_whose_attempts_are_used_up_never_becomes_due_by_the_same_version(
    judgement: Judgement,
    last: Verdict,
    due_at: datetime | None,
    held: bool,
) -> None:
    known = quarantined(verdict=last, due_at=due_at, spent_by=("0", "1"))
    assert place(judgement, around(known=known, lock_held=held)) == HELD_BACK


@pytest.mark.parametrize(
    ("live", "stays"),
    [
        pytest.param((registration(),), True, id="the version that used them up"),
        pytest.param((), True, id="nobody ever"),
        pytest.param((registration(seen_at=AWAY_AT),), True, id="nobody now"),
        pytest.param((registration(version="2"),), True, id="a new one that does not accept it"),
        pytest.param((registration(version="2", accepts=("1",)),), False, id="a new one that accepts it"),
        pytest.param((registration(version="2", accepts=("1",), seen_at=AWAY_AT),), True, id="a new one that is gone"),
        pytest.param((registration(), registration(version="2", accepts=("1",))), False, id="both"),
        pytest.param((registration(version=""),), False, id="one that names no version"),
    ],
)
def test_attempts_that_are_used_up_are_given_back_only_to_a_version_that_has_not_tried(
    live: tuple[Registration, ...],
    stays: bool,
) -> None:
    circumstances = around(known=quarantined(version="1", spent_by=("1",)), claim=claimed_by(*live))
    assert (kept_out(circumstances) == REASON) is stays
    assert place(said(Verdict.FAILED), circumstances) == (HELD_BACK if stays else Placement(State.DUE, NOW))


def test_a_version_that_does_not_accept_the_thread_gets_no_try_either() -> None:
    spent = quarantined(version="1", spent_by=("1",), quarantine_reason=None)
    assert kept_out(around(known=spent, claim=claimed_by(registration(version="2"))))


def test_a_closed_case_keeps_nobody_out() -> None:
    for known in (case(state=State.CLOSED, pinned=True), case(state=State.CLOSED, spent_by=("1",)), None, case()):
        assert kept_out(around(known=known)) is None


def test_a_case_that_nothing_keeps_out_is_due_though_no_version_is_live() -> None:
    away = around(known=case(), claim=claimed_by(registration(seen_at=AWAY_AT)))
    assert kept_out(away) is None
    assert place(said(Verdict.STOPPED), away).state is State.DUE


def test_a_quarantine_without_a_reason_still_has_one() -> None:
    for known in (quarantined(pinned=True, quarantine_reason=None), case(spent_by=("1",))):
        assert kept_out(around(known=known))


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}])
def test_a_quarantined_thread_that_has_finished_is_closed(changes: dict[str, object]) -> None:
    assert place(said(Verdict.FINISHED), around(known=quarantined(**changes))) == Placement(State.CLOSED)


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}])
def test_a_quarantined_thread_stays_so_when_its_head_moves(changes: dict[str, object]) -> None:
    known = quarantined(head=id_at(QUIET_AT - SECOND), verdict=Verdict.FAILED, **changes)
    assert look(sighting(), around(known=known)).placement.state is State.QUARANTINED


@pytest.mark.parametrize("verdict", RESUMABLE)
def test_a_thread_that_no_version_took_is_due_when_one_does(verdict: Verdict) -> None:
    known = quarantined(verdict=Verdict.INCOMPATIBLE)
    assert place(said(verdict), around(known=known)) == Placement(State.DUE, NOW)


def test_a_deploy_of_a_version_that_takes_the_thread_releases_it() -> None:
    found = sighting(metadata_version="1")
    condemned = look(found, around(claim=claimed_by(registration(version="2"))))
    assert condemned.placement.state is State.QUARANTINED
    known = recorded(case(state=State.HELD), condemned, NOW)
    newer = around(known=known, claim=claimed_by(registration(version="3", accepts=("1",))), now=NOW + SECOND)
    assert look(found, newer).placement == Placement(State.DUE, NOW + SECOND)


@pytest.mark.parametrize("refused", [False, True], ids=["not accepted", "refused"])
def test_a_thread_that_no_version_took_stays_quarantined_while_no_version_is_live(refused: bool) -> None:
    found = sighting(metadata_version=None if refused else "1")
    refusal = {"refused_by": ("2",), "refusal": Verdict.INCOMPATIBLE} if refused else {}
    known = quarantined(verdict=Verdict.INCOMPATIBLE, **refusal)
    away = claimed_by(registration(version="2", seen_at=AWAY_AT))
    assert look(found, around(known=known, claim=away)).placement.state is State.QUARANTINED


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}], ids=["a person's", "its own"])
def test_a_quarantine_outlives_a_deploy_and_its_rollback(changes: dict[str, object]) -> None:
    found = sighting(metadata_version="1")
    known = quarantined(verdict=Verdict.FAILED, version="1", **changes)
    deployed = look(found, around(known=known, claim=claimed_by(registration(version="2"))))
    assert deployed.placement == HELD_BACK
    back = around(known=recorded(known, deployed, NOW), now=NOW + SECOND)
    assert look(found, back).placement.state is State.QUARANTINED


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}], ids=["a person's", "its own"])
def test_a_quarantine_outlives_a_glimpse_of_a_held_lock(changes: dict[str, object]) -> None:
    known = quarantined(verdict=Verdict.FAILED, **changes)
    glimpsed = recorded(known, look(sighting(), around(known=known, lock_held=True)), NOW)
    assert look(sighting(), around(known=glimpsed, now=NOW + SECOND)).placement.state is State.QUARANTINED


# Nothing is forgotten, nothing is touched that is not due


CASES = st.none() | st.builds(
    case,
    verdict=st.sampled_from(Verdict),
    state=st.sampled_from(State),
    due_at=TIMES,
    pinned=st.booleans(),
    spent_by=st.sampled_from(((), ("1",))),
)


@given(JUDGEMENTS, CASES, LIVE)
def test_an_unfinished_thread_always_has_a_time_at_which_somebody_comes_back(
    judgement: Judgement, known: Case | None, live: tuple[Registration, ...]
) -> None:
    placement = place(judgement, around(known=known, claim=claimed_by(*live)))
    waits_its_turn = placement.state in (State.DUE, State.BACKOFF)
    assert (placement.due_at if waits_its_turn else placement.next_look_at) is not None
    assert placement.state is not State.CLOSED


@given(JUDGEMENTS, CASES, LIVE)
def test_only_a_resumable_verdict_makes_a_case_due(
    judgement: Judgement, known: Case | None, live: tuple[Registration, ...]
) -> None:
    placement = place(judgement, around(known=known, claim=claimed_by(*live)))
    assert placement.state not in (State.DUE, State.BACKOFF) or judgement.verdict in RESUMABLE


@given(st.sampled_from(RESUMABLE), CASES, LIVE)
def test_a_case_backs_off_exactly_until_its_time_has_come(
    verdict: Verdict, known: Case | None, live: tuple[Registration, ...]
) -> None:
    placement = place(said(verdict), around(known=known, claim=claimed_by(*live)))
    if placement.due_at is not None:
        assert (placement.state is State.BACKOFF) == (placement.due_at > NOW)


# Where a thread stands


def test_a_standing_tells_what_was_seen_and_what_was_said_of_it() -> None:
    found = sighting(row(), metadata_version="1", newest_id=id_at(QUIET_AT + SECOND))
    seen = look(found, around())
    assert (seen.thread_id, seen.workflow, seen.version, seen.head) == ("orders_1", "orders", "1", HEAD)
    assert (seen.fingerprint, seen.last_activity_at) == (found.fingerprint, QUIET_AT + SECOND)
    assert (seen.judgement.verdict, seen.placement) == (Verdict.FAILED, Placement(State.DUE, NOW))


def test_a_standing_names_no_workflow_that_nobody_registered() -> None:
    circumstances = around(claim=claimed_by())
    placement = place(said(Verdict.UNCLAIMED), circumstances)
    assert standing(sighting(), circumstances, said(Verdict.UNCLAIMED), placement).workflow is None


def test_a_thread_without_a_checkpoint_is_closed() -> None:
    gone = vanished("orders_1", "orders", NOW)
    assert (gone.thread_id, gone.workflow) == ("orders_1", "orders")
    assert (gone.judgement.verdict, gone.placement) == (Verdict.FINISHED, Placement(State.CLOSED))
