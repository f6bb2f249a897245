"""What a verdict means for a case: its state, when it is due, when it is looked at again, what is remembered of it."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.case import (
    CasePlacement,
    action,
    case_update,
    decide_verdict,
    get_quarantine_reason,
    known_for_head,
    place_case,
    record_look,
    remembered_verdict,
    vanished_case,
)
from resumed.judge.verdict import Ages, Circumstances, ThreadSnapshot
from resumed.model import Action, Case, Judgement, Registration, State, Verdict
from unit.judge.builders import (
    HEAD,
    MIN_AGE,
    NOW,
    QUIET_AT,
    RESUMABLE,
    SECOND,
    case,
    case_of,
    circumstances,
    id_at,
    look,
    matched_by,
    question,
    registration,
    row,
    snapshot,
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
    assert decide_verdict(snapshot(), circumstances(known=known)) == Judgement(verdict, "stands before pay")


@pytest.mark.parametrize(
    ("found", "situation"),
    [
        pytest.param(snapshot(), circumstances(match=matched_by()), id="unclaimed"),
        pytest.param(snapshot(metadata_version="0"), circumstances(), id="incompatible"),
        pytest.param(snapshot(newest_id=id_at(NOW)), circumstances(), id="not quiet"),
        pytest.param(snapshot(), circumstances(ours=True), id="ours"),
    ],
)
def test_a_person_comes_before_what_rows_say(found: ThreadSnapshot, situation: Circumstances) -> None:
    known = personal(fingerprint=found.fingerprint)
    assert decide_verdict(found, replace(situation, known=known)).verdict is Verdict.BREAKPOINT


def test_a_question_in_the_rows_comes_before_a_remembered_breakpoint() -> None:
    found = snapshot(question())
    assert (
        decide_verdict(found, circumstances(known=personal(fingerprint=found.fingerprint))).verdict is Verdict.WAITING
    )


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(snapshot(row()), id="its control rows changed"),
        pytest.param(snapshot(checkpoint_id=id_at(QUIET_AT + SECOND)), id="its head moved"),
    ],
)
def test_what_a_preflight_said_is_over_when_the_thread_changes(found: ThreadSnapshot) -> None:
    assert remembered_verdict(found, circumstances(known=personal())) is None


def test_nothing_is_remembered_of_a_thread_without_a_case() -> None:
    assert remembered_verdict(snapshot(), circumstances(known=None)) is None


@pytest.mark.parametrize("verdict", [None, Verdict.INCOMPATIBLE])
def test_only_what_a_person_has_to_decide_is_remembered(verdict: Verdict | None) -> None:
    known = personal(Verdict.WAITING, refusal=verdict)
    assert remembered_verdict(snapshot(), circumstances(known=known)) is None


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
    found = remembered_verdict(
        snapshot(), circumstances(known=personal(refused_by=refused_by), match=matched_by(*live))
    )
    assert (found is not None) is holds


@pytest.mark.parametrize("verdict", PERSONAL)
def test_what_a_preflight_said_outlives_a_glimpse_of_a_held_lock(verdict: Verdict) -> None:
    known = personal(verdict)
    glimpsed = record_look(known, look(snapshot(), circumstances(known=known, lock_held=True)), NOW)
    assert decide_verdict(snapshot(), circumstances(known=glimpsed, now=NOW + SECOND)).verdict is verdict


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
    placement = place_case(said(verdict), circumstances(known=known and case(state=known, due_at=None)))
    assert placement.state is state
    assert action(said(verdict), placement) is act


def test_a_held_incompatible_thread_is_on_hold() -> None:
    assert action(said(Verdict.INCOMPATIBLE), CasePlacement(State.HELD)) is Action.HOLD


def test_a_thread_in_back_off_waits() -> None:
    assert action(said(Verdict.FAILED), CasePlacement(State.BACKOFF, LATER)) is Action.WAIT


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_action_on_a_quarantined_case_is_its_quarantine(verdict: Verdict) -> None:
    assert action(said(verdict), CasePlacement(State.QUARANTINED)) is Action.QUARANTINE


def test_an_incompatible_thread_is_quarantined_for_the_reason_of_its_judgement() -> None:
    placement = place_case(said(Verdict.INCOMPATIBLE), circumstances())
    assert (placement.state, placement.quarantine_reason) == (State.QUARANTINED, "because")


# When it is due


@pytest.mark.parametrize("verdict", RESUMABLE)
def test_a_thread_that_may_be_resumed_is_due_now(verdict: Verdict) -> None:
    assert place_case(said(verdict), circumstances()) == CasePlacement(State.DUE, NOW)


@pytest.mark.parametrize("verdict", RESUMABLE)
@pytest.mark.parametrize("state", [State.BACKOFF, State.RUNNING])
def test_another_look_does_not_shorten_a_back_off(verdict: Verdict, state: State) -> None:
    known = case(state=state, due_at=LATER)
    assert place_case(said(verdict), circumstances(known=known)) == CasePlacement(State.BACKOFF, LATER)


@pytest.mark.parametrize("due_at", [BEFORE, NOW])
def test_a_back_off_that_is_over_is_due(due_at: datetime) -> None:
    known = case(state=State.BACKOFF, due_at=due_at)
    placement = place_case(said(Verdict.FAILED), circumstances(known=known))
    assert placement == CasePlacement(State.DUE, due_at)
    assert action(said(Verdict.FAILED), placement) is Action.RESUME


def test_another_look_does_not_move_a_due_case_to_the_end_of_the_queue() -> None:
    assert place_case(said(Verdict.STOPPED), circumstances(known=case(due_at=BEFORE))) == CasePlacement(
        State.DUE, BEFORE
    )


@pytest.mark.parametrize("state", [State.RUNNING, State.HELD, State.CLOSED])
def test_a_case_that_had_no_time_is_due_from_now_on(state: State) -> None:
    assert place_case(said(Verdict.FAILED), circumstances(known=case(state=state))) == CasePlacement(State.DUE, NOW)


def test_a_closed_case_leaves_no_back_off_behind() -> None:
    known = case(state=State.CLOSED, due_at=LATER)
    assert place_case(said(Verdict.FAILED), circumstances(known=known)) == CasePlacement(State.DUE, NOW)


def test_a_back_off_outlives_a_glimpse_of_a_held_lock() -> None:
    found = snapshot(row())
    known = case_of(found, verdict=Verdict.FAILED, state=State.BACKOFF, due_at=LATER, own_head=HEAD)
    glimpsed = record_look(known, look(found, circumstances(known=known, lock_held=True)), NOW)
    assert glimpsed.state is State.RUNNING
    after = look(found, circumstances(known=glimpsed, now=NOW + SECOND))
    assert after.judgement.verdict is Verdict.FAILED
    assert after.placement == CasePlacement(State.BACKOFF, LATER)


def test_a_back_off_belongs_to_the_head_that_it_was_made_for() -> None:
    known = case(state=State.BACKOFF, due_at=LATER, attempts=3)
    assert known_for_head(snapshot(row()), known) is known
    moved = known_for_head(snapshot(checkpoint_id=id_at(QUIET_AT + SECOND)), known)
    assert moved == replace(known, due_at=None)
    assert known_for_head(snapshot(), None) is None


# When it is looked at again


@pytest.mark.parametrize(
    "verdict",
    [*PERSONAL, Verdict.CANCELLED, Verdict.UNCLAIMED, Verdict.EXPIRED, Verdict.INCOMPATIBLE],
)
def test_a_held_case_is_looked_at_again_after_half_of_min_age(verdict: Verdict) -> None:
    placement = place_case(said(verdict), circumstances())
    assert (placement.due_at, placement.next_look_at) == (None, NOW + MIN_AGE / 2)


def test_a_thread_that_is_not_quiet_is_looked_at_when_it_will_be() -> None:
    assert place_case(said(Verdict.RUNNING, LATER), circumstances()) == CasePlacement(State.RUNNING, None, LATER)


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
    placement = place_case(said(Verdict.RUNNING), circumstances(ages=Ages(min_age, timedelta(days=1))))
    assert placement == CasePlacement(State.RUNNING, None, NOW + wait)


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
HELD_BACK = CasePlacement(State.QUARANTINED, None, NOW + MIN_AGE / 2, REASON)


@given(JUDGEMENTS, st.sampled_from(Verdict), TIMES, LIVE, st.booleans())
def test_a_case_that_a_person_quarantined_never_becomes_due(
    judgement: Judgement,
    last: Verdict,
    due_at: datetime | None,
    live: tuple[Registration, ...],
    held: bool,
) -> None:
    known = quarantined(verdict=last, due_at=due_at, pinned=True)
    assert place_case(judgement, circumstances(known=known, match=matched_by(*live), lock_held=held)) == HELD_BACK


@given(JUDGEMENTS, st.sampled_from(Verdict), TIMES, st.booleans())
def test_a_case_whose_attempts_are_used_up_never_becomes_due_by_the_same_version(
    judgement: Judgement,
    last: Verdict,
    due_at: datetime | None,
    held: bool,
) -> None:
    known = quarantined(verdict=last, due_at=due_at, spent_by=("0", "1"))
    assert place_case(judgement, circumstances(known=known, lock_held=held)) == HELD_BACK


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
    situation = circumstances(known=quarantined(version="1", spent_by=("1",)), match=matched_by(*live))
    assert (get_quarantine_reason(situation) == REASON) is stays
    assert place_case(said(Verdict.FAILED), situation) == (HELD_BACK if stays else CasePlacement(State.DUE, NOW))


def test_a_version_that_does_not_accept_the_thread_gets_no_try_either() -> None:
    spent = quarantined(version="1", spent_by=("1",), quarantine_reason=None)
    assert get_quarantine_reason(circumstances(known=spent, match=matched_by(registration(version="2"))))


def test_a_closed_case_keeps_nobody_out() -> None:
    for known in (case(state=State.CLOSED, pinned=True), case(state=State.CLOSED, spent_by=("1",)), None, case()):
        assert get_quarantine_reason(circumstances(known=known)) is None


def test_a_case_that_nothing_keeps_out_is_due_though_no_version_is_live() -> None:
    away = circumstances(known=case(), match=matched_by(registration(seen_at=AWAY_AT)))
    assert get_quarantine_reason(away) is None
    assert place_case(said(Verdict.STOPPED), away).state is State.DUE


def test_a_quarantine_without_a_reason_still_has_one() -> None:
    for known in (quarantined(pinned=True, quarantine_reason=None), case(spent_by=("1",))):
        assert get_quarantine_reason(circumstances(known=known))


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}])
def test_a_quarantined_thread_that_has_finished_is_closed(changes: dict[str, object]) -> None:
    assert place_case(said(Verdict.FINISHED), circumstances(known=quarantined(**changes))) == CasePlacement(
        State.CLOSED
    )


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}])
def test_a_quarantined_thread_stays_so_when_its_head_moves(changes: dict[str, object]) -> None:
    known = quarantined(head=id_at(QUIET_AT - SECOND), verdict=Verdict.FAILED, **changes)
    assert look(snapshot(), circumstances(known=known)).placement.state is State.QUARANTINED


@pytest.mark.parametrize("verdict", RESUMABLE)
def test_a_thread_that_no_version_took_is_due_when_one_does(verdict: Verdict) -> None:
    known = quarantined(verdict=Verdict.INCOMPATIBLE)
    assert place_case(said(verdict), circumstances(known=known)) == CasePlacement(State.DUE, NOW)


def test_a_deploy_of_a_version_that_takes_the_thread_releases_it() -> None:
    found = snapshot(metadata_version="1")
    condemned = look(found, circumstances(match=matched_by(registration(version="2"))))
    assert condemned.placement.state is State.QUARANTINED
    known = record_look(case(state=State.HELD), condemned, NOW)
    newer = circumstances(known=known, match=matched_by(registration(version="3", accepts=("1",))), now=NOW + SECOND)
    assert look(found, newer).placement == CasePlacement(State.DUE, NOW + SECOND)


@pytest.mark.parametrize("refused", [False, True], ids=["not accepted", "refused"])
def test_a_thread_that_no_version_took_stays_quarantined_while_no_version_is_live(refused: bool) -> None:
    found = snapshot(metadata_version=None if refused else "1")
    refusal = {"refused_by": ("2",), "refusal": Verdict.INCOMPATIBLE} if refused else {}
    known = quarantined(verdict=Verdict.INCOMPATIBLE, **refusal)
    away = matched_by(registration(version="2", seen_at=AWAY_AT))
    assert look(found, circumstances(known=known, match=away)).placement.state is State.QUARANTINED


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}], ids=["a person's", "its own"])
def test_a_quarantine_outlives_a_deploy_and_its_rollback(changes: dict[str, object]) -> None:
    found = snapshot(metadata_version="1")
    known = quarantined(verdict=Verdict.FAILED, version="1", **changes)
    deployed = look(found, circumstances(known=known, match=matched_by(registration(version="2"))))
    assert deployed.placement == HELD_BACK
    back = circumstances(known=record_look(known, deployed, NOW), now=NOW + SECOND)
    assert look(found, back).placement.state is State.QUARANTINED


@pytest.mark.parametrize("changes", [{"pinned": True}, {"spent_by": ("1",)}], ids=["a person's", "its own"])
def test_a_quarantine_outlives_a_glimpse_of_a_held_lock(changes: dict[str, object]) -> None:
    known = quarantined(verdict=Verdict.FAILED, **changes)
    glimpsed = record_look(known, look(snapshot(), circumstances(known=known, lock_held=True)), NOW)
    assert look(snapshot(), circumstances(known=glimpsed, now=NOW + SECOND)).placement.state is State.QUARANTINED


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
    placement = place_case(judgement, circumstances(known=known, match=matched_by(*live)))
    waits_its_turn = placement.state in (State.DUE, State.BACKOFF)
    assert (placement.due_at if waits_its_turn else placement.next_look_at) is not None
    assert placement.state is not State.CLOSED


@given(JUDGEMENTS, CASES, LIVE)
def test_only_a_resumable_verdict_makes_a_case_due(
    judgement: Judgement, known: Case | None, live: tuple[Registration, ...]
) -> None:
    placement = place_case(judgement, circumstances(known=known, match=matched_by(*live)))
    assert placement.state not in (State.DUE, State.BACKOFF) or judgement.verdict in RESUMABLE


@given(st.sampled_from(RESUMABLE), CASES, LIVE)
def test_a_case_backs_off_exactly_until_its_time_has_come(
    verdict: Verdict, known: Case | None, live: tuple[Registration, ...]
) -> None:
    placement = place_case(said(verdict), circumstances(known=known, match=matched_by(*live)))
    if placement.due_at is not None:
        assert (placement.state is State.BACKOFF) == (placement.due_at > NOW)


# Where a thread stands


def test_a_standing_tells_what_was_seen_and_what_was_said_of_it() -> None:
    found = snapshot(row(), metadata_version="1", newest_id=id_at(QUIET_AT + SECOND))
    seen = look(found, circumstances())
    assert (seen.thread_id, seen.workflow, seen.version, seen.head) == ("orders_1", "orders", "1", HEAD)
    assert (seen.fingerprint, seen.last_activity_at) == (found.fingerprint, QUIET_AT + SECOND)
    assert (seen.judgement.verdict, seen.placement) == (Verdict.FAILED, CasePlacement(State.DUE, NOW))


def test_a_standing_names_no_workflow_that_nobody_registered() -> None:
    situation = circumstances(match=matched_by())
    placement = place_case(said(Verdict.UNCLAIMED), situation)
    assert case_update(snapshot(), situation, said(Verdict.UNCLAIMED), placement).workflow is None


def test_a_thread_without_a_checkpoint_is_closed() -> None:
    gone = vanished_case("orders_1", "orders", NOW)
    assert (gone.thread_id, gone.workflow) == ("orders_1", "orders")
    assert (gone.judgement.verdict, gone.placement) == (Verdict.FINISHED, CasePlacement(State.CLOSED))
