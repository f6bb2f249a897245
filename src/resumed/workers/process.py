"""Owns one worker process as its control process sees it: its socket, its state, what it is trying."""

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
from resumed.workers.protocol import Message, decode, encode

_LINE_LIMIT = 1 << 24
_QUESTIONS = 3
_LAST_WORDS = timedelta(seconds=1)
_LOOK = 0.05

WorkerState = Literal["starting", "ready", "draining", "isolation"]


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What a worker is started with: its name, the plan it is sent, variables beside those of this process.

    `alone` says that it is the isolation worker.
    """

    name: str
    message: Message
    environment: Mapping[str, str]
    alone: bool = False


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended: its exit code, whether it had said hello, which entry it was importing.

    `retired` says that we ended it because of a node that could not be stopped, `dismissed` that it had nothing more
    to do and ended because we asked it to. `spoilt` is what some code had changed in the process before any attempt
    began; `silent` that it stopped answering; `lived` how long it had been there since its hello, or its first import.
    """

    code: int | None
    greeted: bool
    loading: str | None
    retired: bool
    dismissed: bool
    spoilt: str | None = None
    silent: bool = False
    lived: timedelta = timedelta(0)


@dataclass(slots=True)
class WorkerProcess:
    """A running worker. `inflight` maps threads to workflows; `limits` its workflows to attempts at once.

    `alone` says that it tries suspects, one at a time; `at_start` how many bytes it had when it said hello, which was
    at `greeted_at`. `entries` are the names that it set out to import, `unloaded` those whose import failed, `hung`
    those whose import has never ended.
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
    at_start: int | None = None
    greeted_at: float | None = None
    found_at: float = field(default_factory=time.monotonic)
    entries: tuple[str, ...] = ()
    unloaded: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    spoilt: str | None = None
    silent: bool = False
    free_since: float = field(default_factory=time.monotonic)
    _leaving: asyncio.Task[None] | None = None
    _reaper: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, spawn: WorkerStart) -> Self:
        """Start a worker process and send it its plan."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "resumed.runtime.worker", str(theirs.fileno()), str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **spawn.environment},
                start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        handle = cls(spawn.name, process, reader, writer, spawn.alone)
        handle.send(spawn.message)
        return handle

    def room_for(self, workflow: str) -> int:
        """How many more attempts of this workflow it may have in hand; 0 where it does not have the workflow."""
        return max(self.limits.get(workflow, 0) - sum(one == workflow for one in self.inflight.values()), 0)

    @property
    def idle_for(self) -> timedelta:
        """How long it has had nothing in hand."""
        return timedelta(seconds=0 if self.inflight else time.monotonic() - self.free_since)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self.process.pid

    def send(self, message: Message) -> None:
        """Send a message; one to a worker that is gone is lost with it."""
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
        """Give it no new work, and have it end when it has done what it has in hand."""
        if self._leaving is None and self._reaper is None:
            self.state = "draining"
            self._leaving = asyncio.create_task(self._end_when_idle())

    async def attend(self, hear: Callable[[Message], None], deadline: timedelta) -> WorkerExit:
        """Listen until the worker ends; one that says nothing before its hello for as long as this is killed."""
        gone = asyncio.ensure_future(self.process.wait())
        try:
            while await self._heard(hear, gone, deadline):
                continue
        except TimeoutError:
            self.silent = True
        finally:
            self.kill()
            self.writer.close()
            self._stop_waiting()
        code = await gone
        self._end_group()
        return WorkerExit(
            code,
            greeted=self.greeted_at is not None,
            loading=self.loading,
            retired=self._reaper is not None,
            dismissed=self._leaving is not None and not self.inflight,
            spoilt=self.spoilt,
            silent=self.silent,
            lived=timedelta(seconds=time.monotonic() - (self.greeted_at or self.found_at)),
        )

    def _stop_waiting(self) -> None:
        for ending in (self._reaper, self._leaving):
            if ending is not None:
                ending.cancel()

    async def _heard(self, hear: Callable[[Message], None], gone: asyncio.Future[int], deadline: timedelta) -> bool:
        """Hear the next message; False where there is none any more. Raises TimeoutError before a hello."""
        patience = deadline.total_seconds() if self.greeted_at is None else None
        async with asyncio.timeout(patience):
            message = await self._message(gone)
        if message is not None:
            self._note(message)
            hear(message)
        return message is not None

    async def _message(self, gone: asyncio.Future[int]) -> Message | None:
        """Read the next message; None when the worker has ended, has cut a line short, or no longer answers.

        A process that the worker forked may keep its socket open, so its end is looked for as well.
        """
        reading = asyncio.ensure_future(self.reader.readline())
        try:
            if not await self._speaks(reading, gone):
                return None
            await asyncio.wait({reading}, timeout=_LAST_WORDS.total_seconds())
            line = reading.result() if reading.done() else b""
            return decode(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        finally:
            reading.cancel()

    async def _speaks(self, reading: asyncio.Future[bytes], gone: asyncio.Future[int]) -> bool:
        """Wait until the worker says something or ends; False where it does not even answer when it is asked."""
        waited: set[asyncio.Future[Any]] = {reading, gone}
        for _ in range(_QUESTIONS):
            done, _ = await asyncio.wait(
                waited, timeout=timings.current().worker_silence.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return True
            self.send({"kind": "ping"})
        self.silent = True
        return False

    def _end_group(self) -> None:
        """End what the worker started and left behind: it may hold the session of an attempt open."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _note(self, message: Message) -> None:
        match message["kind"]:
            case "loading":
                self.loading = message["name"]
            case "hello":
                self.state, self.loading = "isolation" if self.alone else "ready", None
                self.at_start, self.free_since = memory.used(self.pid), time.monotonic()
                self.greeted_at = self.free_since
                self.limits = {one["name"]: one["numbers"]["concurrency"] for one in message["workflows"]}
                self.unloaded = set(message["again"])
            case "found":
                self.entries, self.found_at = tuple(message["names"]), time.monotonic()
            case "hung":
                self.hung.add(message["name"])
            case "changed":
                self._note_change(message)
            case "spoilt":
                self.spoilt, self.loading = message["what"], next(iter(message["names"]), self.loading)
            case "done":
                self.inflight.pop(message["thread_id"], None)
                self.free_since = time.monotonic()
            case "leaving":
                self.state = "draining"
            case "stuck":
                self._retire(message["thread_id"])

    def _note_change(self, message: Message) -> None:
        """Take note of what became of one of its workflows since the hello."""
        name, there = message["name"], message["workflow"]
        self.limits.pop(name, None)
        self.limits |= {name: there["numbers"]["concurrency"]} if there is not None else {}
        self.unloaded.discard(name)
        self.unloaded |= {name} if message["again"] else set()

    def _retire(self, thread_id: str) -> None:
        """A node cannot be stopped: take no new work, let the neighbours drain, then end the process."""
        self.stuck.add(thread_id)
        if self._reaper is None:
            self.state = "draining"
            self.send({"kind": "drain"})
            self._reaper = asyncio.create_task(self._end_when_drained())

    async def _end_when_idle(self) -> None:
        """Have it end when it has nothing in hand, and end it where what it holds does not close."""
        while self.inflight:
            await asyncio.sleep(_LOOK)
        self.send({"kind": "end"})
        await asyncio.sleep(timings.current().closing.total_seconds())
        self.kill()

    async def _end_when_drained(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timings.current().stuck_grace.total_seconds()):
                while set(self.inflight) - self.stuck:
                    await asyncio.sleep(_LOOK)
        self.kill()
