"""The intervals that only tests change: read whole or refused, and the same in a worker as in its control process."""

from datetime import timedelta

import pytest

from resumed import timings
from resumed.config.settings import load_settings
from resumed.errors import SettingsError
from resumed.model import PolicyLimits
from resumed.timings import Timings
from resumed.workers.protocol import StartWorker, WorkerSettings, decode_for_worker, encode

HOUR = timedelta(hours=1)


def test_without_the_variable_they_are_the_products_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(timings.VARIABLE, raising=False)
    assert timings.from_environment() == Timings()


def test_some_are_shortened_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(timings.VARIABLE, "closing=500ms,worker_silence=2s")
    assert timings.from_environment() == Timings(
        closing=timedelta(milliseconds=500), worker_silence=timedelta(seconds=2)
    )


@pytest.mark.parametrize("written", ["closing=0s", "closing=-1s", "closing=soon", "closing", "opening=1s", "=1s"])
def test_what_is_no_interval_of_ours_or_no_length_of_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv(timings.VARIABLE, written)
    with pytest.raises(SettingsError, match=timings.VARIABLE):
        timings.from_environment()


def test_a_worker_reads_what_its_control_process_wrote() -> None:
    shortened = Timings(stop_grace=timedelta(milliseconds=250))
    limits = PolicyLimits(HOUR, HOUR, 5, 50, HOUR, HOUR, HOUR, 1)
    settings = WorkerSettings("", "public", None, 1, 25, limits, timings=shortened)
    received = decode_for_worker(encode(StartWorker("worker", settings, None, {}, None, alone=False, shared=False)))
    assert isinstance(received, StartWorker)
    assert received.settings.timings == shortened


def test_the_variable_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUMED_DATABASE_URL", "postgresql://localhost/name")
    monkeypatch.setenv(timings.VARIABLE, "closing=1s")
    assert load_settings(None, {}).warnings == ()
