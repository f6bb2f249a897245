"""What a registration's own callables say of a failed attempt."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from resumed import Workflow
from resumed.judge.retry_policy import RetryInputs, Tally, after_attempt
from resumed.model import Ending, Outcome, State
from resumed.runtime.retry_hooks import get_backoff, get_permanent_reason, is_lasting
from unit.judge.builders import NOW, NUMBERS

FAILED = Ending(Outcome.FAILED, error_type="KeyError")
FIRST = Tally(1, 0)


def broken(_: Any) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("retry_on", [None, KeyError, (OSError, LookupError), [Exception], lambda _: True, broken])
def test_an_error_that_passes_is_tried_again(retry_on: Any) -> None:
    assert get_permanent_reason(Workflow(graph=1, retry_on=retry_on), KeyError("x")) is None


@pytest.mark.parametrize("retry_on", [OSError, (OSError, ValueError), lambda _: False])
def test_an_error_that_does_not_pass_quarantines_at_once(retry_on: Any) -> None:
    reason = get_permanent_reason(Workflow(graph=1, retry_on=retry_on), KeyError("password"))
    assert reason is not None
    assert "password" not in reason
    placement = after_attempt(FIRST, FAILED, NUMBERS, RetryInputs(NOW, 0.5, permanent=reason))
    assert (placement.state, placement.quarantine_reason) == (State.QUARANTINED, reason)


def test_what_was_no_failure_of_the_graph_is_never_permanent() -> None:
    lost = after_attempt(FIRST, Ending(Outcome.LOCK_LOST), NUMBERS, RetryInputs(NOW, 0.5, permanent="x"))
    assert lost.state is State.BACKOFF


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (lambda failures: timedelta(seconds=failures), timedelta(seconds=3)),
        (lambda failures: f"{failures}m", timedelta(minutes=3)),
        (lambda failures: timedelta(seconds=-failures), timedelta(0)),
        (lambda failures: failures, None),
        (broken, None),
        (("1s", "2s"), None),
        (None, None),
    ],
)
def test_a_back_off_of_its_own_is_asked_with_the_number_of_failures(backoff: Any, expected: timedelta | None) -> None:
    assert get_backoff(Workflow(graph=1, backoff=backoff), 3) == expected


def test_a_back_off_of_its_own_takes_the_place_of_the_daemons() -> None:
    placement = after_attempt(FIRST, FAILED, NUMBERS, RetryInputs(NOW, 0.5, wait=timedelta(hours=3)))
    expected: datetime = NOW + timedelta(hours=3)
    assert (placement.state, placement.due_at) == (State.BACKOFF, expected)


@pytest.mark.parametrize(("error", "lasts"), [(ValueError(), True), (ConnectionError(), False), (None, False)])
def test_what_langgraph_would_not_try_again_is_lasting(error: Exception | None, *, lasts: bool) -> None:
    assert is_lasting(Workflow(graph=None), error) is lasts
    assert not is_lasting(Workflow(graph=None, retry_on=ValueError), error)
