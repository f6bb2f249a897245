"""The documented table of verdicts, as far as rows can tell: each row alone, each row above each other, each edge."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.case import decide_verdict, record_look
from resumed.judge.verdict import (
    ERROR,
    ERROR_SOURCE,
    INTERRUPT,
    NULL_TASK,
    RESUME,
    Circumstances,
    ThreadSnapshot,
    changed_at,
    is_trigger,
    is_unchanged,
    judge_snapshot,
    last_activity,
    quiet_since,
    work_left,
)
from resumed.model import Case, Registration, State, Verdict
from resumed.rows import ControlRow
from unit.judge.builders import (
    HEAD,
    MAX_AGE,
    MIN_AGE,
    NOW,
    OTHER_TASK,
    QUIET_AT,
    RESUMABLE,
    SECOND,
    TASK,
    answer,
    case,
    case_of,
    circumstances,
    head,
    id_at,
    look,
    matched_by,
    question,
    registration,
    row,
    snapshot,
)

CHILD = "checkout:0b1d5a43-9c7e-4a66-9a40-2f1f0d3c9e11"
GONE_AT = NOW - timedelta(minutes=2)

NO_TRIGGER = st.text(max_size=6).filter(lambda name: not is_trigger(name))


def verdict(found: ThreadSnapshot, situation: Circumstances | None = None) -> Verdict:
    return decide_verdict(found, situation or circumstances()).verdict


# The table, pairwise.


def nothing(_: ThreadSnapshot) -> dict[str, object]:
    return {}


@dataclass(frozen=True)
class Cause:
    """What makes one row of the documented table apply; `known` tells what the case that saw the thread remembers."""

    name: str
    verdict: Verdict
    head: dict[str, object] = field(default_factory=dict)
    rows: tuple[ControlRow, ...] = ()
    circumstances: dict[str, object] = field(default_factory=dict)
    known: Callable[[ThreadSnapshot], dict[str, object]] = nothing


TABLE = (
    Cause("lock held", Verdict.RUNNING, circumstances={"lock_held": True}),
    Cause("cancelled", Verdict.CANCELLED, known=lambda found: {"cancelled_head": found.head.checkpoint_id}),
    Cause("waiting", Verdict.WAITING, rows=(question(task_id=OTHER_TASK),)),
    Cause("breakpoint", Verdict.BREAKPOINT, known=lambda _: {"refusal": Verdict.BREAKPOINT, "refused_by": ("1",)}),
    Cause("finished", Verdict.FINISHED, head={"updated_channels": ("messages",)}),
    Cause("edited", Verdict.EDITED, head={"source": "update"}),
    Cause("unclaimed", Verdict.UNCLAIMED, circumstances={"match": matched_by()}),
    Cause("incompatible", Verdict.INCOMPATIBLE, head={"metadata_version": "0"}),
    Cause("expired", Verdict.EXPIRED, head={"checkpoint_id": id_at(NOW - MAX_AGE - SECOND)}),
    Cause("not quiet", Verdict.RUNNING, head={"checkpoint_id": id_at(NOW - MIN_AGE + SECOND)}),
    Cause("failed", Verdict.FAILED, rows=(row(),)),
    Cause("stopped", Verdict.STOPPED),
)
IMPOSSIBLE = {
    ("edited", "failed"),  # the error's row means that something has run since the edit
    ("expired", "not quiet"),
}


def pairs() -> Iterator[object]:
    for upper, lower in combinations(TABLE, 2):
        if (upper.name, lower.name) not in IMPOSSIBLE:
            yield pytest.param(upper, lower, id=f"{upper.name} above {lower.name}")


def both(upper: Cause, lower: Cause) -> tuple[ThreadSnapshot, Circumstances]:
    found = snapshot(*upper.rows, *lower.rows, **lower.head, **upper.head)
    remembers = {**lower.known(found), **upper.known(found)}
    known = case_of(found, state=State.HELD, first_seen_at=NOW, **remembers) if remembers else None
    return found, circumstances(known=known, **lower.circumstances, **upper.circumstances)


@pytest.mark.parametrize(("upper", "lower"), list(pairs()))
def test_the_first_row_of_the_table_that_applies_wins(upper: Cause, lower: Cause) -> None:
    assert verdict(*both(upper, lower)) is upper.verdict


@pytest.mark.parametrize(
    "cause",
    TABLE[:-1],
    ids=lambda cause: cause.name,
)
def test_without_its_cause_no_row_applies(cause: Cause) -> None:
    found, situation = both(cause, TABLE[-1])
    assert verdict(found, situation) is cause.verdict
    healthy = replace(situation, lock_held=False, known=None, match=circumstances().match)
    assert verdict(snapshot(), healthy) is Verdict.STOPPED


# running, by the lock


def test_a_thread_with_a_held_lock_is_running() -> None:
    found = judge_snapshot(snapshot(), circumstances(lock_held=True))
    assert (found.verdict, found.until) == (Verdict.RUNNING, None)


def test_a_held_lock_means_running_even_where_we_wrote_the_head_ourselves() -> None:
    assert verdict(snapshot(), circumstances(lock_held=True, ours=True)) is Verdict.RUNNING


# cancelled


@pytest.mark.parametrize("live", [(registration(),), (registration(version="2"),), ()], ids=["same", "new", "none"])
@pytest.mark.parametrize("state", list(State))
def test_a_cancelled_head_is_never_resumed_whatever_was_seen_of_it(
    live: tuple[Registration, ...], state: State
) -> None:
    known = case(cancelled_head=HEAD, state=state)
    assert verdict(snapshot(row()), circumstances(known=known, match=matched_by(*live))) is Verdict.CANCELLED


def test_a_cancel_outlives_a_glimpse_of_a_held_lock() -> None:
    known = case(cancelled_head=HEAD, verdict=Verdict.CANCELLED, state=State.HELD)
    glimpsed = record_look(known, look(snapshot(), circumstances(known=known, lock_held=True)), NOW)
    assert verdict(snapshot(), circumstances(known=glimpsed, now=NOW + SECOND)) is Verdict.CANCELLED


def test_a_cancel_is_over_when_the_head_moves() -> None:
    before = id_at(QUIET_AT - SECOND)
    known = case(verdict=Verdict.CANCELLED, state=State.HELD, head=before, cancelled_head=before)
    assert verdict(snapshot(), circumstances(known=known)) is Verdict.STOPPED


# waiting


def test_a_question_without_an_answer_waits() -> None:
    found = judge_snapshot(snapshot(question()), circumstances())
    assert found.verdict is Verdict.WAITING
    assert "root graph" in found.reason


def test_a_question_waits_however_long_it_has_been_quiet() -> None:
    assert verdict(snapshot(question(), checkpoint_id=id_at(NOW - 90 * MAX_AGE))) is Verdict.WAITING


def test_a_question_waits_though_a_parallel_branch_failed() -> None:
    assert verdict(snapshot(row(task_id=OTHER_TASK), question())) is Verdict.WAITING


def test_a_question_in_a_subgraph_waits() -> None:
    asked = question(checkpoint_ns=CHILD, checkpoint_id=id_at(QUIET_AT + SECOND))
    found = judge_snapshot(snapshot(asked, question()), circumstances())
    assert found.verdict is Verdict.WAITING
    assert CHILD in found.reason


@pytest.mark.parametrize(
    "asked", [question(checkpoint_ns=CHILD), question(task_path="~__pregel_push, ~__pregel_pull, flow, 0, 1")]
)
def test_a_question_that_nobody_can_see_is_asked_again_where_a_workflow_can(asked: ControlRow) -> None:
    found = judge_snapshot(snapshot(asked), circumstances())
    assert (found.verdict, "nobody can see it" in found.reason) == (Verdict.STOPPED, True)
    found = judge_snapshot(snapshot(asked), circumstances(match=matched_by()))
    assert (found.verdict, "nobody can see it" in found.reason) == (Verdict.WAITING, True)
    assert verdict(snapshot(asked, row(task_id=OTHER_TASK))) is Verdict.FAILED


def test_a_question_whose_task_has_finished_waits_no_longer() -> None:
    assert verdict(snapshot(question(has_output=True), row(channel=RESUME, order=2))) is Verdict.STOPPED


TAKEN = row(channel=RESUME, order=3, writer="703")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param((answer(),), Verdict.STOPPED, id="given and not yet taken"),
        pytest.param((answer(), TAKEN), Verdict.STOPPED, id="taken, then killed"),
        pytest.param((answer(), TAKEN, row(order=4, writer="704")), Verdict.FAILED, id="taken, then the task raised"),
        pytest.param((answer(), TAKEN, question(task_id=OTHER_TASK)), Verdict.STOPPED, id="of another question"),
        pytest.param((question(task_id=OTHER_TASK, has_output=True),), Verdict.STOPPED, id="of one that has finished"),
    ],
)
def test_a_question_beside_any_sign_of_an_answer_is_left_to_those_who_can_load_values(
    rows: tuple[ControlRow, ...], expected: Verdict
) -> None:
    assert verdict(snapshot(question(), *rows)) is expected


def test_a_question_of_a_task_that_has_output_and_an_error_is_open() -> None:
    # First its router raised beside its writes, then a resume ran it again and it asked: it has not finished since.
    rows = (row(has_output=True, order=1), question(has_output=True, order=2, writer="702"))
    assert verdict(snapshot(*rows)) is Verdict.WAITING


# finished


@pytest.mark.parametrize(
    ("channel", "starts"),
    [
        ("__start__", True),
        ("__pregel_tasks", True),
        ("branch:to:pay", True),
        ("join:a+b:pay", True),
        ("messages", False),
        ("start", False),
        ("__input__", False),
        ("__end__", False),
        ("__resume__", False),
        ("branch", False),
        ("my:branch:to:pay", False),
        ("joined", False),
        ("", False),
    ],
)
def test_a_channel_starts_a_node_by_its_name(channel: str, starts: bool) -> None:
    assert is_trigger(channel) is starts
    assert (work_left(head(updated_channels=(channel,))) == channel) is starts
    assert verdict(snapshot(updated_channels=("messages", channel))) is (
        Verdict.STOPPED if starts else Verdict.FINISHED
    )


def test_a_head_that_updated_nothing_is_finished() -> None:
    assert verdict(snapshot(updated_channels=())) is Verdict.FINISHED


def test_an_error_on_a_head_with_nothing_left_does_not_reopen_it() -> None:
    assert verdict(snapshot(row(), updated_channels=("messages",))) is Verdict.FINISHED


@pytest.mark.parametrize("source", ["loop", "input", None])
def test_null_updated_channels_are_not_taken_for_finished(source: str | None) -> None:
    assert work_left(head(updated_channels=None))
    assert verdict(snapshot(updated_channels=None, source=source)) is Verdict.STOPPED


@pytest.mark.parametrize("channel", ["branch:to:pay", "__pregel_tasks", "join:a+b:pay"])
def test_a_goto_given_to_a_finished_thread_is_work(channel: str) -> None:
    goto = row(task_id=NULL_TASK, channel=channel)
    found = snapshot(goto, updated_channels=("messages",), null_channels=("messages", channel))
    assert work_left(found.head) == channel
    assert verdict(found) is Verdict.STOPPED


@pytest.mark.parametrize("channels", [("messages",), (RESUME,), (RESUME, "messages"), ("__input__",)])
def test_an_update_or_an_answer_given_to_a_finished_thread_is_no_work(channels: tuple[str, ...]) -> None:
    rows = [row(task_id=NULL_TASK, channel=channel) for channel in channels]
    assert verdict(snapshot(*rows, updated_channels=("messages",), null_channels=channels)) is Verdict.FINISHED


def test_a_trigger_of_a_low_level_graph_is_work_where_its_registration_names_it() -> None:
    found = snapshot(updated_channels=("tick",))
    knows = circumstances(match=matched_by(registration(triggers=("tock", "tick"))))
    assert verdict(found, knows) is Verdict.STOPPED
    assert verdict(found, circumstances()) is Verdict.FINISHED


def test_a_trigger_that_only_one_version_names_is_work() -> None:
    versions = (registration(version="2"), registration(version="1", triggers=("tick",)))
    assert verdict(snapshot(updated_channels=("tick",)), circumstances(match=matched_by(*versions))) is Verdict.STOPPED


def test_a_trigger_on_the_null_task_of_a_low_level_graph_is_work() -> None:
    found = snapshot(row(task_id=NULL_TASK, channel="tick"), updated_channels=("messages",), null_channels=("tick",))
    assert verdict(found, circumstances(match=matched_by(registration(triggers=("tick",))))) is Verdict.STOPPED


@given(st.lists(NO_TRIGGER, max_size=4), st.lists(NO_TRIGGER, max_size=4), st.booleans())
def test_one_trigger_among_any_channels_is_enough(updated: list[str], null: list[str], there: bool) -> None:
    waiting = ("branch:to:pay",)
    seen = head(
        updated_channels=(*updated, *(waiting if there else ())), null_channels=(*null, *(() if there else waiting))
    )
    assert work_left(seen) == "branch:to:pay"


# edited


@pytest.mark.parametrize("source", ["update", "fork"])
@pytest.mark.parametrize("updated", [None, ("branch:to:pay",)], ids=["null", "trigger"])
def test_a_head_that_a_person_wrote_is_edited(source: str, updated: tuple[str, ...] | None) -> None:
    assert verdict(snapshot(source=source, updated_channels=updated)) is Verdict.EDITED


@pytest.mark.parametrize("source", ["loop", "input", None])
def test_a_head_that_a_run_wrote_is_not_edited(source: str | None) -> None:
    assert verdict(snapshot(source=source, updated_channels=None)) is Verdict.STOPPED


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (row(), Verdict.FAILED),
        (row(cancelled=True), Verdict.STOPPED),
        (row(checkpoint_ns=CHILD), Verdict.FAILED),
    ],
    ids=["failed", "cancelled", "failed in a subgraph"],
)
def test_an_edit_on_which_a_task_has_run_since_is_the_threads_own_again(ran: ControlRow, expected: Verdict) -> None:
    assert verdict(snapshot(ran, source="update", updated_channels=None)) is expected


def test_a_row_of_the_null_task_does_not_mean_that_somebody_ran_an_edit() -> None:
    given = row(task_id=NULL_TASK, channel="messages")
    found = snapshot(given, source="fork", updated_channels=None, null_channels=("messages",))
    assert verdict(found) is Verdict.EDITED


# unclaimed


def test_a_thread_of_a_workflow_that_nobody_registered_is_unclaimed() -> None:
    found = judge_snapshot(snapshot(), circumstances(match=matched_by()))
    assert found.verdict is Verdict.UNCLAIMED
    assert "orders" in found.reason


def test_a_workflow_that_is_down_is_still_registered() -> None:
    away = registration(seen_at=NOW - timedelta(hours=8))
    assert verdict(snapshot(), circumstances(match=matched_by(away))) is Verdict.STOPPED


# incompatible


@pytest.mark.parametrize(
    ("version", "live", "expected"),
    [
        pytest.param("1", [("2", ())], Verdict.INCOMPATIBLE, id="no live version accepts it"),
        pytest.param("1", [("2", ("1",))], Verdict.STOPPED, id="a newer one accepts it"),
        pytest.param("1", [("2", ()), ("1", ())], Verdict.STOPPED, id="its own is still about"),
        pytest.param("1", [("3", ("2",)), ("2", ("0",))], Verdict.INCOMPATIBLE, id="none of two accepts it"),
        pytest.param("1", [("3", ()), ("2", ("1",))], Verdict.STOPPED, id="one of two accepts it"),
        pytest.param(None, [("2", ())], Verdict.STOPPED, id="it names no version"),
        pytest.param("1", [("", ())], Verdict.STOPPED, id="the code names no version"),
    ],
)
def test_a_thread_is_incompatible_where_no_live_version_accepts_its_own(
    version: str | None, live: list[tuple[str, tuple[str, ...]]], expected: Verdict
) -> None:
    versions = [registration(version=own, accepts=also) for own, also in live]
    assert verdict(snapshot(metadata_version=version), circumstances(match=matched_by(*versions))) is expected


def test_a_version_that_accepts_the_thread_but_was_not_seen_for_a_minute_does_not_count() -> None:
    versions = (registration(version="2"), registration(version="1", seen_at=GONE_AT))
    assert verdict(snapshot(metadata_version="1"), circumstances(match=matched_by(*versions))) is Verdict.INCOMPATIBLE


def test_a_thread_is_not_condemned_while_no_version_at_all_is_live() -> None:
    versions = (registration(version="2", seen_at=GONE_AT),)
    assert verdict(snapshot(metadata_version="1"), circumstances(match=matched_by(*versions))) is Verdict.STOPPED


def refused(*versions: str, **changes: object) -> Case:
    refusal = {"refused_by": versions, "refusal": Verdict.INCOMPATIBLE, "refusal_reason": "node pay is gone"}
    return case(**{"verdict": Verdict.INCOMPATIBLE, "state": State.HELD, **refusal, **changes})


def test_a_head_that_every_live_version_refused_is_incompatible_for_the_reason_they_gave() -> None:
    versions = (registration(version="1"), registration(version="2"))
    known = refused("1", "2")
    found = decide_verdict(snapshot(), circumstances(known=known, match=matched_by(*versions)))
    assert (found.verdict, found.reason) == (Verdict.INCOMPATIBLE, "node pay is gone")


def test_a_head_that_one_version_refused_is_left_to_another() -> None:
    versions = (registration(version="1"), registration(version="2"))
    assert verdict(snapshot(), circumstances(known=refused("1"), match=matched_by(*versions))) is Verdict.STOPPED


def test_a_head_that_one_version_refused_is_not_left_to_one_that_does_not_accept_it() -> None:
    versions = (registration(version="1"), registration(version="2"))
    found = snapshot(metadata_version="1")
    assert verdict(found, circumstances(known=refused("1"), match=matched_by(*versions))) is Verdict.INCOMPATIBLE


def test_a_head_that_one_version_refused_is_not_left_to_one_that_is_gone() -> None:
    versions = (registration(version="1"), registration(version="2", seen_at=GONE_AT))
    assert verdict(snapshot(), circumstances(known=refused("1"), match=matched_by(*versions))) is Verdict.INCOMPATIBLE


def test_a_refusal_says_nothing_of_the_next_head() -> None:
    known = refused("1", head=id_at(QUIET_AT - SECOND))
    assert verdict(snapshot(), circumstances(known=known)) is Verdict.STOPPED


@pytest.mark.parametrize("last", [Verdict.RUNNING, Verdict.STOPPED, Verdict.FAILED])
def test_a_head_that_every_live_version_refused_is_not_resumable_whatever_was_seen_meanwhile(last: Verdict) -> None:
    assert verdict(snapshot(), circumstances(known=refused("1", verdict=last))) not in RESUMABLE


def test_a_refusal_outlives_a_glimpse_of_a_held_lock() -> None:
    found = snapshot()
    glimpsed = record_look(refused("1"), look(found, circumstances(known=refused("1"), lock_held=True)), NOW)
    assert verdict(found, circumstances(known=glimpsed, now=NOW + SECOND)) is Verdict.INCOMPATIBLE


# expired


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (MAX_AGE - SECOND, Verdict.STOPPED),
        (MAX_AGE, Verdict.STOPPED),
        (MAX_AGE + SECOND, Verdict.EXPIRED),
        (365 * MAX_AGE, Verdict.EXPIRED),
    ],
)
def test_a_thread_is_expired_that_was_quiet_for_longer_than_max_age_when_first_seen(
    silence: timedelta, expected: Verdict
) -> None:
    assert verdict(snapshot(checkpoint_id=id_at(NOW - silence))) is expected


def test_a_failed_thread_expires_too() -> None:
    assert verdict(snapshot(row(), checkpoint_id=id_at(NOW - 2 * MAX_AGE))) is Verdict.EXPIRED


def test_a_closed_case_is_first_seen_anew() -> None:
    found = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    known = case(head=id_at(NOW - 3 * MAX_AGE), verdict=Verdict.FINISHED, state=State.CLOSED, attempts=3)
    assert verdict(found, circumstances(known=known)) is Verdict.EXPIRED


@pytest.mark.parametrize("state", [State.DUE, State.BACKOFF, State.RUNNING, State.HELD, State.QUARANTINED])
def test_an_open_case_never_expires(state: State) -> None:
    found = snapshot(checkpoint_id=id_at(NOW - 10 * MAX_AGE))
    known = case_of(found, state=state, first_seen_at=NOW - 10 * MAX_AGE + MIN_AGE)
    assert verdict(found, circumstances(known=known)) is Verdict.STOPPED


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_case_that_was_tried_or_due_never_expires_though_it_was_old_when_first_seen(attempts: int) -> None:
    # Its max_age was longer then, or a person asked for it by name.
    found = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    state = State.RUNNING if attempts else State.DUE
    known = case_of(found, state=state, attempts=attempts, first_seen_at=NOW - MIN_AGE)
    assert verdict(found, circumstances(known=known)) is Verdict.STOPPED


def expired(found: ThreadSnapshot) -> Case:
    return case_of(found, verdict=Verdict.EXPIRED, state=State.HELD, first_seen_at=NOW)


@pytest.mark.parametrize("later", [SECOND, MAX_AGE, 30 * MAX_AGE])
def test_an_expired_thread_stays_expired_until_it_changes(later: timedelta) -> None:
    found = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    assert verdict(found, circumstances(known=expired(found), now=NOW + later)) is Verdict.EXPIRED


def test_an_expired_thread_is_wanted_again_when_max_age_grows_beyond_its_silence() -> None:
    found = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    ages = replace(circumstances().ages, max_age=3 * MAX_AGE)
    assert verdict(found, circumstances(known=expired(found), ages=ages)) is Verdict.STOPPED


def test_an_expired_thread_whose_control_rows_change_counts_again_from_sight() -> None:
    before = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    after = snapshot(row(), checkpoint_id=before.head.checkpoint_id)
    seen = look(after, circumstances(known=expired(before)))
    assert seen.judgement.verdict is Verdict.RUNNING
    known = record_look(expired(before), seen, NOW)
    assert verdict(after, circumstances(known=known, now=NOW + MIN_AGE)) is Verdict.FAILED


def test_an_expired_thread_whose_head_moved_is_no_longer_expired() -> None:
    known = case(head=id_at(NOW - 2 * MAX_AGE), verdict=Verdict.EXPIRED, state=State.HELD)
    assert verdict(snapshot(), circumstances(known=known)) is Verdict.STOPPED


def test_an_expired_thread_stays_expired_after_a_glimpse_of_a_held_lock() -> None:
    found = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    known = expired(found)
    glimpsed = record_look(known, look(found, circumstances(known=known, lock_held=True)), NOW)
    assert verdict(found, circumstances(known=glimpsed, now=NOW + SECOND)) is Verdict.EXPIRED


@pytest.mark.parametrize("last", [Verdict.UNCLAIMED, Verdict.INCOMPATIBLE])
def test_a_thread_that_was_too_old_when_first_seen_is_expired_when_a_version_comes_that_takes_it(last: Verdict) -> None:
    found = snapshot(checkpoint_id=id_at(NOW - 2 * MAX_AGE))
    known = case_of(found, verdict=last, state=State.HELD, first_seen_at=NOW - MIN_AGE)
    assert verdict(found, circumstances(known=known)) is Verdict.EXPIRED


# running, by silence


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (-MIN_AGE, Verdict.RUNNING),  # a clock ahead of ours
        (timedelta(0), Verdict.RUNNING),
        (MIN_AGE - SECOND, Verdict.RUNNING),
        (MIN_AGE, Verdict.STOPPED),
        (MIN_AGE + SECOND, Verdict.STOPPED),
    ],
)
def test_a_thread_is_running_until_it_has_been_quiet_for_min_age(silence: timedelta, expected: Verdict) -> None:
    found = judge_snapshot(snapshot(checkpoint_id=id_at(NOW - silence)), circumstances())
    assert found.verdict is expected
    assert found.until == (NOW - silence + MIN_AGE if expected is Verdict.RUNNING else None)


def test_an_error_does_not_shorten_the_silence() -> None:
    assert verdict(snapshot(row(), checkpoint_id=id_at(NOW - SECOND))) is Verdict.RUNNING


def test_no_silence_is_needed_where_min_age_is_nothing() -> None:
    ages = replace(circumstances().ages, min_age=timedelta(0))
    assert verdict(snapshot(checkpoint_id=id_at(NOW)), circumstances(ages=ages)) is Verdict.STOPPED


def test_a_checkpoint_of_a_subgraph_is_a_sign_of_life() -> None:
    found = snapshot(newest_id=id_at(NOW - SECOND))
    assert verdict(found) is Verdict.RUNNING
    assert last_activity(found.head, None, NOW) == NOW - SECOND


def test_a_head_that_we_wrote_under_the_lock_needs_no_silence() -> None:
    assert verdict(snapshot(checkpoint_id=id_at(NOW)), circumstances(ours=True)) is Verdict.STOPPED


def test_a_head_where_our_attempt_left_off_needs_no_silence() -> None:
    found = snapshot(checkpoint_id=id_at(NOW))
    known = case_of(found, own_head=found.head.checkpoint_id)
    assert verdict(found, circumstances(known=known)) is Verdict.STOPPED


def test_a_head_that_moved_on_from_where_our_attempt_left_off_needs_silence_again() -> None:
    known = case(own_head=HEAD)
    assert verdict(snapshot(checkpoint_id=id_at(NOW - SECOND)), circumstances(known=known)) is Verdict.RUNNING


def test_a_change_on_the_head_where_our_attempt_left_off_needs_silence_again() -> None:
    known = case(own_head=HEAD)
    assert verdict(snapshot(row()), circumstances(known=known)) is Verdict.RUNNING


def test_an_attempt_that_left_off_at_an_earlier_head_excuses_nothing() -> None:
    found = snapshot(checkpoint_id=id_at(NOW - SECOND))
    assert verdict(found, circumstances(known=case_of(found, own_head=HEAD))) is Verdict.RUNNING


def test_a_change_of_control_rows_on_a_known_head_counts_from_our_sight() -> None:
    found = snapshot(row(), checkpoint_id=id_at(NOW - timedelta(days=3)))
    known = case_of(snapshot(checkpoint_id=found.head.checkpoint_id))
    seen = judge_snapshot(found, circumstances(known=known))
    assert (seen.verdict, seen.until) == (Verdict.RUNNING, NOW + MIN_AGE)
    assert changed_at(found, known, NOW) == NOW


@pytest.mark.parametrize(("later", "expected"), [(MIN_AGE - SECOND, Verdict.RUNNING), (MIN_AGE, Verdict.FAILED)])
def test_a_change_that_we_saw_becomes_quiet_min_age_after_it(later: timedelta, expected: Verdict) -> None:
    found = snapshot(row(), checkpoint_id=id_at(NOW - timedelta(days=3)))
    known = case_of(found, changed_at=NOW)
    assert verdict(found, circumstances(known=known, now=NOW + later)) is expected


def test_control_rows_on_a_head_that_is_new_to_us_count_from_its_id() -> None:
    known = case(head=id_at(QUIET_AT - SECOND), changed_at=NOW)
    assert changed_at(snapshot(row()), known, NOW) is None
    assert verdict(snapshot(row()), circumstances(known=known)) is Verdict.FAILED
    assert verdict(snapshot(row()), circumstances(known=None)) is Verdict.FAILED


def test_an_error_that_vanishes_is_a_change_too() -> None:
    known = case_of(snapshot(row()))
    assert verdict(snapshot(), circumstances(known=known)) is Verdict.RUNNING


def test_an_old_change_does_not_hide_a_newer_checkpoint() -> None:
    found = snapshot(newest_id=id_at(NOW - SECOND))
    assert quiet_since(found, circumstances(known=case(changed_at=NOW - timedelta(hours=1)))) == NOW - SECOND


def test_a_goto_given_to_a_finished_thread_counts_from_our_sight() -> None:
    before = snapshot(updated_channels=("messages",))
    known = case_of(before, verdict=Verdict.FINISHED, state=State.CLOSED)
    goto = row(task_id=NULL_TASK, channel="branch:to:pay")
    after = snapshot(goto, updated_channels=("messages",), null_channels=("branch:to:pay",))
    assert verdict(after, circumstances(known=known)) is Verdict.RUNNING


# ids that tell no time


ODD = "0f7c1d2e-aaaa-4bbb-8ccc-000000000001"


def test_an_id_that_tells_no_time_counts_from_when_it_was_first_seen() -> None:
    found = judge_snapshot(snapshot(checkpoint_id=ODD), circumstances())
    assert (found.verdict, found.until) == (Verdict.RUNNING, NOW + MIN_AGE)


@pytest.mark.parametrize(("since", "expected"), [(MIN_AGE - SECOND, Verdict.RUNNING), (MIN_AGE, Verdict.STOPPED)])
def test_an_id_that_tells_no_time_becomes_quiet_min_age_after_first_sight(since: timedelta, expected: Verdict) -> None:
    found = snapshot(checkpoint_id=ODD)
    known = case_of(found, first_seen_at=NOW - since)
    assert verdict(found, circumstances(known=known)) is expected
    assert last_activity(found.head, known, NOW) == NOW - since


def test_an_id_that_tells_no_time_counts_from_when_it_became_the_head_not_from_when_its_thread_was_first_seen() -> None:
    found = snapshot(checkpoint_id=ODD)
    known = case_of(found, first_seen_at=QUIET_AT, head_seen_at=NOW - SECOND)
    assert verdict(found, circumstances(known=known)) is Verdict.RUNNING
    assert last_activity(found.head, known, NOW) == NOW - SECOND


def test_looking_at_it_does_not_make_an_id_that_tells_no_time_young_again() -> None:
    found, known = snapshot(checkpoint_id=ODD), case(head="an earlier one")
    for step in range(4):
        now = NOW + step * MIN_AGE / 3
        known = record_look(known, look(found, circumstances(known=known, now=now)), now)
    assert known.verdict is Verdict.STOPPED


def test_a_next_id_that_tells_no_time_is_first_seen_anew() -> None:
    known = case(head="an earlier one", first_seen_at=QUIET_AT)
    assert verdict(snapshot(checkpoint_id=ODD), circumstances(known=known)) is Verdict.RUNNING


def test_an_id_that_tells_no_time_is_never_expired_at_first_sight() -> None:
    ages = replace(circumstances().ages, min_age=timedelta(0), max_age=SECOND)
    assert verdict(snapshot(checkpoint_id=ODD), circumstances(ages=ages)) is Verdict.STOPPED


def test_a_change_on_a_head_whose_id_tells_no_time_counts_from_our_sight() -> None:
    known = case_of(snapshot(checkpoint_id=ODD), first_seen_at=QUIET_AT)
    assert verdict(snapshot(row(), checkpoint_id=ODD), circumstances(known=known)) is Verdict.RUNNING


# failed and stopped


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param((), Verdict.STOPPED, id="no rows"),
        pytest.param((row(),), Verdict.FAILED, id="an error"),
        pytest.param((row(has_output=True),), Verdict.FAILED, id="a router's error beside output"),
        pytest.param((row(checkpoint_ns=CHILD),), Verdict.FAILED, id="an error in a subgraph"),
        pytest.param((row(cancelled=True),), Verdict.STOPPED, id="a bare CancelledError"),
        pytest.param((row(cancelled=True), row(task_id=OTHER_TASK, cancelled=True)), Verdict.STOPPED, id="two of them"),
        pytest.param((row(cancelled=True), row(task_id=OTHER_TASK)), Verdict.FAILED, id="one of them and an error"),
        pytest.param((row(channel=ERROR_SOURCE),), Verdict.STOPPED, id="only a handler's note"),
    ],
)
def test_an_error_means_failed_and_a_cancelled_one_means_stopped(
    rows: tuple[ControlRow, ...], expected: Verdict
) -> None:
    assert verdict(snapshot(*rows)) is expected


@pytest.mark.parametrize(
    ("updated", "where"),
    [(("branch:to:pay",), "branch:to:pay"), (None, "updated_channels is null"), (("tick",), "a channel of its own")],
)
@pytest.mark.parametrize("rows", [(), (row(),)], ids=["stopped", "failed"])
def test_the_reason_names_where_work_waits(
    updated: tuple[str, ...] | None, where: str, rows: tuple[ControlRow, ...]
) -> None:
    knows = circumstances(match=matched_by(registration(triggers=("tick",))))
    assert where in judge_snapshot(snapshot(*rows, updated_channels=updated), knows).reason


# what a sighting is compared by


@pytest.mark.parametrize(
    "other",
    [
        (),
        (row(), row(task_id=OTHER_TASK)),
        (row(writer="702", order=2),),
        (row(channel=RESUME),),
        (row(task_id=OTHER_TASK),),
        (row(checkpoint_ns=CHILD),),
        (row(checkpoint_id=id_at(NOW)),),
    ],
    ids=["vanished", "joined", "written again", "other channel", "other task", "other namespace", "other checkpoint"],
)
def test_a_change_of_control_rows_changes_the_fingerprint(other: tuple[ControlRow, ...]) -> None:
    assert snapshot(*other).fingerprint != snapshot(row()).fingerprint
    assert not is_unchanged(snapshot(*other), case_of(snapshot(row())))


def test_the_order_in_which_rows_are_read_does_not_change_the_fingerprint() -> None:
    rows = (row(), row(task_id=OTHER_TASK), question(task_id=OTHER_TASK))
    assert snapshot(*rows).fingerprint == snapshot(*reversed(rows)).fingerprint


def test_a_thread_is_unchanged_only_against_the_case_that_saw_this_very_head() -> None:
    assert is_unchanged(snapshot(), case())
    assert not is_unchanged(snapshot(), None)
    assert not is_unchanged(snapshot(), case(head=id_at(NOW)))


# what may never happen, whatever the rows


ROWS = st.lists(
    st.builds(
        row,
        task_id=st.sampled_from((TASK, OTHER_TASK)),
        channel=st.sampled_from((ERROR, ERROR_SOURCE, INTERRUPT, RESUME)),
        checkpoint_ns=st.sampled_from(("", CHILD)),
        order=st.integers(1, 4),
        writer=st.sampled_from("1234"),
        cancelled=st.booleans(),
        has_output=st.booleans(),
    ),
    max_size=4,
)
SILENCES = st.timedeltas(-MIN_AGE, 3 * MIN_AGE) | st.timedeltas(timedelta(0), 3 * MAX_AGE)
REGISTRATIONS = st.lists(
    st.builds(
        registration,
        version=st.sampled_from(("", "1", "2")),
        accepts=st.sampled_from(((), ("1",))),
        seen_at=st.sampled_from((NOW, GONE_AT)),
    ),
    max_size=3,
)


@st.composite
def snapshots(draw: st.DrawFn) -> ThreadSnapshot:
    made = draw(SILENCES)
    return snapshot(
        *draw(ROWS),
        checkpoint_id=draw(st.sampled_from((id_at(NOW - made), ODD))),
        newest_id=draw(st.sampled_from((id_at(NOW - made), id_at(NOW - made / 2)))),
        source=draw(st.sampled_from(("loop", "input", "update", "fork", None))),
        updated_channels=draw(st.sampled_from((None, ("messages",), ("branch:to:pay",)))),
        null_channels=draw(st.sampled_from(((), ("branch:to:pay",), (RESUME,)))),
        metadata_version=draw(st.sampled_from((None, "1", "2", "3"))),
    )


@st.composite
def cases_of(draw: st.DrawFn, found: ThreadSnapshot) -> Case:
    seen = draw(st.sampled_from((found, snapshot(question()), snapshot(checkpoint_id=found.head.checkpoint_id))))
    refused_by = draw(st.sampled_from(((), ("1",), ("1", "2"))))
    return case_of(
        seen,
        verdict=draw(st.sampled_from(Verdict)),
        state=draw(st.sampled_from(State)),
        changed_at=draw(st.none() | st.just(NOW - MIN_AGE / 2)),
        refused_by=refused_by,
        refusal=draw(st.sampled_from((Verdict.INCOMPATIBLE, Verdict.BREAKPOINT, Verdict.WAITING)))
        if refused_by
        else None,
        own_head=draw(st.sampled_from((None, seen.head.checkpoint_id, "another"))),
        cancelled_head=draw(st.sampled_from((None, None, seen.head.checkpoint_id, "another"))),
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[ThreadSnapshot, Circumstances]:
    found = draw(snapshots())
    situation = circumstances(
        known=draw(st.none() | cases_of(found)),
        match=matched_by(*draw(REGISTRATIONS)),
        lock_held=draw(st.booleans()),
        ours=draw(st.booleans()),
    )
    return found, situation


@given(scenes())
def test_a_held_lock_is_running_whatever_else_is_true(sweep_context: tuple[ThreadSnapshot, Circumstances]) -> None:
    assert decide_verdict(sweep_context[0], replace(sweep_context[1], lock_held=True)).verdict is Verdict.RUNNING


@given(scenes(), st.sampled_from(("", CHILD)))
def test_a_thread_with_an_open_question_and_no_sign_of_an_answer_is_never_resumable(
    sweep_context: tuple[ThreadSnapshot, Circumstances], namespace: str
) -> None:
    found, situation = sweep_context
    unanswered = [
        one for one in found.rows if one.channel != RESUME and not (one.channel == INTERRUPT and one.has_output)
    ]
    asked = question(task_id="one more", checkpoint_ns=namespace), question(task_id="its caller")
    assert decide_verdict(replace(found, rows=(*unanswered, *asked)), situation).verdict not in RESUMABLE


@given(scenes(), st.timedeltas(timedelta(microseconds=1), 2 * MIN_AGE))
def test_a_thread_that_saved_less_than_min_age_ago_is_resumable_only_where_we_left_it(
    sweep_context: tuple[ThreadSnapshot, Circumstances], left: timedelta
) -> None:
    found, situation = sweep_context
    found = replace(found, head=replace(found.head, newest_id=id_at(NOW - MIN_AGE + left)))
    known = situation.known
    own = situation.ours or (known is not None and is_unchanged(found, known) and known.own_head == known.head)
    assert own or decide_verdict(found, situation).verdict not in RESUMABLE


@given(scenes(), st.timedeltas(timedelta(0), MIN_AGE - timedelta(microseconds=1)))
def test_a_thread_that_we_saw_change_less_than_min_age_ago_is_not_resumable(
    sweep_context: tuple[ThreadSnapshot, Circumstances], ago: timedelta
) -> None:
    found, situation = sweep_context
    known = case_of(found, changed_at=NOW - ago, verdict=Verdict.WAITING, state=State.HELD)
    assert decide_verdict(found, replace(situation, known=known, ours=False)).verdict not in RESUMABLE


@given(scenes())
def test_a_thread_that_is_not_quiet_says_when_it_will_be(sweep_context: tuple[ThreadSnapshot, Circumstances]) -> None:
    found = decide_verdict(sweep_context[0], replace(sweep_context[1], lock_held=False))
    assert (found.until is not None and found.until > NOW) == (found.verdict is Verdict.RUNNING)


@given(scenes())
def test_every_judgement_has_a_reason(sweep_context: tuple[ThreadSnapshot, Circumstances]) -> None:
    assert decide_verdict(*sweep_context).reason


@given(scenes())
def test_a_thread_without_a_registration_is_never_resumable(
    sweep_context: tuple[ThreadSnapshot, Circumstances],
) -> None:
    found, situation = sweep_context
    assert decide_verdict(found, replace(situation, match=matched_by())).verdict not in RESUMABLE
