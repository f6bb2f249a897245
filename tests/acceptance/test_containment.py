"""Threads that kill, hang or starve their worker: they harm themselves alone, and are quarantined for it."""

from itertools import pairwise
from typing import Any

import pytest

from resumed.demo.postgres import PrivateServer
from support.bench import Bench
from support.daemon import Daemon
from support.tiers import small, whole
from support.waiting import eventually

MISCHIEVOUS = {"killing": 2, "hanging": 2, "hoarding": 1, "leaving": 1, "crashing": 1, "blocking": 1}
FEW = {"killing": 1, "hanging": 1, "blocking": 1}
OUTCOMES = {"hanging": "timed_out", "hoarding": "failed"}  # of an attempt that is charged; all others crash
SETTINGS: Any = {
    "MISCHIEF": "1",
    "ZOO_DELAY": "0.05",
    "RESUMED_MAX_ATTEMPTS": "2",
    "RESUMED_ATTEMPT_TIMEOUT": "4s",
    "RESUMED_WORKER_MEMORY": "512MiB",
    "RESUMED_TEST_TIMINGS": "worker_silence=5s,stuck_grace=3s,thread_grace=1s,stop_grace=1s,isolation_turn=5s",
}
ENDS = "select attempt, outcome, charged, count(*)::int as n from resumed.attempts group by 1, 2, 3 order by 1"
STATES = "select state, count(*)::int as threads from resumed.cases where workflow {} 'healthy' group by 1"


def leave(bench: Bench, **counts: int) -> None:
    """Leave so many threads of each workflow, failed in their second node."""
    wanted = [f"{workflow}={count}" for workflow, count in counts.items()]
    assert bench.module("faults.leave", bench.dsn, *wanted, workflows=[], ZOO_DELAY="0").wait(60) == 0


def entries(*names: str) -> list[str]:
    return [f"{name} = faults.mischief:{name}" for name in names]


def states(bench: Bench, which: str) -> dict[str, int]:
    return {row["state"]: row["threads"] for row in bench.rows(STATES.format(which))}


def told(daemon: Daemon, name: str) -> float:
    return sum(value for _, value in daemon.samples(name))


def started(daemon: Daemon, *, alone: bool) -> int:
    return sum(line["worker"].endswith("-isolation") is alone for line in daemon.lines("worker.started"))


@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("mischievous", "healthy", "most"),
    [
        small(FEW, 20, 1, id="a thread of some kinds"),
        whole(MISCHIEVOUS, 100, 2, id="all kinds"),
    ],
)
def test_threads_that_harm_their_worker_are_quarantined_and_harm_no_other(
    bench: Bench, mischievous: dict[str, int], healthy: int, most: int
) -> None:
    leave(bench, **mischievous, healthy=healthy)
    settings = {**SETTINGS, "RESUMED_MAX_ATTEMPTS": str(most)}
    daemon = bench.daemon(entries(*mischievous, "healthy"), **settings).until_ready()
    harmful = sum(mischievous.values())
    eventually(lambda: states(bench, "=") == {"closed": healthy}, 120)
    eventually(lambda: states(bench, "<>") == {"quarantined": harmful}, 300)
    attempts = bench.rows("select thread_id, workflow, outcome, charged, worker, finished_at from resumed.attempts")
    assert [one for one in attempts if one["workflow"] == "healthy" and one["charged"]] == []
    assert all(one["finished_at"] for one in attempts)
    charged = [one for one in attempts if one["charged"]]
    assert len(charged) == harmful * most, charged
    assert {(one["workflow"], one["outcome"]) for one in charged} == {
        (kind, OUTCOMES.get(kind, "crashed")) for kind in mischievous
    }
    assert all(one["worker"].endswith("-isolation") for one in charged if one["outcome"] == "crashed")
    assert daemon.process.poll() is None
    assert len(daemon.lines("service.started")) == 1
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_a_workflow_that_asks_for_it_is_always_tried_alone(bench: Bench) -> None:
    leave(bench, healthy=3)
    daemon = bench.daemon(["healthy = faults.mischief:isolated"], **{**SETTINGS, "ZOO_DELAY": "0.3"})
    eventually(lambda: bench.all_closed(3))
    attempts = bench.rows("select worker, started_at, finished_at from resumed.attempts order by started_at")
    assert len(attempts) == 3
    assert all(one["worker"].endswith("-isolation") for one in attempts)
    assert all(one["finished_at"] <= other["started_at"] for one, other in pairwise(attempts))
    assert [value for labels, value in daemon.samples("resumed_workers") if labels["state"] == "isolation"] == [1]
    assert told(daemon, "resumed_worker_restarts_total") == 0
    assert daemon.terminate() == 0


