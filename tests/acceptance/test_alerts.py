"""Real faults, a real daemon, a real Prometheus: each alert fires in the fault that it is for, and in no other.

The rules are the project's own, in a thirtieth of their time.
"""

import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resumed.demo.postgres import PrivateServer
from support.bench import Bench
from support.clocks import set_clock, shifted
from support.daemon import Daemon
from support.panels import expressions, filled_in, panels
from support.prometheus import Prometheus, needs_prometheus
from support.waiting import eventually

pytestmark = [pytest.mark.thorough, needs_prometheus]
Watch = Callable[..., Prometheus]
COPIED = {
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path",
}
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed attempt'"


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    started: list[Prometheus] = []

    def start(*daemons: Daemon) -> Prometheus:
        started.append(Prometheus(tmp_path / f"prometheus-{len(started)}", *daemons))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def leave(bench: Bench, threads: int, workflow: str = "fragile") -> None:
    """Leave so many threads that have failed."""
    broken = bench.folder / "broken"
    broken.touch()
    bench.application(1, workflow, ZOO_BREAK=str(broken), ZOO_DELAY="0").wait(30)
    for table, columns in COPIED.items():
        bench.execute(
            f"insert into {table} (thread_id, {columns}) select '{workflow}_' || n, {columns}"
            f" from {table}, generate_series(1, {threads - 1}) n where thread_id = '{workflow}_0'"
        )


def mischief(bench: Bench, **counts: int) -> None:
    wanted = [f"{workflow}={count}" for workflow, count in counts.items()]
    assert bench.module("faults.leave", bench.dsn, *wanted, workflows=[], ZOO_DELAY="0").wait(60) == 0


def test_nothing_fires_over_a_daemon_that_recovers_threads_and_every_panel_has_data(bench: Bench, watch: Watch) -> None:
    finished = bench.application(2, "alinear", ZOO_DELAY="0.3", ZOO_FIRST="10")
    assert finished.wait(30) == 0
    assert bench.resumed("pause", "linear", "--reason", "a test").returncode == 0
    daemon = bench.daemon(["alinear", "linear"], RESUMED_MIN_AGE="2s").until_ready()
    prometheus = watch(daemon)
    eventually(lambda: prometheus.query("resumed_longest_step_seconds > 0"))
    bench.crashed_application(1, "linear", ends=len(bench.effects("end")) + 1, ZOO_DELAY="0.3")
    bench.crashed_application(3, "alinear", ends=len(bench.effects("end")) + 3, ZOO_DELAY="0.3")
    eventually(lambda: prometheus.query('resumed_due_threads{workflow="linear"} > 0'))
    eventually(lambda: prometheus.query('resumed_attempts_total{workflow="alinear",outcome="finished"} > 0'))
    assert prometheus.until_firing("PausedLong") == {"PausedLong": ["linear"]}
    queries = [(panel["title"], filled_in(one, "5m")) for panel in panels() for one in expressions(panel)]
    without = dict(queries)
    for title, query in queries:
        answer = prometheus.query(query)
        print(title, "|", len(answer), "series |", sorted({value for _, value in answer})[:5])
        if any(not math.isnan(value) for _, value in answer):
            without.pop(title, None)
    assert without == {}
    assert prometheus.fired() == {"PausedLong"}
    assert daemon.terminate() == 0


def test_a_database_that_is_down_makes_no_replica_ready_and_stalls_sweeps(
    own: Bench, private_server: PrivateServer, watch: Watch
) -> None:
    daemon = own.daemon(["linear"], RESUMED_POLL_INTERVAL="100ms").until_ready()
    prometheus = watch(daemon)
    eventually(lambda: prometheus.query("resumed_ready == 1"))
    own.disconnect()
    private_server.stop()
    firing = prometheus.until_firing("NotReady", "SweepStalled", "DatabaseErrors")
    assert firing.keys() == {"NotReady", "SweepStalled", "DatabaseErrors"}
    private_server.start()
    eventually(lambda: not prometheus.firing())
    daemon.kill()
    assert prometheus.until_firing("Down").keys() == {"Down"}


