"""deploy/ray: a node of a Ray cluster is lost with all that is on it, and its replica comes back on another."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from support.bench import Bench
from support.waiting import DEADLINE, eventually

ROOT = Path(__file__).parents[2]
RAY = ROOT / ".venv" / "ray"
CONTROLS = (
    "select pid from pg_stat_activity where datname = current_database() and application_name = 'resumed control'"
)
OPEN = "select worker, count(*) from resumed.attempts where finished_at is null group by worker"

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not RAY.exists(), reason="ray is not installed: `make .venv/ray` does that"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed (apt: util-linux)"),
]


class Cluster:
    """A head without room for actors, and nodes that are process trees of their own, all on the loopback alone."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self.delay = folder / "delay"
        environment = bench.environment(ZOO_DELAY=str(self.delay), RESUMED_CONCURRENCY="2")
        self._environment = {
            **environment,
            "PYTHONPATH": os.pathsep.join([str(RAY), environment["PYTHONPATH"]]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]]),
            "RAY_ADDRESS": self._address,
            "RAY_USAGE_STATS_REPORT_URL": f"http://{self._address}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_metrics_collection": "0",
            "RAY_health_check_period_ms": "500",
        }
        self._folder = folder
        self._trees: list[subprocess.Popen[bytes]] = []
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        port = self._address.rpartition(":")[2]
        quiet = ("--no-monitor", "--include-dashboard=false", f"--temp-dir={self._folder}")
        self._start("--head", f"--port={port}", "--num-cpus=0", *quiet)
        self.nodes = [self._start(f"--address={self._address}", "--num-cpus=2") for _ in range(2)]

    def replicas(self, count: int) -> None:
        """Ask for so many replicas, and wait until there are."""
        command = [sys.executable, str(ROOT / "deploy" / "ray" / "replicas.py"), str(count)]
        done = subprocess.run(
            command, env={**self._environment, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * DEADLINE, check=False, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def close(self) -> None:
        for tree in reversed(self._trees):
            if tree.poll() is None:
                lose_everything(tree)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a node, and wait until it is one of the cluster."""
        command = [
            sys.executable, "-P", str(ROOT / "tests" / "support" / "ray_start.py"), "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", "--include-log-monitor=false", "--object-store-memory=100000000", *options,
        ]  # fmt: skip
        log = self._folder / f"start-{len(self._trees)}.log"
        with log.open("wb") as output:
            tree = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._trees.append(tree)
        eventually(lambda: "Ray runtime started" in log.read_text() or tree.poll() is not None)
        assert tree.poll() is None, log.read_text()
        assert beyond_loopback(tree) == []
        return tree


def processes(tree: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(tree.pid).children(recursive=True)


def beyond_loopback(tree: subprocess.Popen[bytes]) -> list[str]:
    """Name the sockets of a node that others than this host could reach, or that reach others."""
    ours = {one.pid for one in processes(tree)}
    sockets = [one for one in psutil.net_connections("inet") if one.pid in ours]
    ends = [(one.pid, end.ip) for one in sockets for end in (one.laddr, one.raddr) if end]
    return [f"{pid} {ip}" for pid, ip in ends if not ip_address(ip.removeprefix("::ffff:")).is_loopback]


def lose_everything(tree: subprocess.Popen[bytes]) -> None:
    """Kill every process of a node at once, as a host that loses its power."""
    found = [psutil.Process(tree.pid), *processes(tree)]
    for signalled in (signal.SIGSTOP, signal.SIGKILL):
        for one in found:
            # The kernel kills a shell with its actor; others may have ended by themselves.
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signalled)
    tree.wait()


def lose_raylet(tree: subprocess.Popen[bytes]) -> None:
    """Kill Ray's own process of a node, and nothing that it started."""
    (raylet,) = (one for one in processes(tree) if one.name() == "raylet")
    raylet.kill()
    tree.wait()


@pytest.fixture
def cluster(bench: Bench) -> Iterator[Cluster]:
    # The paths of Ray's sockets have to be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    made = Cluster(bench, folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def at_work(bench: Bench, cluster: Cluster) -> set[int]:
    """Leave twelve threads without a process, and two replicas on two nodes at work on them; gives their sessions."""
    cluster.delay.write_text("2")
    bench.crashed_application(6, "linear", "alinear", ends=12, ZOO_DELAY="0.3")
    cluster.replicas(2)
    eventually(lambda: len(bench.rows(OPEN)) == 2)
    assert [running_on(node) for node in cluster.nodes] == [1, 1]
    assert [beyond_loopback(node) for node in cluster.nodes] == [[], []]
    return eventually(lambda: controls(bench, 2))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("lose", "outcome"), [(lose_everything, "crashed"), (lose_raylet, "drained")])
def test_a_node_that_is_lost_takes_no_thread_along_and_its_replica_comes_back_on_another(
    bench: Bench, cluster: Cluster, at_work: set[int], lose: Callable[[subprocess.Popen[bytes]], None], outcome: str
) -> None:
    lost, kept = cluster.nodes
    lose(lost)
    cluster.delay.write_text("0.05")
    now = eventually(lambda: controls(bench, 2, other_than=at_work), 2 * DEADLINE)
    assert len(now & at_work) == 1
    assert running_on(kept) == 2
    assert all_finished(bench) - {"finished"} <= {outcome}


@pytest.mark.timeout(400)
def test_an_actor_that_is_killed_or_one_too_many_lets_its_replica_drain(
    bench: Bench, cluster: Cluster, at_work: set[int]
) -> None:
    (actor,) = (one for one in processes(cluster.nodes[0]) if one.name().startswith("ray::Replica"))
    actor.kill()
    now = eventually(lambda: controls(bench, 2, other_than=at_work), 2 * DEADLINE)
    assert len(now & at_work) == 1
    eventually(lambda: len(bench.rows(OPEN)) == 2)
    cluster.replicas(1)
    cluster.delay.write_text("0.05")
    eventually(lambda: controls(bench, 1))
    assert all_finished(bench) <= {"finished", "drained"}


def all_finished(bench: Bench) -> set[str]:
    """Wait until every thread was finished, none twice at once and nobody charged; gives the attempts' outcomes."""
    eventually(lambda: bench.all_closed(12), 2 * DEADLINE)
    assert bench.one("select count(distinct thread_id) from resumed.attempts where outcome = 'finished'") == 12
    latest: dict[str, tuple[str, int]] = {}
    for line in bench.effects():
        if line["edge"] == "start":
            latest[line["thread"]] = line["node"], line["pid"]
        assert latest[line["thread"]] == (line["node"], line["pid"]), "another has begun before this one had ended"
    assert bench.one("select count(*) from resumed.attempts where charged") == 0
    return {row["outcome"] for row in bench.rows("select distinct outcome from resumed.attempts")}


def controls(bench: Bench, count: int, other_than: set[int] | None = None) -> set[int]:
    """Give the sessions of the control processes where there are so many, others than before."""
    found = {row["pid"] for row in bench.rows(CONTROLS)}
    return found if len(found) == count and found != other_than else set()


def running_on(tree: subprocess.Popen[bytes]) -> int:
    """How many replicas a node runs."""
    commands = [one.cmdline() for one in processes(tree)]
    return sum(len(one) > 1 and one[-1] == "run" and one[-2].endswith("/resumed") for one in commands)
