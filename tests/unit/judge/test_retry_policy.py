"""What follows an attempt: what it is charged, how long the next one waits, when nobody tries again."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.case import CasePlacement
from resumed.judge.retry_policy import (
    RetryInputs,
    Tally,
    after_attempt,
    back_off,
    consecutive_after,
    give_up_reason,
    is_charged,
)
from resumed.model import Ending, Outcome, PolicyLimits, State
from unit.judge.builders import NOW, NUMBERS, SECOND

CHARGED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.NO_PROGRESS, Outcome.INCOMPATIBLE)
UNCHARGED = tuple(one for one in Outcome if one not in CHARGED)
NOTHING = timedelta(0)
DRAWS = st.floats(0, 1, exclude_max=True)
TALLIES = st.builds(Tally, attempts=st.integers(1, 60), consecutive=st.integers(0, 10))
ENDINGS = st.builds(
    Ending,
    outcome=st.sampled_from(Outcome),
    advanced=st.booleans(),
    error_type=st.sampled_from((None, "ValueError", "GraphRecursionError", "InvalidUpdateError")),
)
POLICIES = st.builds(
    replace,
    st.just(NUMBERS),
    max_attempts=st.integers(1, 10),
    max_total_attempts=st.integers(10, 60),
    retry_base=st.timedeltas(NOTHING, timedelta(hours=1)),
    retry_cap=st.timedeltas(timedelta(hours=1), timedelta(days=1)),
)


def chance(draw: float = 0.5) -> RetryInputs:
    return RetryInputs(NOW, draw)


def waits(tally: Tally, ending: Ending, draw: float = 0.5) -> timedelta:
    placement = after_attempt(tally, ending, NUMBERS, chance(draw))
    assert placement.state is State.BACKOFF
    assert placement.due_at is not None
    return placement.due_at - NOW


# What is charged


@pytest.mark.parametrize("outcome", CHARGED)
def test_an_attempt_that_ended_by_the_threads_own_doing_is_charged(outcome: Outcome) -> None:
    assert is_charged(Ending(outcome))
    assert consecutive_after(Tally(3, 2), Ending(outcome)) == 3


@pytest.mark.parametrize("outcome", UNCHARGED)
def test_an_attempt_that_ended_by_other_causes_is_not_charged(outcome: Outcome) -> None:
    assert not is_charged(Ending(outcome))
    assert consecutive_after(Tally(3, 2), Ending(outcome)) == 2


@pytest.mark.parametrize("outcome", CHARGED)
def test_a_charged_attempt_that_advanced_starts_the_count_anew(outcome: Outcome) -> None:
    assert is_charged(Ending(outcome, advanced=True))
    assert consecutive_after(Tally(9, 4), Ending(outcome, advanced=True)) == 0


@given(TALLIES, ENDINGS)
def test_one_attempt_adds_at_most_one_to_the_count(tally: Tally, ending: Ending) -> None:
    assert consecutive_after(tally, ending) in {0, tally.consecutive, tally.consecutive + 1}


# How long to wait


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (7, 1920), (8, 3600), (9, 3600), (1000, 3600)],
)
def test_back_off_doubles_up_to_the_cap(failures: int, seconds: int) -> None:
    assert back_off(failures, NUMBERS, 1 / 2) == timedelta(seconds=seconds) / 2


@pytest.mark.parametrize("failures", [0, -1])
def test_back_off_before_any_failure_is_that_of_the_first(failures: int) -> None:
    assert back_off(failures, NUMBERS, 0.5) == back_off(1, NUMBERS, 0.5)


@given(st.integers(0, 10_000), POLICIES, DRAWS)
def test_back_off_is_never_above_the_cap_nor_below_nothing(failures: int, numbers: PolicyLimits, draw: float) -> None:
    assert NOTHING <= back_off(failures, numbers, draw) <= numbers.retry_cap


@given(st.integers(1, 20), DRAWS)
def test_back_off_is_jittered_over_its_whole_length(failures: int, draw: float) -> None:
    longest = min(NUMBERS.retry_cap, timedelta(seconds=30 * 2 ** (failures - 1)))
    assert back_off(failures, NUMBERS, 0.0) == NOTHING
    assert back_off(failures, NUMBERS, draw) == longest * draw


@given(st.integers(1, 60), DRAWS)
def test_one_more_failure_never_shortens_the_longest_wait(failures: int, draw: float) -> None:
    assert back_off(failures + 1, NUMBERS, draw) >= back_off(failures, NUMBERS, draw)


@given(st.integers(0, 100), DRAWS)
def test_a_base_of_nothing_waits_for_nothing(failures: int, draw: float) -> None:
    assert back_off(failures, replace(NUMBERS, retry_base=NOTHING), draw) == NOTHING


def test_a_base_of_nothing_is_due_at_the_next_sweep() -> None:
    numbers = replace(NUMBERS, retry_base=NOTHING)
    assert after_attempt(Tally(2, 1), Ending(Outcome.FAILED), numbers, chance(0.99)).due_at == NOW


def test_a_base_above_the_cap_waits_for_the_cap() -> None:
    numbers = replace(NUMBERS, retry_base=timedelta(hours=2))
    assert back_off(1, numbers, 0.5) == NUMBERS.retry_cap / 2


@pytest.mark.parametrize(("base", "failures"), [(timedelta(days=36_500), 16), (timedelta(days=1), 31)])
def test_the_longest_base_that_settings_allow_stays_under_the_cap(base: timedelta, failures: int) -> None:
    numbers = replace(NUMBERS, retry_base=base, retry_cap=base, max_attempts=100)
    assert back_off(failures, numbers, 0.5) == base / 2


# When to give up


@pytest.mark.parametrize(("consecutive", "expected"), [(0, False), (3, False), (4, True), (5, True)])
@pytest.mark.parametrize("outcome", CHARGED)
def test_the_last_charged_attempt_without_progress_ends_in_quarantine(
    outcome: Outcome,
    consecutive: int,
    expected: bool,
) -> None:
    placement = after_attempt(Tally(9, consecutive), Ending(outcome), NUMBERS, chance())
    assert (placement.state is State.QUARANTINED) is expected
    assert (give_up_reason(Tally(9, consecutive), Ending(outcome), NUMBERS) is not None) is expected


def test_the_first_failure_is_the_last_where_one_attempt_is_allowed() -> None:
    numbers = replace(NUMBERS, max_attempts=1)
    assert after_attempt(Tally(1, 0), Ending(Outcome.FAILED), numbers, chance()).state is State.QUARANTINED


@pytest.mark.parametrize("outcome", UNCHARGED)
def test_an_uncharged_attempt_is_not_the_last_however_close_the_count_is(outcome: Outcome) -> None:
    assert give_up_reason(Tally(9, 4), Ending(outcome), NUMBERS) is None


@pytest.mark.parametrize("outcome", CHARGED)
def test_progress_saves_from_the_count_of_consecutive_attempts(outcome: Outcome) -> None:
    assert give_up_reason(Tally(9, 4), Ending(outcome, advanced=True), NUMBERS) is None


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("advanced", [False, True])
def test_the_total_cap_counts_attempts_of_every_kind(outcome: Outcome, advanced: bool) -> None:
    ending = Ending(outcome, advanced=advanced)
    assert give_up_reason(Tally(49, 0), ending, NUMBERS) is None
    assert after_attempt(Tally(50, 0), ending, NUMBERS, chance()).state is State.QUARANTINED


@pytest.mark.parametrize("error_type", ["GraphRecursionError", "InvalidUpdateError"])
@pytest.mark.parametrize("advanced", [False, True])
def test_an_error_that_does_not_pass_by_itself_quarantines_at_once(error_type: str, advanced: bool) -> None:
    ending = Ending(Outcome.FAILED, advanced=advanced, error_type=error_type)
    placement = after_attempt(Tally(1, 0), ending, NUMBERS, chance())
    assert placement.state is State.QUARANTINED
    assert error_type in (placement.quarantine_reason or "")


@pytest.mark.parametrize("error_type", ["ValueError", "recursionerror", "RecursionError", "MyInvalidUpdateError", None])
def test_another_error_is_tried_again(error_type: str | None) -> None:
    ending = Ending(Outcome.FAILED, error_type=error_type)
    assert after_attempt(Tally(1, 0), ending, NUMBERS, chance()).state is State.BACKOFF


@pytest.mark.parametrize("outcome", [Outcome.DRAINED, Outcome.LOCK_LOST, Outcome.SUPERSEDED, Outcome.TIMED_OUT])
def test_only_what_the_graph_raised_quarantines_at_once(outcome: Outcome) -> None:
    ending = Ending(outcome, error_type="GraphRecursionError")
    assert give_up_reason(Tally(1, 0), ending, NUMBERS) is None


@given(TALLIES, ENDINGS, POLICIES, DRAWS)
def test_a_quarantine_has_a_reason_and_no_time_and_anything_else_has_a_time(
    tally: Tally, ending: Ending, numbers: PolicyLimits, draw: float
) -> None:
    placement = after_attempt(tally, ending, numbers, chance(draw))
    assert placement.state in {State.QUARANTINED, State.BACKOFF, State.DUE}
    assert (placement.due_at is None) == (placement.state is State.QUARANTINED) == bool(placement.quarantine_reason)
    assert placement.due_at is None or NOW <= placement.due_at <= NOW + numbers.retry_cap


@given(st.lists(ENDINGS, min_size=51, max_size=60))
def test_no_thread_is_tried_more_often_than_the_total_cap_allows(endings: list[Ending]) -> None:
    tally, tries = Tally(0, 0), 0
    for ending in endings:
        tally, tries = replace(tally, attempts=tally.attempts + 1), tries + 1
        if after_attempt(tally, ending, NUMBERS, chance()).state is State.QUARANTINED:
            break
        tally = replace(tally, consecutive=consecutive_after(tally, ending))
    assert tries <= NUMBERS.max_total_attempts


# Where the case stands meanwhile


def test_a_failed_attempt_backs_off_by_the_count_that_it_makes() -> None:
    assert waits(Tally(1, 0), Ending(Outcome.FAILED)) == 15 * SECOND
    assert waits(Tally(2, 1), Ending(Outcome.FAILED)) == 30 * SECOND
    assert waits(Tally(4, 3), Ending(Outcome.FAILED)) == 120 * SECOND


def test_a_failed_attempt_that_advanced_backs_off_as_the_first_one_does() -> None:
    assert waits(Tally(40, 4), Ending(Outcome.FAILED, advanced=True)) == 15 * SECOND


@pytest.mark.parametrize("outcome", [Outcome.LOCK_LOST, Outcome.SUPERSEDED])
def test_an_uncharged_attempt_backs_off_too_and_longer_each_time(outcome: Outcome) -> None:
    lengths = [waits(Tally(attempts, 0), Ending(outcome)) for attempts in range(1, 10)]
    assert lengths[0] > NOTHING
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]


@pytest.mark.parametrize("attempts", [1, 8, 49])
@pytest.mark.parametrize("consecutive", [0, 4])
@pytest.mark.parametrize("outcome", [Outcome.DRAINED, Outcome.CRASHED])
def test_what_ended_with_its_process_is_due_at_once(attempts: int, consecutive: int, outcome: Outcome) -> None:
    placement = after_attempt(Tally(attempts, consecutive), Ending(outcome), NUMBERS, chance(0.99))
    assert placement == CasePlacement(State.DUE, NOW)


def test_a_quarantine_says_how_many_attempts_it_took() -> None:
    assert "5" in (give_up_reason(Tally(9, 4), Ending(Outcome.FAILED), NUMBERS) or "")
    assert "50" in (give_up_reason(Tally(50, 0), Ending(Outcome.CRASHED), NUMBERS) or "")


def test_a_quarantine_says_that_its_error_seldom_passes() -> None:
    ending = Ending(Outcome.FAILED, error_type="ValueError")
    placement = after_attempt(Tally(5, 4), ending, NUMBERS, RetryInputs(NOW, 0.5, lasting=True))
    assert placement.quarantine_reason is not None
    assert "5 charged attempts" in placement.quarantine_reason
    assert placement.quarantine_reason.endswith("ValueError is of a kind that seldom passes by itself")
    again = after_attempt(Tally(4, 3), ending, NUMBERS, RetryInputs(NOW, 0.5, lasting=True))
    assert again.state is State.BACKOFF
