"""Clocks that disagree by ten minutes, either way, and one that jumps: nothing is forgotten, nothing is repeated."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from support.bench import Bench
from support.clocks import set_clock, shifted
from support.daemon import Daemon
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

TEN_MINUTES = 600
ATTEMPTS = "select count(*) from resumed.attempts"


def readiness(daemon: Daemon) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{daemon.port}/readyz")


def clock(bench: Bench, **settings: str) -> list[dict[str, Any]]:
    found = bench.resumed("doctor", "--json", **settings)
    return [one for one in json.loads(found.stdout)["findings"] if one["check"] == "clock"]


@pytest.mark.parametrize("seconds", [TEN_MINUTES, pytest.param(-TEN_MINUTES, marks=pytest.mark.thorough)])
def test_a_daemon_whose_clock_is_wrong_tries_nothing_and_shows_it(bench: Bench, seconds: int) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(**shifted(seconds))
    eventually(lambda: daemon.lines("clock_skew.detected"))
    eventually(lambda: daemon.sweeps() >= 5)
    refused = readiness(daemon)
    assert refused.status_code == 503
    assert "clock" in refused.text
    assert len(daemon.lines("clock_skew.detected")) == 1
    assert bench.one(ATTEMPTS) == 0
    assert [one["level"] for one in clock(bench, **shifted(seconds))] == ["error"]
    assert daemon.terminate() == 0
    honest = bench.daemon()
    eventually(lambda: bench.all_closed(1))
    assert final_state(bench.dsn, "linear_0") == undisturbed("linear")
    assert honest.terminate() == 0


@pytest.mark.parametrize("seconds", [TEN_MINUTES, pytest.param(-TEN_MINUTES, marks=pytest.mark.thorough)])
def test_a_clock_that_jumps_stops_attempts_but_not_sweeps_until_it_is_right_again(bench: Bench, seconds: int) -> None:
    told = bench.folder / "clock"
    set_clock(told, 0)
    daemon = bench.daemon(**shifted(told)).until_ready()
    set_clock(told, seconds)
    eventually(lambda: daemon.lines("clock_skew.detected"))
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    before = daemon.sweeps()
    eventually(lambda: daemon.sweeps() >= before + 5)
    assert bench.one(ATTEMPTS) == 0
    set_clock(told, 0)
    eventually(lambda: bench.all_closed(1))
    assert readiness(daemon).status_code == 200
    assert final_state(bench.dsn, "linear_0") == undisturbed("linear")
    assert [row["outcome"] for row in bench.rows("select outcome from resumed.attempts")] == ["finished"]
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_an_application_whose_clock_is_behind_is_resumed_and_each_node_runs_at_most_twice(bench: Bench) -> None:
    bench.crashed_application(2, "linear", "alinear", ends=6, ZOO_DELAY="0.3", **shifted(-TEN_MINUTES))
    daemon = bench.daemon()
    eventually(lambda: bench.all_closed(4))
    for thread in ("linear_0", "linear_1", "alinear_0", "alinear_1"):
        assert final_state(bench.dsn, thread) == undisturbed(thread.rpartition("_")[0])
        runs = [line["node"] for line in bench.effects("start") if line["thread"] == thread]
        assert all(runs.count(node) <= 2 for node in runs)
    assert {row["outcome"] for row in bench.rows("select outcome from resumed.attempts")} == {"finished"}
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_an_application_whose_clock_is_ahead_is_told_of_and_its_threads_wait(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=2, ZOO_DELAY="0.3", **shifted(TEN_MINUTES))
    daemon = bench.daemon().until_ready()
    eventually(lambda: daemon.lines("application_clock.doubted"))
    eventually(lambda: daemon.sweeps() >= 5)
    ahead = timedelta(milliseconds=daemon.lines("application_clock.doubted")[0]["ahead_ms"])
    assert timedelta(minutes=9) < ahead < timedelta(minutes=11)
    assert len(daemon.lines("application_clock.doubted")) == 1
    assert readiness(daemon).status_code == 200
    assert bench.one(ATTEMPTS) == 0
    assert [one["level"] for one in clock(bench)] == ["ok", "warning"]
    assert bench.ask("show", "linear_0")["verdict"] == "running"
    assert daemon.terminate() == 0
