"""Applications of tests as processes of their own, forked from one that has imported LangGraph already.

Each is a real process, killed for real; it only does not import LangGraph for the hundredth time. This file is the
parent's program as well: it reads a JSON object a line on stdin, and answers each on stdout.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOADED = (
    "langgraph.graph", "langgraph.func", "langgraph.checkpoint.memory", "langgraph.checkpoint.postgres",
    "langgraph.checkpoint.postgres.aio", "langgraph.types", "psycopg", "psycopg_pool", "resumed",
)  # fmt: skip
# What Python and LangGraph read while they are imported cannot be given to a process that has imported them.
_READ_EARLY = ("LANGGRAPH_", "LANGSMITH_", "LANGCHAIN_", "LD_PRELOAD", "PYTHONHASHSEED", "PYTHONWARNINGS")
_LOOK = 0.01
_PARENT: list[subprocess.Popen[str]] = []


@dataclass
class Application:
    """A process that runs a module, as `python -m` does; it can be waited for and killed like a `Popen`."""

    pid: int
    args: Sequence[str]
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask({"poll": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + timeout if timeout is not None else None
        while self.poll() is None:
            if end is not None and timeout is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(_LOOK)
        return int(self.returncode or 0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def may_fork(environment: Mapping[str, str]) -> bool:
    """Return whether an application with these variables can do without an interpreter of its own."""
    return all(os.environ.get(name) == value for name, value in environment.items() if name.startswith(_READ_EARLY))


def start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> Application:
    """Run a module in a process of its own; what it writes to stderr goes to `log`."""
    wanted = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
    made = _ask({"start": {**wanted, "folder": str(folder), "log": str(log)}})
    return Application(made["pid"], [module, *arguments])


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    if not _PARENT or _PARENT[0].poll() is not None:
        made = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        _PARENT[:] = [made]
    talking = _PARENT[0]
    assert talking.stdin is not None
    assert talking.stdout is not None
    talking.stdin.write(json.dumps(question) + "\n")
    answer: dict[str, Any] = json.loads(talking.stdout.readline())
    return answer


def end() -> None:
    """End the parent; its applications live on, as those of a test that ends do."""
    for talking in _PARENT:
        for pipe in (talking.stdin, talking.stdout):
            if pipe is not None:
                pipe.close()
        talking.wait(10)
    _PARENT.clear()


def _become(module: str, arguments: list[str], environment: dict[str, str], folder: str, log: str) -> None:
    """Turn this forked process into one that was started to run the module."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    nothing, told = os.open(os.devnull, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, file in ((0, nothing), (1, nothing), (2, told)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(told)
    sys.path[:0] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = [module, *arguments]
    importlib.invalidate_caches()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _poll(pid: int) -> int | None:
    with contextlib.suppress(ChildProcessError):
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None
    return 0


def _serve() -> None:
    for name in _LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        question = json.loads(line)
        if "poll" in question:
            answer = {"code": _poll(question["poll"])}
        elif (pid := os.fork()) == 0:
            return _become(**question["start"])
        else:
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__":
    _serve()