def test_a_sweep_that_is_blocked_stalls(bench: Bench, watch: Watch) -> None:
    prometheus = watch(bench.daemon(["linear"]).until_ready())
    eventually(lambda: prometheus.query("resumed_ready == 1"))
    with bench.connected() as connection, connection.transaction():
        connection.execute("lock table resumed.watermarks in access exclusive mode")
        # A sweep waits ten seconds for a lock; then it has failed, and a replica that cannot sweep is not ready.
        firing = prometheus.until_firing("SweepStalled", "NotReady")
        assert firing.keys() - {"DatabaseErrors"} == {"SweepStalled", "NotReady"}
    eventually(lambda: not prometheus.firing())


def test_due_threads_whose_code_no_replica_has_are_a_backlog_that_does_not_shrink(bench: Bench, watch: Watch) -> None:
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    before = bench.daemon(["linear"], RESUMED_DRY_RUN="true").until_ready()
    eventually(lambda: bench.one("select count(*) from resumed.cases where state = 'due'") == 2)
    assert before.terminate() == 0
    prometheus = watch(bench.daemon(["alinear"]).until_ready())
    assert prometheus.until_firing("BacklogNotShrinking") == {"BacklogNotShrinking": ["linear"]}


def test_a_workflow_whose_every_attempt_fails_opens_its_circuit_and_fills_the_quarantine(
    bench: Bench, watch: Watch
) -> None:
    settings = {"ZOO_BREAK": str(bench.folder / "broken"), "ZOO_DELAY": "0", "RESUMED_MAX_ATTEMPTS": "2"}
    daemon = bench.daemon(["fragile"], RESUMED_TEST_TIMINGS="between_probes=1s", **settings).until_ready()
    prometheus = watch(daemon)
    leave(bench, 15)
    expected = {"WorkflowFailing", "NoAttemptEndsWell", "CircuitOpen", "ThreadsQuarantined"}
    for name in expected:
        assert prometheus.until_firing(name)[name] == ["fragile"]
    assert prometheus.fired() == expected
    bench.folder.joinpath("broken").unlink()
    assert bench.resumed("release", "--workflow", "fragile", "--yes").returncode == 0
    eventually(lambda: bench.all_closed(15))
    eventually(lambda: not prometheus.firing())


def test_steps_that_come_near_to_min_age_are_too_long(bench: Bench, watch: Watch) -> None:
    assert bench.application(2, "alinear", "linear", ZOO_DELAY="0.7", ZOO_FIRST="10").wait(60) == 0
    near = bench.daemon(["alinear"], RESUMED_MIN_AGE="1s").until_ready()
    far, zero = (bench.daemon(["linear"], RESUMED_MIN_AGE=age).until_ready() for age in ("20s", "0s"))
    prometheus = watch(near, far, zero)
    assert prometheus.until_firing("MinAgeTooShort") == {"MinAgeTooShort": ["alinear"]}
    eventually(lambda: prometheus.query('count(resumed_longest_step_seconds{workflow="linear"} > 0.6) >= 2'))
    assert prometheus.firing() == {"MinAgeTooShort": ["alinear"]}


def test_threads_that_kill_their_worker_one_after_the_other(bench: Bench, watch: Watch) -> None:
    settings: Any = {"MISCHIEF": "1", "ZOO_DELAY": "0.05", "RESUMED_CONCURRENCY": "1", "RESUMED_MAX_ATTEMPTS": "1"}
    daemon = bench.daemon(["killing = faults.mischief:killing"], **settings).until_ready()
    prometheus = watch(daemon)  # before anything dies: it counts from its first look
    mischief(bench, killing=8)
    assert "WorkersCrashing" in prometheus.until_firing("WorkersCrashing", deadline=120)
    eventually(lambda: bench.one("select count(*) from resumed.cases where state = 'quarantined'") == 8, 120)
    assert prometheus.until_firing("ThreadsQuarantined")["ThreadsQuarantined"] == ["killing"]
    assert daemon.process.poll() is None


