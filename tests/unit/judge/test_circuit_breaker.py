"""The circuit of a workflow: closed while single threads fail, single probes while most do, then wider and wider."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.circuit_breaker import WINDOW, CircuitRecord, RecentAttempt, allowance, is_open

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def ended(
    marks: str, *, newest: timedelta = timedelta(minutes=1), threads: int | None = None
) -> tuple[RecentAttempt, ...]:
    """One attempt for each mark, newest first: `x` failed, `.` came to its end."""
    return tuple(
        RecentAttempt(f"t{place % (threads or len(marks))}", mark == "x", NOW - newest - place * SECOND)
        for place, mark in enumerate(marks)
    )


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("", False),
        ("x" * 9, False),
        ("x" * 10, True),
        ("x" * 20, True),
        ("x" * 10 + "." * 10, False),
        ("x" * 11 + "." * 9, True),
        ("." * 9 + "x" * 11, True),
        ("." * 10 + "x" * 30, False),
    ],
)
def test_it_opens_when_most_of_the_last_attempts_failed(marks: str, *, expected: bool) -> None:
    assert is_open(ended(marks)) is expected


def test_a_few_threads_that_always_fail_do_not_open_it() -> None:
    assert not is_open(ended("x" * 20, threads=9))
    assert is_open(ended("x" * 20, threads=10))


def test_while_it_is_closed_there_is_no_limit() -> None:
    assert allowance(CircuitRecord(ended("." * 20), 1000), NOW) is None
    assert allowance(CircuitRecord(), NOW) is None


@pytest.mark.parametrize(("after", "allowed"), [(0, 0), (9, 0), (10, 1), (3600, 1)])
def test_while_it_is_open_one_probe_may_begin_every_ten_seconds(after: int, allowed: int) -> None:
    assert allowance(CircuitRecord(ended("x" * 20, newest=after * SECOND)), NOW) == allowed


def test_while_a_probe_is_open_there_is_no_other_one() -> None:
    assert allowance(CircuitRecord(ended("x" * 20), open=1), NOW) == 0


@pytest.mark.parametrize(("successes", "allowed"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, None)])
def test_each_success_of_a_probe_doubles_what_may_begin_at_once(successes: int, allowed: int | None) -> None:
    marks = "." * successes + "x" * (WINDOW - successes)
    assert allowance(CircuitRecord(ended(marks, newest=SECOND)), NOW) == allowed
    assert allowance(CircuitRecord(ended(marks, newest=SECOND), open=1), NOW) == (allowed and allowed - 1)


@given(st.text(alphabet="x.", max_size=40), st.integers(0, 50), st.integers(0, 60))
def test_whatever_happened_before_a_workflow_gets_its_probe_in_the_end(marks: str, still_open: int, after: int) -> None:
    record = CircuitRecord(ended(marks, newest=after * SECOND), still_open)
    allowed = allowance(record, NOW)
    assert allowed is None or allowed >= 0
    assert allowance(CircuitRecord(record.ended, 0), NOW + timedelta(minutes=1)) != 0
