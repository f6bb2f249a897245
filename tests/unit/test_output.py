"""How instants are written for people and for programs."""

import sys
from datetime import UTC, datetime, timedelta

import pytest

from resumed.cli.output import format_time

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (timedelta(0), "0 s ago"),
        (timedelta(seconds=-59), "59 s ago"),
        (timedelta(seconds=-61), "1 min ago"),
        (timedelta(hours=-5, minutes=-59), "5 h ago"),
        (timedelta(days=-3), "3 d ago"),
        (timedelta(minutes=2, seconds=1), "in 2 min"),
    ],
)
def test_a_terminal_shows_how_far_away_an_instant_is(
    away: timedelta, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert format_time(NOW + away, NOW) == said


def test_everything_else_gets_iso_8601(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert format_time(NOW) == "2026-05-01T12:00:00+00:00"
    assert format_time(None) == ""
