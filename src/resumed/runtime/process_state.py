"""What an import must not change in the process, for the sake of the others, and what it did change. Repairs nothing.

Wrappers around an original, such as those of tracing tools, count as the original.
"""

import _thread
import asyncio
import concurrent.futures
import datetime as dt
import os
import queue
import resource
import select
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_ORIGINALS: tuple[tuple[ModuleType | type, tuple[str, ...]], ...] = (
    (_thread, ("start_new_thread", "allocate_lock")),
    (threading, ("Thread", "Event", "Condition", "local", "get_ident", "_start_new_thread")),
    (threading.Thread, ("start", "run", "join")),
    (socket, ("socket", "create_connection", "getaddrinfo", "socketpair")),
    (socket.socket, ("connect", "send", "sendall", "recv", "close")),
    (select, ("select", "poll", "epoll")),
    (selectors, ("DefaultSelector",)),
    (ssl, ("SSLContext",)),
    (time, ("sleep", "time", "monotonic", "perf_counter")),
    (dt, ("datetime",)),
    (os, ("fork", "read", "write", "close", "kill", "getpid")),
    (asyncio, ("sleep", "wait", "wait_for", "gather", "get_running_loop", "Event", "Lock", "Queue")),
    (queue, ("Queue", "SimpleQueue")),
    (subprocess, ("Popen",)),
    (concurrent.futures, ("ThreadPoolExecutor",)),
)
_LIMITS = ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
# What libpq reads of the environment and no connection string can override.
_CONNECTION_VARIABLES = ("PGSERVICE", "PGTZ", "PGDATESTYLE", "PGGEQO")
_WRAPPINGS = 20

_forks = [0]


def _count_fork() -> None:
    _forks[0] += 1


os.register_at_fork(after_in_parent=_count_fork)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The process as it was at one moment; `shared`: more than one registration lives in it."""

    originals: dict[str, Any]
    limits: dict[str, int]
    connections: dict[str, str | None]
    recursion: int
    folder: str | None
    forks: int
    shared: bool

    def changed(self, *, may_fork: bool = False) -> str | None:
        """Return the first change, as a clause such as `it forks the process`; None where there is none."""
        return next(self._changes(may_fork=may_fork), None)

    def _changes(self, *, may_fork: bool) -> Iterator[str]:
        """Find what no registration may do to the process, and what it may not do to others in it."""
        now = process_state(shared=self.shared)
        yield from (
            f"it replaces {name}"
            for name, original in self.originals.items()
            if not _is_same(now.originals[name], original)
        )
        yield from (f"it closes {name}" for name in _closed_streams())
        yield from (f"it lowers the limit RLIMIT_{name}" for name in _LIMITS if _is_lower(now, self, name))
        yield from (
            f"it sets {name}, which rules every connection of the process"
            for name, value in self.connections.items()
            if now.connections[name] != value
        )
        if now.recursion < self.recursion:
            yield "it lowers the recursion limit"
        if any(signal.getitimer(which)[0] for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)):
            yield "it sets an alarm, which ends the process"
        if now.forks > self.forks and not may_fork:
            yield "it forks the process"
        if self.shared and now.folder != self.folder:
            yield "it changes the working directory of all workflows"


def process_state(*, shared: bool) -> ProcessState:
    """Return the process as it is now."""
    return ProcessState(
        originals={
            f"{_name(place)}.{name}": getattr(place, name, None) for place, names in _ORIGINALS for name in names
        },
        limits={name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in _LIMITS},
        connections={name: os.environ.get(name) for name in _CONNECTION_VARIABLES},
        recursion=sys.getrecursionlimit(),
        folder=_working_directory(),
        forks=_forks[0],
        shared=shared,
    )


def _name(place: ModuleType | type) -> str:
    return f"{place.__module__}.{place.__qualname__}" if isinstance(place, type) else place.__name__


def _is_same(now: Any, before: Any) -> bool:
    """Return whether something is the original, or wraps it."""
    for _ in range(_WRAPPINGS):
        if now is before:
            return True
        now = getattr(now, "__wrapped__", None)
    return False


def _closed_streams() -> Iterator[str]:
    """Name the standard streams that are closed; their numbers would soon be those of our own connections."""
    for number, stream, name in ((1, sys.stdout, "standard output"), (2, sys.stderr, "standard error")):
        try:
            os.fstat(number)
        except OSError:
            yield name
            continue
        if getattr(stream, "closed", False):
            yield name


def _is_lower(now: ProcessState, before: ProcessState, name: str) -> bool:
    allowed, was = now.limits[name], before.limits[name]
    return allowed != resource.RLIM_INFINITY and (was == resource.RLIM_INFINITY or allowed < was)


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - the plain name of what may be gone
    except OSError:
        return None
