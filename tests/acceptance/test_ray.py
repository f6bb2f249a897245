"""deploy/ray: a node of a Ray cluster is lost with all that is on it, and its replica comes back on another."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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
    pytest.mark.skipif(not RAY.exists(), reason="ray is not installed (make .venv/ray)"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed (apt: util-linux)"),
]


class Cluster:
    """A head without room for actors, and nodes that are process trees of their own, all on the loopback alone."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        environment = bench.environment(ZOO_DELAY="0.3", RESUMED_CONCURRENCY="2")
        self._environment = {
            **environment,
            "PYTHONPATH": os.pathsep.join([str(RAY), environment["PYTHONPATH"]]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]]),
            "RAY_ADDRESS": self._address,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_metrics_collection": "0",
            "RAY_health_check_period_ms": "500",
        }
        self._folder, self._logs = folder, []
        port = self._address.rpartition(":")[2]
        quiet = ("--no-monitor", "--include-dashboard=false", f"--temp-dir={folder}")
        self._trees = [self._start("--head", f"--port={port}", "--num-cpus=0", *quiet)]
        self.nodes = [self._start(f"--address={self._address}", "--num-cpus=2") for _ in range(2)]
        self._trees += self.nodes

    def replicas(self, count: int) -> None:
        """Ask for so many replicas, and wait until there are."""
        command = [sys.executable, str(ROOT / "deploy" / "ray" / "replicas.py"), str(count)]
        done = subprocess.run(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=2 * DEADLINE, check=False, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout

    def close(self) -> None:
        for tree in reversed(self._trees):
            if tree.poll() is None:
                lose_everything(tree)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a node, and wait until it is one of the cluster."""
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", "--include-log-monitor=false", "--object-store-memory=100000000", *options,
        ]  # fmt: skip
        log = self._folder / f"start-{len(self._logs)}.log"
        self._logs.append(log)
        with log.open("wb") as output:
            tree = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        eventually(lambda: "Ray runtime started" in log.read_text() or tree.poll() is not None)
        assert tree.poll() is None, log.read_text()
        return tree


def lose_everything(tree: subprocess.Popen[bytes]) -> None:
    """Kill every process of a node at once, as a host that loses its power."""
    processes = [psutil.Process(tree.pid), *psutil.Process(tree.pid).children(recursive=True)]
    for one in processes:
        one.suspend()
    for one in processes:
        one.kill()
    tree.wait()


def lose_raylet(tree: subprocess.Popen[bytes]) -> None:
    """Kill Ray's own process of a node, and nothing that it started."""
    (raylet,) = (one for one in psutil.Process(tree.pid).children(recursive=True) if one.name() == "raylet")
    raylet.kill()
    tree.wait()


@pytest.fixture
def cluster(bench: Bench) -> Iterator[Cluster]:
    # The paths of Ray's sockets have to be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    made = Cluster(bench, folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("lose", [lose_everything, lose_raylet])
def test_a_node_that_is_lost_takes_no_thread_along_and_its_replica_comes_back(
    bench: Bench, cluster: Cluster, lose: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    lost, kept = cluster.nodes
    cluster.replicas(2)
    before = eventually(lambda: controls(bench, 2))
    assert [running_on(lost), running_on(kept)] == [1, 1]
    bench.crashed_application(6, "linear", "alinear", ends=12, ZOO_DELAY="0.3")
    eventually(lambda: len(bench.rows(OPEN)) == 2)  # both are at work
    lose(lost)
    eventually(lambda: bench.all_closed(12), 2 * DEADLINE)
    after = eventually(lambda: controls(bench, 2, other_than=before), 2 * DEADLINE)
    assert len(after & before) == 1
    assert running_on(kept) == 2
    print(bench.rows("select outcome, charged, count(*) from resumed.attempts group by 1, 2"))


def controls(bench: Bench, count: int, other_than: set[int] | None = None) -> set[int]:
    """Give the sessions of the control processes where there are so many, others than before."""
    found = {row["pid"] for row in bench.rows(CONTROLS)}
    return found if len(found) == count and found != other_than else set()


def running_on(tree: subprocess.Popen[bytes]) -> int:
    """How many replicas a node runs."""
    commands = [one.cmdline() for one in psutil.Process(tree.pid).children(recursive=True)]
    return sum(len(one) > 1 and one[-1] == "run" and one[-2].endswith("/resumed") for one in commands)
