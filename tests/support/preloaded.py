"""Applications of tests, and workers of commands, as processes forked from one that has imported LangGraph already.

Each is a real process, killed for real; it only does not import LangGraph for the hundredth time. Daemons and commands
that run as processes start their workers themselves. This file is the parent's program as well: it reads a JSON object
a line on stdin, and answers each on stdout; a worker's socket and its stderr come through a socket of the parent's.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
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
    "resumed.runtime.worker",
)  # fmt: skip
# What Python and LangGraph read while they are imported cannot be given to a process that has imported them.
_READ_EARLY = ("LANGGRAPH_", "LANGSMITH_", "LANGCHAIN_", "LD_PRELOAD", "PYTHONHASHSEED", "PYTHONWARNINGS")
_LOOK = 0.01
_SITE = ("sitecustomize.py", "usercustomize.py")
_PARENT: list[tuple[subprocess.Popen[str], socket.socket]] = []


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


class Worker:
    """A worker's process, with what a worker's owner asks of asyncio's own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> int:
        ended, descriptor = asyncio.Event(), os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self.returncode = int(_ask({"wait": self.pid})["code"])
        return self.returncode


def may_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a process with these variables can do without an interpreter of its own."""
    places = [Path(place) for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    return not any((place / name).exists() for place in places for name in _SITE) and all(
        os.environ.get(name) == value for name, value in environment.items() if name.startswith(_READ_EARLY)
    )


def start_worker(environment: Mapping[str, str], channel: int) -> Worker:
    """Run a worker on this socket; what it writes goes to this process's stderr."""
    talking, descriptors = _parent()
    socket.send_fds(descriptors, [b"."], [channel, 2])
    made = _ask({"work": {"environment": dict(environment), "folder": str(Path.cwd()), "parent": talking.pid}})
    return Worker(made["pid"])


def start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> Application:
    """Run a module in a process of its own; what it writes to stderr goes to `log`."""
    wanted = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
    made = _ask({"start": {**wanted, "folder": str(folder), "log": str(log)}})
    return Application(made["pid"], [module, *arguments])


def _parent() -> tuple[subprocess.Popen[str], socket.socket]:
    if not _PARENT or _PARENT[0][0].poll() is not None:
        ours, theirs = socket.socketpair()
        with theirs:
            made = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        _PARENT[:] = [(made, ours)]
    return _PARENT[0]


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    talking, _ = _parent()
    assert talking.stdin is not None
    assert talking.stdout is not None
    talking.stdin.write(json.dumps(question) + "\n")
    answer: dict[str, Any] = json.loads(talking.stdout.readline())
    return answer


def end() -> None:
    """End the parent; its applications live on, as those of a test that ends do."""
    for talking, descriptors in _PARENT:
        for pipe in (talking.stdin, talking.stdout, descriptors):
            if pipe is not None:
                pipe.close()
        talking.wait(10)
    _PARENT.clear()


def _become(module: str, arguments: list[str], environment: dict[str, str], folder: str, log: str) -> None:
    """Turn this forked process into one that was started to run the module."""
    nothing, told = os.open(os.devnull, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _use(environment, folder, (nothing, nothing, told))
    sys.path.insert(0, folder)
    _run(module, arguments)


def _become_worker(environment: dict[str, str], folder: str, parent: int, channel: int, told: int) -> None:
    """Turn this forked process into a worker, as its owner would have started it."""
    os.setsid()
    _use(environment, folder, (os.open(os.devnull, os.O_RDWR), told, told))
    _run("resumed.runtime", [str(channel), str(parent)])


def _use(environment: dict[str, str], folder: str, files: tuple[int, int, int]) -> None:
    """Take these variables, this folder, and these files for stdin, stdout and stderr."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in set(files):
        os.close(file)
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]


def _run(module: str, arguments: list[str]) -> None:
    sys.argv = [module, *arguments]
    importlib.invalidate_caches()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _poll(pid: int) -> int | None:
    with contextlib.suppress(ChildProcessError):
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None
    return 0


def _serve(descriptors: socket.socket) -> None:
    for name in _LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        question = json.loads(line)
        if "poll" in question:
            answer = {"code": _poll(question["poll"])}
        elif "wait" in question:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])}
        elif "work" in question:
            _, files, _, _ = socket.recv_fds(descriptors, 1, 2)
            if (pid := os.fork()) == 0:
                descriptors.close()
                return _become_worker(**question["work"], channel=files[0], told=files[1])
            for file in files:
                os.close(file)
            answer = {"pid": pid}
        elif (pid := os.fork()) == 0:
            descriptors.close()
            return _become(**question["start"])
        else:
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
