"""Owns a worker's operating-system process and its socket: starts it, talks to it, kills it. It knows no workflows."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from resumed import timings
from resumed.workers.protocol import FromWorker, Ping, StartWorker, ToWorker, decode_from_worker, encode

_LINE_LIMIT = 1 << 24
_PINGS = 3
_LAST_MESSAGE_GRACE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What a worker is started with: its first message, and variables beside those of this process."""

    message: StartWorker
    environment: Mapping[str, str]


@dataclass(slots=True)
class ChildProcess:
    """A worker's process and its end of the socket. `silent`: it stopped answering."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Future[int]
    silent: bool = False

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
        child = cls(process, reader, writer, asyncio.ensure_future(process.wait()))
        child.send(start.message)
        return child

    def send(self, message: ToWorker) -> None:
        """Send a message; one to a process that has ended is lost."""
        if not self.writer.is_closing():
            self.writer.write(encode(message))

    async def receive(self) -> FromWorker | None:
        """Read the next message; None when the process has ended, has cut a line short, or no longer answers.

        What it forked may keep the socket open, so the end of the process is awaited as well.
        """
        reading = asyncio.ensure_future(self.reader.readline())
        try:
            if not await self._is_alive(reading):
                return None
            await asyncio.wait({reading}, timeout=_LAST_MESSAGE_GRACE.total_seconds())
            line = reading.result() if reading.done() else b""
            return decode_from_worker(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        finally:
            reading.cancel()

    def kill(self) -> None:
        """End the process at once, and with it its sessions and their locks.

        Not by the process object, whose `send_signal` would reap the child before asyncio's watcher does.
        """
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until the process is gone and return its exit code.

        What it started and left behind is killed: that may hold the session of an attempt open.
        """
        code = await self.gone
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return code

    async def _is_alive(self, reading: asyncio.Future[bytes]) -> bool:
        """Wait until the process sends something or ends; return False if it does not even answer a ping."""
        waited: set[asyncio.Future[Any]] = {reading, self.gone}
        for _ in range(_PINGS):
            done, _ = await asyncio.wait(
                waited, timeout=timings.current().worker_silence.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return True
            self.send(Ping())
        self.silent = True
        return False
