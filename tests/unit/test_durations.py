"""How a length of time is written, read and refused."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed import durations


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(days=7)),
        ("1h30m", timedelta(minutes=90)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5h", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        (" 5m\n", timedelta(minutes=5)),
        ("5M", timedelta(minutes=5)),
        ("PT5M", timedelta(minutes=5)),
        ("P1D", timedelta(days=1)),
        ("P1W", timedelta(days=7)),
        ("P1DT2H", timedelta(hours=26)),
        ("PT0.5S", timedelta(milliseconds=500)),
        ("36500d", durations.LONGEST),
    ],
)
def test_a_duration_is_read_as_people_and_iso_8601_write_it(written: str, meant: timedelta) -> None:
    assert durations.parse_duration(written) == meant


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("300", "'300' has no unit, write 300s for seconds"),
        ("0", "'0' has no unit, write 0s for seconds"),
        ("1.5", "has no unit"),
        ("", "empty"),
        ("  ", "empty"),
        ("-5m", "negative"),
        ("-300", "negative"),
        ("soon", "is not a duration, write one like 30s"),
        ("5 m", "is not a duration"),
        ("30m1h", "is not a duration"),
        ("1m1m", "is not a duration"),
        ("5y", "is not a duration"),
        ("P", "is not a duration"),
        ("PT", "is not a duration"),
        ("P1DT", "is not a duration"),
        ("P1Y", "is not a duration"),
        ("P1M", "is not a duration"),
        ("-PT5M", "negative"),
        ("٣s", "is not a duration"),
        ("nan", "is not a duration"),
        ("1e3s", "is not a duration"),
        ("9" * 5000 + "s", "too long"),
        ("36501d", "hundred years"),
        ("9" * 60 + "d", "hundred years"),
        ("5m\n5m", "is not a duration"),
        ("5m\0", "is not a duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_sentence_of_one_line(written: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"duration|unit") as refusal:
        durations.parse_duration(written)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("duration", "written"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=30), "30s"),
        (timedelta(minutes=5), "5m"),
        (timedelta(hours=1), "1h"),
        (timedelta(hours=24), "1d"),
        (timedelta(days=7), "7d"),
        (timedelta(minutes=90), "90m"),
        (timedelta(days=1, seconds=1), "1d1s"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(microseconds=1), "0.000001s"),
    ],
)
def test_a_duration_is_written_as_short_as_it_can_be(duration: timedelta, written: str) -> None:
    assert durations.duration_text(duration) == written


def test_a_negative_duration_has_no_text() -> None:
    with pytest.raises(ValueError, match="negative"):
        durations.duration_text(timedelta(seconds=-1))


@given(st.timedeltas(min_value=timedelta(0), max_value=durations.LONGEST))
def test_what_is_written_is_read_back_the_same(duration: timedelta) -> None:
    assert durations.parse_duration(durations.duration_text(duration)) == duration


@given(st.text())
def test_any_text_is_either_a_duration_or_refused_as_one(written: str) -> None:
    try:
        assert timedelta(0) <= durations.parse_duration(written) <= durations.LONGEST
    except ValueError as refusal:
        assert "duration" in str(refusal) or "unit" in str(refusal)  # noqa: PT017 - either end is right