def test_an_index_that_is_dropped_is_missed_until_it_is_built(bench: Bench, watch: Watch) -> None:
    prometheus = watch(bench.daemon(["linear"]).until_ready())
    eventually(lambda: prometheus.query("resumed_index_present == 1"))
    bench.execute("drop index resumed_checkpoint_id_idx")
    assert prometheus.until_firing("IndexMissing").keys() == {"IndexMissing"}
    assert bench.resumed("migrate").returncode == 0
    eventually(lambda: not prometheus.firing())


def test_one_of_two_hosts_with_a_wrong_clock_is_named_and_is_the_only_one_that_is_not_ready(
    bench: Bench, watch: Watch
) -> None:
    told = bench.folder / "clock"
    set_clock(told, 0)
    honest, wrong = bench.daemon(["linear"]).until_ready(), bench.daemon(["linear"], **shifted(told)).until_ready()
    prometheus = watch(honest, wrong)
    eventually(lambda: len(prometheus.query("resumed_ready == 1")) == 2)
    set_clock(told, -600)
    firing = prometheus.until_firing("ClockSkew", "ReplicaNotReady")
    assert firing == {name: [f"127.0.0.1:{wrong.port}"] for name in ("ClockSkew", "ReplicaNotReady")}
    set_clock(told, 0)
    eventually(lambda: not prometheus.firing())


def test_sessions_that_are_ended_lose_their_locks(bench: Bench, watch: Watch) -> None:
    bench.crashed_application(4, "alinear", ends=4, ZOO_DELAY="0.3")
    daemon = bench.daemon(["alinear"], ZOO_DELAY="5").until_ready()
    prometheus = watch(daemon)
    eventually(lambda: prometheus.query("resumed_locks_lost_total == 0"))
    for lost in (4, 8):
        eventually(lambda: bench.open_attempts() == 4)
        bench.rows(END_SESSIONS)
        eventually(lambda: prometheus.query(f"resumed_locks_lost_total >= {lost}"))  # noqa: B023
    assert prometheus.until_firing("LocksLost").keys() == {"LocksLost"}


def test_threads_of_no_workflow_of_another_version_and_of_an_entry_that_does_not_load(
    bench: Bench, watch: Watch
) -> None:
    bench.crashed_application(1, "linear", "alinear", ends=2, ZOO_DELAY="0.3", ZOO_VERSION="1")
    entries = ["linear = zoo.rolling:new", "gone = zoo.nowhere:gone"]
    prometheus = watch(bench.daemon(entries).until_ready())
    expected = {"UnclaimedThreads", "IncompatibleThreads", "ThreadsQuarantined", "WorkflowNotLoaded"}
    firing = prometheus.until_firing(*expected)
    assert firing.keys() == expected
    assert firing["WorkflowNotLoaded"] == ["gone"]
    assert firing["IncompatibleThreads"] == firing["ThreadsQuarantined"] == ["linear"]


def test_a_replica_that_is_killed_is_told_apart_from_all_of_them(bench: Bench, watch: Watch) -> None:
    staying, killed = bench.daemon(["linear"]).until_ready(), bench.daemon(["linear"]).until_ready()
    name = f"127.0.0.1:{killed.port}"
    prometheus = watch(staying, killed)
    eventually(lambda: len(prometheus.query("resumed_ready == 1")) == 2)
    os.kill(killed.process.pid, signal.SIGKILL)
    assert prometheus.until_firing("ReplicaNotReady") == {"ReplicaNotReady": [name]}


def test_replicas_with_different_versions_of_langgraph_are_told(bench: Bench, watch: Watch) -> None:
    described = bench.folder / "older" / "langgraph_checkpoint_postgres-3.1.0.dist-info"
    described.mkdir(parents=True)
    described.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: langgraph-checkpoint-postgres\nVersion: 3.1.0\n"
    )
    path = os.pathsep.join([str(described.parent), bench.environment(["linear"])["PYTHONPATH"]])
    newer, older = bench.daemon(["linear"]), bench.daemon(["linear"], PYTHONPATH=path)
    prometheus = watch(newer.until_ready(), older.until_ready())
    assert prometheus.until_firing("VersionSkew").keys() == {"VersionSkew"}
    assert {labels["checkpoint_postgres"] for labels, _ in prometheus.query("resumed_build_info")} > {"3.1.0"}
