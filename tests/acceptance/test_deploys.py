"""A deploy: the web service that runs the graphs is told to stop in mid-node, and the daemon finishes every thread."""

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from support.bench import Bench
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

WORKFLOWS = ("alinear", "linear", "fan", "sends", "nested")
THREADS = 2
ERRORS = "select thread_id, blob from checkpoint_writes where channel = '__error__'"
CANCELLED = b"\xb0CancelledError()"


def deployed_away(bench: Bench, workflows: Sequence[str], linger: str) -> None:
    """Serve one request a thread, and stop the server when each thread has got somewhere."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "zoo.server:app", "--fd", str(listening.fileno())]
        server = subprocess.Popen(
            [*command, "--timeout-graceful-shutdown", "0", "--log-level", "error"],
            env=bench.environment(ZOO_DELAY="1.5", ZOO_LINGER=linger),
            cwd=bench.folder,
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
    bench.processes.append(server)
    paths = [f"/{name}/{number}" for name in workflows for number in range(THREADS)]

    def ask(path: str) -> bool:
        try:
            return httpx.post(f"http://127.0.0.1:{port}{path}", timeout=60).is_success
        except httpx.HTTPError:
            return False

    with ThreadPoolExecutor(len(paths)) as clients:
        answers = clients.map(ask, paths)
        under_way = {path[1:].replace("/", "_") for path in paths}
        eventually(lambda: {line["thread"] for line in bench.effects("end")} == under_way)
        server.send_signal(signal.SIGTERM)
        assert not any(answers)
    server.wait(30)


@pytest.mark.parametrize(
    "linger", ["0", pytest.param("1", marks=pytest.mark.thorough)], ids=["gone at once", "lingering"]
)
def test_a_service_that_is_stopped_in_mid_node_leaves_nothing_unfinished(bench: Bench, linger: str) -> None:
    """A service that is gone at once leaves hardly a row of it; one that lingers saves that it was cancelled."""
    deployed_away(bench, WORKFLOWS, linger)
    left = bench.rows(ERRORS)
    assert {bytes(row["blob"]) for row in left} <= {CANCELLED}
    assert left or linger == "0"
    scanned = {one["thread_id"]: one for one in bench.ask("scan")["threads"]}
    threads = {f"{name}_{number}" for name in WORKFLOWS for number in range(THREADS)}
    assert {name: one["verdict"] for name, one in scanned.items()} == dict.fromkeys(threads, "stopped")
    assert bench.resumed("once", "--wait").returncode == 0
    for thread in sorted(threads):
        assert final_state(bench.dsn, thread) == undisturbed(thread.rpartition("_")[0])
    outcomes = bench.rows("select outcome, count(*) as attempts from resumed.attempts group by outcome")
    assert outcomes == [{"outcome": "finished", "attempts": len(threads)}]
