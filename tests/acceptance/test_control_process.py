"""What the daemon's own process holds while it runs: none of LangGraph, and nothing of a user's graph."""

import os
import signal
from pathlib import Path

import psutil

from support.bench import GRAPHS, Bench
from support.waiting import eventually

# Python imports this by its name at the start of every process; the daemon itself knows nothing of it.
DEBUG = """
import os, pathlib, signal, sys
def tell(*_):
    told = pathlib.Path(os.environ["MODULES"])
    told.with_suffix(".part").write_text("\\n".join(sys.modules))
    told.with_suffix(".part").rename(told)
signal.signal(signal.SIGUSR1, tell)
"""


def modules(bench: Bench, pid: int, told: Path) -> set[str]:
    """Ask a running process which modules it has loaded."""
    os.kill(pid, signal.SIGUSR1)
    eventually(told.exists)
    return set(told.read_text().split())


def test_a_daemon_that_has_resumed_threads_has_loaded_no_langgraph_and_no_graph(bench: Bench) -> None:
    bench.folder.joinpath("sitecustomize.py").write_text(DEBUG)
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    told = bench.folder / "modules"
    path = os.pathsep.join([str(bench.folder), str(GRAPHS), bench.registry(["linear"])])
    daemon = bench.daemon(PYTHONPATH=path, MODULES=str(told)).until_ready()
    eventually(lambda: bench.all_closed(2))
    loaded = modules(bench, daemon.process.pid, told)
    roots = {name.partition(".")[0] for name in loaded}
    assert "resumed.daemon.service" in loaded
    assert roots & {"langgraph", "langchain_core", "langsmith", "zoo"} == set()
    assert "opentelemetry" not in roots  # traces are off
    assert not [name for name in loaded if name.startswith(("resumed.runtime", "resumed.workflows", "resumed.library"))]
    mapped = {Path(one.path).name for one in psutil.Process(daemon.process.pid).memory_maps()}
    assert not [name for name in mapped if name.startswith(("ormsgpack", "xxhash"))]
    assert daemon.terminate() == 0
