"""What a survey makes of one thread's rows, and that its sums stay small however hostile the names are."""

from datetime import timedelta

import pytest

from resumed.durations import parse_duration
from resumed.judge.survey import Group, Status, SurveyedThread, error_class, group_of, prefix_of, suggested_min_age


@pytest.mark.parametrize(
    ("thread", "prefix"),
    [
        ("orders_17", "orders"),
        ("orders-17", "orders"),
        ("orders:17:x", "orders"),
        ("550e8400-e29b-41d4-a716-446655440000", "(uuid)"),
        ("550e8400e29b41d4a716446655440000", "(uuid)"),
        ("4711", "(number)"),
        ("alone", "(none)"),
        ("_17", "(none)"),
        ("", "(none)"),
        ("x" * 5000 + "_1", "x" * 100),
    ],
)
def test_a_prefix_is_what_a_registration_would_match(thread: str, prefix: str) -> None:
    assert prefix_of(thread) == prefix


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"\xb5RuntimeError('secret')", "RuntimeError"),
        (b"\xd9\x30httpx.ConnectError('password=hunter2')", "ConnectError"),
        (b"\xda\x01\x00ValueError('x')", "ValueError"),
        (b"\xa3('x", "unknown"),
        (b"", "unknown"),
        (b"\xc4\x02\x00\x01", "unknown"),
        ("\xe9".encode(), "unknown"),
    ],
)
def test_of_an_error_only_its_class_is_kept(said: bytes, name: str) -> None:
    assert error_class(said) == name


def test_sums_are_bounded_however_many_names_there_are() -> None:
    groups: dict[str, Group] = {}
    for number in range(2000):
        group_of(groups, f"tenant{number}").add(SurveyedThread(Status.STOPPED, f"node{number}", (), None))
    assert len(groups) == 501
    assert sum(one.counts.total() for one in groups.values()) == 2000
    assert len(groups["(others)"].stopped_at) == 51
    assert groups["(others)"].stopped_at.total() == 1500


def test_counts_of_a_sample_are_scaled_up_to_all_threads() -> None:
    group = Group()
    for status in (Status.FINISHED, Status.FINISHED, Status.STOPPED):
        group.add(SurveyedThread(status, "pay" if status is Status.STOPPED else None, (), None))
    told = group.as_fields("orders", 0.1)
    assert (told["threads"], told["finished"], told["stopped"]) == (30, 20, 10)
    assert told["stopped_at"] == {"pay": 10}


def test_the_silence_to_begin_with_is_twice_the_longest_step_in_whole_minutes() -> None:
    groups = {
        "a": Group(longest_step=parse_duration("61s")),
        "b": Group(longest_step=parse_duration("5s")),
        "c": Group(),
    }
    assert suggested_min_age(groups, timedelta(minutes=1)) == timedelta(minutes=3)
    assert suggested_min_age({}, timedelta(minutes=1)) == timedelta(minutes=1)
