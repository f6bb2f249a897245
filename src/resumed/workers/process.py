"""Owns one worker process as its control process sees it: its socket, its state, the threads it has in hand."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, Self

from resumed import timings
from resumed.workers import memory
from resumed.workers.protocol import (
    DrainAttempts,
    EndWorker,
    EntriesFound,
    EntryHung,
    EntryLoading,
    FromWorker,
    NodeStuck,
    Ping,
    ProcessTainted,
    RequestDone,
    StartWorker,
    ToWorker,
    WorkerLeaving,
    WorkerReady,
    WorkflowChanged,
    decode_from_worker,
    encode,
)

_LINE_LIMIT = 1 << 24
_PINGS = 3
_LAST_MESSAGE_GRACE = timedelta(seconds=1)
_POLL = 0.05

WorkerState = Literal["starting", "ready", "draining", "isolation"]


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What a worker is started with: its first message, and variables beside those of this process."""

    message: StartWorker
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended: its exit code, whether it had registered, which entry it was importing.

    `retired`: we ended it because of a node that could not be stopped. `dismissed`: it ended because we asked it to,
    with nothing in hand. `tainted` is what imported code had changed in the process before any attempt began.
    `silent`: it stopped answering. `lived` is how long it ran since it registered, or since its first import.
    """

    code: int | None
    registered: bool
    loading: str | None
    retired: bool
    dismissed: bool
    tainted: str | None = None
    silent: bool = False
    lived: timedelta = timedelta(0)


@dataclass(slots=True)
class WorkerProcess:
    """A running worker. `inflight` maps threads to workflows; `limits` maps its workflows to attempts at once.

    `alone` marks the isolation worker, which tries one thread at a time. `registered_at` and `idle_since` are monotonic
    seconds; `bytes_at_start` is what it used when it registered. `entries` are the names that it set out to import,
    `unloaded` those whose import failed, `hung` those whose import has not ended.
    """

    name: str
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    alone: bool = False
    state: WorkerState = "starting"
    limits: dict[str, int] = field(default_factory=dict)
    inflight: dict[str, str] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    loading: str | None = None
    bytes_at_start: int | None = None
    registered_at: float | None = None
    found_at: float = field(default_factory=time.monotonic)
    entries: tuple[str, ...] = ()
    unloaded: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    tainted: str | None = None
    silent: bool = False
    idle_since: float = field(default_factory=time.monotonic)
    _dismissal: asyncio.Task[None] | None = None
    _retirement: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, start: WorkerStart) -> Self:
        """Start a worker process and send it its first message."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "resumed.runtime", str(theirs.fileno()), str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **start.environment},
                start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        worker = cls(start.message.worker, process, reader, writer, start.message.alone)
        worker.send(start.message)
        return worker

    def room_for(self, workflow: str) -> int:
        """How many more attempts of this workflow it may have in hand; 0 where it does not have the workflow."""
        return max(self.limits.get(workflow, 0) - list(self.inflight.values()).count(workflow), 0)

    @property
    def idle_for(self) -> timedelta:
        """How long it has had nothing in hand."""
        return timedelta(seconds=0 if self.inflight else time.monotonic() - self.idle_since)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self.process.pid

    def send(self, message: ToWorker) -> None:
        """Send a message; one to a worker that has ended is lost."""
        if not self.writer.is_closing():
            self.writer.write(encode(message))

    def kill(self) -> None:
        """End the worker at once, and with it its sessions and their locks.

        Not by the process object, whose `send_signal` would reap the child before asyncio's watcher does.
        """
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Give the worker no new work, and end it when it has nothing in hand."""
        if self._dismissal is None and self._retirement is None:
            self.state = "draining"
            self._dismissal = asyncio.create_task(self._end_when_idle())

    def dismiss_near_memory_limit(self, limit: int | None) -> None:
        """Dismiss the worker if it is near its limit: the next thread would pay for what earlier ones allocated."""
        used = memory.used_bytes(self.pid)
        if self.state in ("ready", "isolation") and memory.is_near_limit(used, self.bytes_at_start, limit):
            self.dismiss()

    async def listen(self, on_message: Callable[[FromWorker], None], deadline: timedelta) -> WorkerExit:
        """Pass on its messages until the worker ends; kill it if it is silent for `deadline` before it registers."""
        gone = asyncio.ensure_future(self.process.wait())
        try:
            while True:
                async with asyncio.timeout(deadline.total_seconds() if self.registered_at is None else None):
                    message = await self._next_message(gone)
                if message is None:
                    break
                self._update(message)
                on_message(message)
        except TimeoutError:
            self.silent = True
        finally:
            self.kill()
            self.writer.close()
            for ending in (self._retirement, self._dismissal):
                if ending is not None:
                    ending.cancel()
        code = await gone
        self._kill_group()
        return WorkerExit(
            code,
            registered=self.registered_at is not None,
            loading=self.loading,
            retired=self._retirement is not None,
            dismissed=self._dismissal is not None and not self.inflight,
            tainted=self.tainted,
            silent=self.silent,
            lived=timedelta(seconds=time.monotonic() - (self.registered_at or self.found_at)),
        )

    async def _next_message(self, gone: asyncio.Future[int]) -> FromWorker | None:
        """Read the next message; None when the worker has ended, has cut a line short, or no longer answers.

        A process that the worker forked may keep the socket open, so the end of the process is awaited as well.
        """
        reading = asyncio.ensure_future(self.reader.readline())
        try:
            if not await self._is_alive(reading, gone):
                return None
            await asyncio.wait({reading}, timeout=_LAST_MESSAGE_GRACE.total_seconds())
            line = reading.result() if reading.done() else b""
            return decode_from_worker(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        finally:
            reading.cancel()

    async def _is_alive(self, reading: asyncio.Future[bytes], gone: asyncio.Future[int]) -> bool:
        """Wait until the worker sends something or ends; return False if it does not even answer a ping."""
        waited: set[asyncio.Future[Any]] = {reading, gone}
        for _ in range(_PINGS):
            done, _ = await asyncio.wait(
                waited, timeout=timings.current().worker_silence.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return True
            self.send(Ping())
        self.silent = True
        return False

    def _kill_group(self) -> None:
        """Kill what the worker started and left behind: it may hold the session of an attempt open."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _update(self, message: FromWorker) -> None:  # noqa: C901 - one case for each message
        match message:
            case EntriesFound(names):
                self.entries, self.found_at = names, time.monotonic()
            case EntryLoading(name):
                self.loading = name
            case EntryHung(name):
                self.hung.add(name)
            case ProcessTainted(what, names):
                self.tainted, self.loading = what, next(iter(names), self.loading)
            case WorkerReady():
                self.state, self.loading = "isolation" if self.alone else "ready", None
                self.bytes_at_start = memory.used_bytes(self.pid)
                self.registered_at = self.idle_since = time.monotonic()
                self.limits = {workflow.name: workflow.numbers.concurrency for workflow in message.workflows}
                self.unloaded = set(message.unloaded)
            case WorkflowChanged(name, workflow, _, unloaded):
                self.limits.pop(name, None)
                if workflow is not None:
                    self.limits[name] = workflow.numbers.concurrency
                (self.unloaded.add if unloaded else self.unloaded.discard)(name)
            case RequestDone(thread_id):
                self.inflight.pop(thread_id, None)
                self.idle_since = time.monotonic()
            case WorkerLeaving():
                self.state = "draining"
            case NodeStuck(thread_id):
                self._retire(thread_id)

    def _retire(self, thread_id: str) -> None:
        """End the process because a node cannot be stopped, once the other attempts in it have drained."""
        self.stuck.add(thread_id)
        if self._retirement is None:
            self.state = "draining"
            self.send(DrainAttempts())
            self._retirement = asyncio.create_task(self._kill_when_drained())

    async def _end_when_idle(self) -> None:
        while self.inflight:
            await asyncio.sleep(_POLL)
        self.send(EndWorker())
        await asyncio.sleep(timings.current().closing.total_seconds())
        self.kill()

    async def _kill_when_drained(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timings.current().stuck_grace.total_seconds()):
                while set(self.inflight) - self.stuck:
                    await asyncio.sleep(_POLL)
        self.kill()
