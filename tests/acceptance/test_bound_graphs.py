"""Frameworks that call a bound graph by themselves die in mid-run, and the daemon finishes their threads at once."""

import os
import signal
import subprocess
import sys

import psutil

from support.bench import GRAPHS, Bench
from support.waiting import eventually

if str(GRAPHS) not in sys.path:
    sys.path.insert(0, str(GRAPHS))

from bound.graphs import ALL

ENTRIES = [f"{name}=bound.graphs:{name}" for name in ALL]
THREADS = {f"{name}_1" for name in ALL}


def test_what_a_framework_ran_is_finished_after_its_death(bench: Bench) -> None:
    daemon = bench.daemon(ENTRIES, ZOO_DELAY="0.02", RESUMED_MIN_AGE="10m", RESUMED_POLL_INTERVAL="1s").until_ready()
    applications = [bench.module("bound.app", bench.dsn, name, ZOO_DELAY="8") for name in ALL]
    eventually(lambda: {one["thread"] for one in bench.effects("start")} == THREADS)
    begun = bench.rows("select thread_id, workflow, state from resumed.runs order by 1")
    assert begun == [{"thread_id": f"{name}_1", "workflow": name, "state": "open"} for name in sorted(ALL)]
    before = daemon.sweeps()
    eventually(lambda: daemon.sweeps() > before + 1)
    assert bench.one("select count(*) from resumed.attempts") == 0
    for application in applications:
        for process in [*psutil.Process(application.pid).children(recursive=True), application]:
            os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: bench.one("select count(*) from resumed.attempts where outcome = 'finished'") == len(ALL))
    attempts = bench.rows("select thread_id, workflow, outcome from resumed.attempts order by 1")
    finished = [{"thread_id": f"{name}_1", "workflow": name, "outcome": "finished"} for name in sorted(ALL)]
    assert attempts == finished
    nodes = {name: ["a", "b", "c", "d"] for name in ALL} | {"supervisor": ["a", "b", "c", "d", "plan"]}
    ended = {name: sorted(one["node"] for one in bench.effects("end") if one["thread"] == f"{name}_1") for name in ALL}
    assert ended == nodes
    assert daemon.terminate() == 0


def test_a_forked_child_is_told_to_open_its_own_and_its_parents_runs_go_on(bench: Bench) -> None:
    command = [sys.executable, "-m", "bound.forked", bench.dsn]
    environment = bench.environment(ENTRIES, ZOO_DELAY="0")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [who for who, _ in told] == ["child"] * 3 + ["parent", "child", "parent"]
    for who, said in told:
        assert ("after the fork" in said) == (who == "child"), said
    finished = bench.rows("select thread_id from resumed.runs where state = 'finished' order by 1")
    threads = ["queued_after", "queued_before", "told_after", "told_before"]
    assert [row["thread_id"] for row in finished] == threads
    assert bench.one("select count(*) from resumed.runs") == len(threads)
