"""What a real daemon tells Prometheus, over what is in the database and what there is of workers and workflows."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resumed import WorkflowExecutor
from resumed.demo.postgres import PrivateServer
from support.bench import Bench, prepared_bench
from support.daemon import Daemon
from support.servers import fresh_server
from support.waiting import eventually

LOOK_AGAIN = """
select count(*) from pg_stat_activity where application_name = 'resumed metrics' and datname = current_database()
and query like '%%from resumed.audit where id >%%'
"""
VERSIONS = ["linear = zoo.rolling:new", "alinear = zoo.rolling:before"]


def number(daemon: Daemon, name: str, **labels: str) -> float | None:
    """Read one sample; None where there is none."""
    found = [value for own, value in daemon.samples(f"resumed_{name}") if own == labels]
    return found[0] if found else None


def test_a_daemon_tells_what_is_due_and_held_and_what_it_is_itself(bench: Bench) -> None:
    finished = bench.application(2, "alinear", ZOO_DELAY="0.3", ZOO_FIRST="10", ZOO_VERSION="1")
    bench.crashed_application(2, "linear", "alinear", ends=4, ZOO_DELAY="0.3", ZOO_VERSION="1")
    assert finished.wait(30) == 0
    settings = {"RESUMED_DRY_RUN": "true", "RESUMED_PROCESSES": "2", "RESUMED_CONCURRENCY": "3"}
    daemon = bench.daemon(VERSIONS, RESUMED_MIN_AGE="1s", **settings).until_ready()
    eventually(lambda: number(daemon, "due_threads", workflow="alinear") == 2)
    eventually(lambda: number(daemon, "attempt_ceiling") == 6)

    quarantined = {"workflow": "linear", "state": "quarantined"}
    eventually(lambda: number(daemon, "threads", **quarantined, verdict="incompatible") == 2)
    assert number(daemon, "quarantined_total", workflow="linear") == 2
    assert number(daemon, "quarantined_total", workflow="alinear") == 0
    assert len(daemon.lines("cases.quarantined")) == 1
    for name, state in (("linear", "quarantined"), ("alinear", "due")):
        oldest = bench.one("select min(last_activity_at) from resumed.cases where workflow = %(name)s", name=name)
        assert number(daemon, "oldest_thread_timestamp_seconds", workflow=name, state=state) == oldest.timestamp()
        assert number(daemon, "oldest_thread_timestamp_seconds", workflow=name, state="held") == 0

    assert number(daemon, "workflow_info", workflow="linear", version="2") == 1
    assert number(daemon, "min_age_seconds", workflow="alinear") == 1
    eventually(lambda: (number(daemon, "longest_step_seconds", workflow="alinear") or 0) >= 0.3)
    assert number(daemon, "longest_step_seconds", workflow="linear") == 0
    assert [number(daemon, name) for name in ("dry_run", "index_present", "attempt_slots")] == [1, 1, 6]
    assert abs(number(daemon, "clock_skew_seconds") or 0) < 1
    started = daemon.samples("process_start_time_seconds")[0][1]
    assert started <= time.time() < started + 600
    assert daemon.samples("process_resident_memory_bytes")[0][1] > 10 * 2**20

    assert number(daemon, "suspect_threads") == 0
    bench.execute("update resumed.cases set suspect = true where thread_id = 'alinear_0'")
    bench.execute("drop index resumed_checkpoint_id_idx")
    eventually(lambda: number(daemon, "suspect_threads") == 1)
    eventually(lambda: number(daemon, "index_present") == 0)
    assert daemon.terminate() == 0


def test_every_replica_counts_what_people_and_applications_do(bench: Bench) -> None:
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    assert bench.resumed("pause", "--reason", "before there was a daemon").returncode == 0
    replicas = [bench.daemon(["linear"]).until_ready() for _ in range(2)]
    eventually(lambda: bench.one(LOOK_AGAIN) == 2)
    assert acts(replicas[0]) == acts(replicas[1]) == {}
    assert bench.resumed("cancel", "linear_0", "--reason", "asked by mail").returncode == 0
    with WorkflowExecutor(bench.dsn) as executor:
        assert executor.cancel("linear_1", "asked in the application")
    assert bench.resumed("unpause").returncode == 0
    done = {("cancel", "cli"): 1, ("cancel", "library"): 1, ("unpause", "cli"): 1}
    for replica in replicas:
        eventually(lambda replica=replica: acts(replica) == done)
        assert replica.terminate() == 0


def acts(daemon: Daemon) -> dict[tuple[str, str], float]:
    return {(one["action"], one["via"]): value for one, value in daemon.samples("resumed_acts_total") if value}


OF_THE_DATABASE = (
    "threads", "due_threads", "oldest_unfinished_timestamp_seconds", "oldest_thread_timestamp_seconds",
    "suspect_threads",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    with fresh_server() as server:
        yield server


@pytest.fixture
def apart(server: PrivateServer, tmp_path: Path) -> Iterator[Bench]:
    """A bench whose server is the test's own."""
    with prepared_bench(server.dsn(), tmp_path) as bench:
        yield bench


def signal_all(server: PrivateServer, number: signal.Signals) -> None:
    """Signal the server and each of its processes."""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for pid in (server.pid, *map(int, children)):
        os.kill(pid, number)


def told(daemon: Daemon) -> set[str]:
    """Name the gauges of the whole database that have a value now."""
    return {name for name in OF_THE_DATABASE if daemon.samples(f"resumed_{name}")}


def is_counted(daemon: Daemon, due: int) -> bool:
    return number(daemon, "due_threads", workflow="linear") == due and told(daemon) == set(OF_THE_DATABASE)


def test_where_the_database_refuses_its_gauges_are_gone_and_come_back(server: PrivateServer, apart: Bench) -> None:
    apart.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    daemon = apart.daemon(["linear"], RESUMED_DRY_RUN="true").until_ready()
    eventually(lambda: is_counted(daemon, due=2))
    apart.disconnect()
    server.stop()
    eventually(lambda: told(daemon) == set())
    assert number(daemon, "workflow_loaded", workflow="linear") == 1
    late = apart.daemon(["linear"])
    eventually(lambda: late.lines("http.opened") and late.lines("database.failed"))
    assert told(late) == set()
    server.start()
    eventually(lambda: is_counted(daemon, due=2))
    assert [one.terminate() for one in (daemon, late)] == [0, 0]


def test_where_the_database_hangs_its_gauges_are_gone_in_bounded_time_and_come_back(
    server: PrivateServer, apart: Bench
) -> None:
    apart.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    hold = {"RESUMED_TEST_TIMINGS": "counts_hold=1s"}
    daemon = apart.daemon(["linear"], RESUMED_DRY_RUN="true", **hold).until_ready()
    eventually(lambda: is_counted(daemon, due=1))
    signal_all(server, signal.SIGSTOP)
    try:
        eventually(lambda: told(daemon) == set(), 20)
    finally:
        signal_all(server, signal.SIGCONT)
    eventually(lambda: is_counted(daemon, due=1))
    assert daemon.terminate() == 0


def test_cases_that_cannot_be_counted_are_not_told_of(bench: Bench) -> None:
    daemon = bench.daemon(["linear"]).until_ready()
    eventually(lambda: is_counted(daemon, due=0))
    bench.execute("alter table resumed.cases rename to elsewhere")
    eventually(lambda: told(daemon) == set())
    bench.execute("alter table resumed.elsewhere rename to cases")
    eventually(lambda: is_counted(daemon, due=0))
    assert daemon.terminate() == 0
