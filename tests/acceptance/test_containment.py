"""Threads that kill, hang or starve their worker: they harm themselves alone, and are quarantined for it."""

import subprocess
import sys
from typing import Any

from acceptance.conftest import Bench, Daemon, eventually

MISCHIEVOUS = {"killing": 2, "hanging": 2, "hoarding": 1, "leaving": 1, "crashing": 1, "blocking": 1}
SETTINGS: Any = {
    "MISCHIEF": "1",
    "ZOO_DELAY": "0.05",
    "RESUMED_MAX_ATTEMPTS": "2",
    "RESUMED_ATTEMPT_TIMEOUT": "4s",
    "RESUMED_WORKER_MEMORY": "512MiB",
}
STATES = "select state, count(*)::int as threads from resumed.cases where workflow {} 'healthy' group by 1"


def leave(bench: Bench, workflow: str, count: int) -> None:
    environment = {**bench.environment([]), "ZOO_DELAY": "0"}
    subprocess.run(
        [sys.executable, "-m", "faults.leave", bench.dsn, str(count), workflow], env=environment, check=True, timeout=60
    )


def entries(*names: str) -> list[str]:
    return [f"{name} = faults.mischief:{name}" for name in names]


def states(bench: Bench, which: str) -> dict[str, int]:
    return {row["state"]: row["threads"] for row in bench.rows(STATES.format(which))}


def told(daemon: Daemon, name: str) -> float:
    return sum(value for _, value in daemon.samples(name))


def test_threads_that_harm_their_worker_are_quarantined_and_harm_no_other(bench: Bench) -> None:
    for workflow, count in MISCHIEVOUS.items():
        leave(bench, workflow, count)
    leave(bench, "healthy", 100)
    daemon = bench.daemon(entries(*MISCHIEVOUS, "healthy"), **SETTINGS).until_ready()
    eventually(lambda: states(bench, "=") == {"closed": 100}, 120)
    eventually(lambda: states(bench, "<>") == {"quarantined": 8}, 300)
    attempts = bench.rows("select thread_id, workflow, outcome, charged, worker, finished_at from resumed.attempts")
    assert [one for one in attempts if one["workflow"] == "healthy" and one["charged"]] == []
    assert all(one["finished_at"] for one in attempts)
    charged = [one for one in attempts if one["charged"]]
    assert len(charged) == 16
    crashed = [one for one in charged if one["outcome"] == "crashed"]
    assert {one["workflow"] for one in crashed} == {"killing", "leaving", "crashing", "blocking"}
    assert all(one["worker"].endswith("-isolation") for one in crashed)
    assert {one["outcome"] for one in charged if one["workflow"] == "hanging"} == {"timed_out"}
    assert {one["outcome"] for one in charged if one["workflow"] == "hoarding"} == {"failed"}
    assert daemon.process.poll() is None
    assert len(daemon.lines("service.started")) == 1
    assert daemon.terminate() == 0
