"""Owns one worker process as its control process sees it: its socket, its state, what it is trying."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Self

from resumed.engine.wire import Message, decode, encode

_LINE_LIMIT = 1 << 24
_STUCK_GRACE = timedelta(seconds=10)

WorkerState = Literal["starting", "ready", "draining", "isolation"]


@dataclass(frozen=True, slots=True)
class Spawn:
    """What a worker is started with: its name, the plan it is sent, variables beside those of this process."""

    name: str
    message: Message
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Exited:
    """How a worker ended: its exit code, whether it had said hello, which entry it was importing."""

    code: int | None
    greeted: bool
    loading: str | None


@dataclass(slots=True)
class Handle:
    """A running worker. `inflight` maps threads to workflows; `names` are the workflows of its hello."""

    name: str
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: WorkerState = "starting"
    names: frozenset[str] = frozenset()
    inflight: dict[str, str] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    loading: str | None = None
    _reaper: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, spawn: Spawn) -> Self:
        """Start a worker process and send it its plan."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "resumed.engine.worker", str(theirs.fileno()), str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **spawn.environment},
                start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        handle = cls(spawn.name, process, reader, writer)
        handle.send(spawn.message)
        return handle

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

    async def attend(self, hear: Callable[[Message], None], deadline: timedelta) -> Exited:
        """Listen until the worker ends; one that says no hello within the deadline is killed."""
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                await self._listen(hear, until_hello=True)
            await self._listen(hear, until_hello=False)
        except TimeoutError:
            self.loading = self.loading or ""
        finally:
            self.kill()
            self.writer.close()
            if self._reaper is not None:
                self._reaper.cancel()
        code = await self.process.wait()
        return Exited(code, self.state != "starting", self.loading or None)

    async def _listen(self, hear: Callable[[Message], None], *, until_hello: bool) -> None:
        while line := await self._line():
            message = decode(line)
            self._note(message)
            hear(message)
            if until_hello and message["kind"] == "hello":
                return

    async def _line(self) -> bytes:
        try:
            return await self.reader.readline()
        except ConnectionError:
            return b""

    def _note(self, message: Message) -> None:
        match message["kind"]:
            case "loading":
                self.loading = message["name"]
            case "hello":
                self.state, self.loading = "ready", None
                self.names = frozenset(one["name"] for one in message["workflows"])
            case "done":
                self.inflight.pop(message["thread_id"], None)
            case "stuck":
                self._retire(message["thread_id"])

    def _retire(self, thread_id: str) -> None:
        """A node cannot be stopped: take no new work, let the neighbours drain, then end the process."""
        self.stuck.add(thread_id)
        if self._reaper is None:
            self.state = "draining"
            self.send({"kind": "drain"})
            self._reaper = asyncio.create_task(self._end_when_drained())

    async def _end_when_drained(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STUCK_GRACE.total_seconds()):
                while set(self.inflight) - self.stuck:
                    await asyncio.sleep(0.05)
        self.kill()