def test_an_outage_is_not_charged_to_a_thread_that_is_tried_alone(own: Bench, private_server: PrivateServer) -> None:
    leave(own, healthy=1)
    settings = {**SETTINGS, "ZOO_DELAY": "1", "RESUMED_RECONNECT_GRACE": "1s"}
    daemon = own.daemon(["healthy = faults.mischief:isolated"], **settings)
    assert_outage_is_lock_lost(own, private_server, daemon, threads=1)


@pytest.mark.thorough
def test_an_outage_makes_no_thread_a_suspect(own: Bench, private_server: PrivateServer) -> None:
    leave(own, healthy=4)
    settings = {**SETTINGS, "ZOO_DELAY": "1", "RESUMED_RECONNECT_GRACE": "1s", "RESUMED_PROCESSES": "2"}
    daemon = own.daemon(entries("healthy"), **settings)
    assert_outage_is_lock_lost(own, private_server, daemon, threads=4)
    assert started(daemon, alone=True) == 0


def assert_outage_is_lock_lost(own: Bench, server: PrivateServer, daemon: Daemon, threads: int) -> None:
    eventually(lambda: len(daemon.lines("attempt.started")) == threads)
    own.disconnect()
    server.stop()
    eventually(lambda: len(daemon.lines("attempt.postponed")) >= threads)
    server.start()
    eventually(lambda: own.all_closed(threads))
    ends = own.rows(
        "select attempt, outcome, charged, count(*)::int as n from resumed.attempts group by 1, 2, 3 order by 1"
    )
    assert ends == [
        {"attempt": 1, "outcome": "lock_lost", "charged": False, "n": threads},
        {"attempt": 2, "outcome": "finished", "charged": False, "n": threads},
    ]
    assert own.one("select count(*) from resumed.cases where suspect") == 0
    assert daemon.lines("worker.died") == []
    assert daemon.terminate() == 0


@pytest.mark.parametrize("graph", ["leaking", pytest.param("leaking_alone", marks=pytest.mark.thorough)])
def test_a_worker_that_leaks_is_replaced_before_it_meets_its_limit(bench: Bench, graph: str) -> None:
    leave(bench, leaking=24)
    settings = {**SETTINGS, "RESUMED_WORKER_MEMORY": "1GiB", "RESUMED_CONCURRENCY": "2"}
    daemon = bench.daemon([f"leaking = faults.mischief:{graph}"], **settings)
    eventually(lambda: bench.all_closed(24))
    assert bench.rows("select distinct outcome, charged from resumed.attempts") == [
        {"outcome": "finished", "charged": False}
    ]
    assert started(daemon, alone=graph == "leaking_alone") >= 2
    eventually(lambda: told(daemon, "resumed_worker_restarts_total") == started(daemon, alone=False) - 1)
    assert daemon.lines("worker.died") == []
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_once_sees_suspects_to_their_end(bench: Bench) -> None:
    leave(bench, killing=1, healthy=5)
    done = bench.resumed("once", "--wait", workflows=entries("killing", "healthy"), **SETTINGS)
    assert done.returncode == 1
    assert states(bench, "=") == {"closed": 5}
    assert states(bench, "<>") == {"quarantined": 1}
    outcomes = bench.rows("select outcome, charged from resumed.attempts where workflow = 'killing' order by attempt")
    assert [(one["outcome"], one["charged"]) for one in outcomes] == [("crashed", False), *[("crashed", True)] * 2]


def test_a_state_that_ends_the_process_which_loads_it_is_tried_alone_and_quarantined(bench: Bench) -> None:
    leave(bench, deadly=1, healthy=5)
    daemon = bench.daemon(entries("deadly", "healthy"), **SETTINGS).until_ready()
    eventually(lambda: states(bench, "=") == {"closed": 5})
    eventually(lambda: states(bench, "<>") == {"quarantined": 1}, 120)
    assert bench.rows("select from resumed.attempts where charged or workflow = 'deadly'") == []
    died = [line["worker"].endswith("-isolation") for line in daemon.lines("worker.died")]
    assert 1 <= died.count(False) <= 2
    assert 2 <= died.count(True) <= 4  # one whose session was still being ended is counted at its next try
    [told] = daemon.lines("case.quarantined")
    assert (told["thread_id"], told["reason"]) == (
        "deadly_0",
        "loading this thread's state crashes the worker before an attempt can start",
    )
    assert daemon.terminate() == 0
