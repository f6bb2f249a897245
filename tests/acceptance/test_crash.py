"""An application, a daemon, a worker is killed: every thread is finished all the same, each node by one at a time."""

import signal
from collections import Counter
from itertools import pairwise
from typing import Any

import psutil

from support.bench import Bench
from support.daemon import Daemon
from support.undisturbed import final_states, undisturbed
from support.waiting import eventually

KINDS = ("linear", "alinear", "fan", "sends", "nested", "functional")


def test_a_hundred_threads_of_a_killed_application_are_finished_by_two_daemons(bench: Bench) -> None:
    threads = [f"{kind}_{number}" for kind in KINDS for number in range(17)]
    bench.crashed_application(17, *KINDS, ends=80, ZOO_DELAY="0.3")
    assert bench.one("select count(distinct thread_id) from checkpoints") == len(threads)
    daemons = [bench.daemon(), bench.daemon()]
    eventually(lambda: bench.all_closed(1))
    expected = {kind: undisturbed(kind) for kind in KINDS}
    states = final_states(bench.dsn, threads)
    assert states == {thread: expected[thread.rpartition("_")[0]] for thread in threads}
    assert_one_at_a_time(bench)
    assert_every_attempt_is_told_of(bench, daemons)
    assert sum(daemon.terminate() for daemon in daemons) == 0


def test_the_attempts_of_a_killed_daemon_are_closed_within_three_sweeps_and_its_threads_finished(bench: Bench) -> None:
    bench.crashed_application(25, "linear", "alinear", ends=10, ZOO_DELAY="0.3")
    many = {"RESUMED_CONCURRENCY": "50", "RESUMED_LOG_LEVEL": "debug", "RESUMED_POLL_INTERVAL": "1s"}
    first = bench.daemon(ZOO_DELAY="10", **many).until_ready()
    eventually(lambda: bench.open_attempts() == 50)
    other = bench.daemon(**many).until_ready()
    workers = [psutil.Process(pid) for pid in first.workers()]
    first.kill()
    killed_at = bench.one("select clock_timestamp()")
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)
    closed = "select count(*) from resumed.attempts where outcome = 'crashed'"
    eventually(lambda: bench.one(closed) == 50)
    last = bench.one("select max(finished_at) from resumed.attempts where outcome = 'crashed'")
    sweeps = [line for line in other.lines("sweep.finished") if killed_at.isoformat() < line["timestamp"]]
    between = [line for line in sweeps if line["timestamp"] < last.isoformat()]
    assert len(between) <= 3
    eventually(lambda: bench.all_closed(1))
    assert bench.open_attempts() == 0
    assert not bench.one("select count(*) from resumed.attempts where charged")
    states = final_states(bench.dsn, [f"linear_{number}" for number in range(25)])
    assert [one for one in states if states[one] != undisturbed("linear")] == []
    assert_one_at_a_time(bench)
    assert other.terminate() == 0


def test_sigterm_amid_attempts_drains_charges_nothing_and_the_next_start_finishes(bench: Bench) -> None:
    bench.crashed_application(25, "linear", "alinear", ends=10, ZOO_DELAY="0.3")
    first = bench.daemon(ZOO_DELAY="0.7", RESUMED_CONCURRENCY="50", RESUMED_SHUTDOWN_GRACE="20s").until_ready()
    eventually(lambda: bench.open_attempts() == 50)
    workers = [psutil.Process(pid) for pid in first.workers()]
    assert first.terminate() == 0
    assert not any(worker.is_running() for worker in workers)
    outcomes = bench.rows("select outcome, charged, count(*)::int as n from resumed.attempts group by 1, 2")
    assert outcomes == [{"outcome": "drained", "charged": False, "n": 50}]
    assert len(first.lines("attempt.finished")) == 50
    second = bench.daemon()
    eventually(lambda: bench.all_closed(1))
    assert bench.one("select count(*) from resumed.attempts where charged") == 0
    states = final_states(bench.dsn, [f"alinear_{number}" for number in range(25)])
    assert [one for one in states if states[one] != undisturbed("alinear")] == []
    assert_one_at_a_time(bench)
    assert second.terminate() == 0


def test_a_second_sigterm_ends_at_once_and_the_next_start_finishes(bench: Bench) -> None:
    bench.crashed_application(3, "linear", ends=3, ZOO_DELAY="0.3")
    first = bench.daemon(ZOO_DELAY="30").until_ready()
    eventually(lambda: bench.open_attempts() == 3)
    workers = [psutil.Process(pid) for pid in first.workers()]
    first.process.send_signal(signal.SIGTERM)
    eventually(lambda: first.lines("shutdown.started"))
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(10) == 130
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)
    second = bench.daemon()
    eventually(lambda: bench.all_closed(3))
    assert second.terminate() == 0


def test_once_with_wait_finishes_what_a_killed_application_left_and_repeats_nothing(bench: Bench) -> None:
    bench.crashed_application(4, *KINDS, ends=20, ZOO_DELAY="0.2")
    done = bench.resumed("once", "--wait")
    assert done.returncode == 0, done.stderr
    assert bench.all_closed(1)
    before = bench.rows("select thread_id, checkpoint_ns, checkpoint_id from checkpoints order by 1, 2, 3")
    again = bench.resumed("once", "--wait")
    assert again.returncode == 0
    assert bench.rows("select thread_id, checkpoint_ns, checkpoint_id from checkpoints order by 1, 2, 3") == before


def assert_one_at_a_time(bench: Bench) -> None:
    """Nobody runs a node of a thread before the one who ran it before has stopped."""
    threads: dict[str, dict[Any, list[float]]] = {}
    for line in bench.effects():
        threads.setdefault(line["thread"], {}).setdefault((line["pid"], line["attempt"]), []).append(line["at"])
    for thread, runs in threads.items():
        spans = sorted((min(instants), max(instants)) for instants in runs.values())
        for earlier, later in pairwise(spans):
            assert earlier[1] <= later[0], thread


def assert_every_attempt_is_told_of(bench: Bench, daemons: list[Daemon]) -> None:
    rows = bench.rows("select thread_id, attempt, workflow, outcome from resumed.attempts")
    recorded = Counter((row["thread_id"], row["attempt"]) for row in rows)
    for event in ("attempt.started", "attempt.finished"):
        told = Counter((line["thread_id"], line["attempt"]) for one in daemons for line in one.lines(event))
        assert told == recorded, event
    counted: Counter[tuple[str, str]] = Counter()
    for daemon in daemons:
        for labels, value in daemon.samples("resumed_attempts_total"):
            counted[labels["workflow"], labels["outcome"]] += int(value)
    assert +counted == Counter((row["workflow"], row["outcome"]) for row in rows)
