"""Owns one worker process as its control process sees it: its socket, its state, the threads it has in hand."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Self

from resumed import timings
from resumed.workers import memory
from resumed.workers.child import ChildProcess, WorkerStart
from resumed.workers.protocol import (
    DrainAttempts,
    EndWorker,
    EntriesFound,
    EntryHung,
    EntryLoading,
    FromWorker,
    NodeStuck,
    ProcessTainted,
    RequestDone,
    ToWorker,
    WorkerLeaving,
    WorkerReady,
    WorkflowChanged,
)

_POLL = 0.05

WorkerState = Literal["starting", "ready", "draining", "isolation"]


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
class EntryImports:
    """What a worker has imported.

    `entries` are the names that it set out to import, `found_at` (monotonic seconds) is when; `loading` is the one that
    it imports now, `unloaded` are those whose import failed, `hung` those whose import has not ended. `tainted` is what
    imported code has changed in the process.
    """

    entries: tuple[str, ...] = ()
    found_at: float = field(default_factory=time.monotonic)
    loading: str | None = None
    unloaded: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    tainted: str | None = None


@dataclass(slots=True)
class EndRequest:
    """How we are ending a worker: by `dismissal` once it is idle, by `retirement` where nodes cannot be stopped.

    Each is the task that waits for the moment; None: we are not ending it in this way. `stuck` are the threads of
    those nodes.
    """

    dismissal: asyncio.Task[None] | None = None
    retirement: asyncio.Task[None] | None = None
    stuck: set[str] = field(default_factory=set)

    def cancel(self) -> None:
        """Stop waiting for the moment to end it."""
        for task in (self.retirement, self.dismissal):
            if task is not None:
                task.cancel()


@dataclass(slots=True)
class WorkerProcess:
    """A running worker. `inflight` maps threads to workflows; `limits` maps its workflows to attempts at once.

    `alone` marks the isolation worker, which tries one thread at a time. `registered_at` and `idle_since` are monotonic
    seconds; `bytes_at_start` is what it used when it registered.
    """

    name: str
    child: ChildProcess
    alone: bool = False
    state: WorkerState = "starting"
    imports: EntryImports = field(default_factory=EntryImports)
    limits: dict[str, int] = field(default_factory=dict)
    inflight: dict[str, str] = field(default_factory=dict)
    bytes_at_start: int | None = None
    registered_at: float | None = None
    idle_since: float = field(default_factory=time.monotonic)
    _end: EndRequest = field(default_factory=EndRequest)

    @classmethod
    async def spawn(cls, start: WorkerStart) -> Self:
        """Start a worker process and send it its first message."""
        return cls(start.message.worker, await ChildProcess.spawn(start), start.message.alone)

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
        return self.child.process.pid

    def send(self, message: ToWorker) -> None:
        """Send a message; one to a worker that has ended is lost."""
        self.child.send(message)

    def kill(self) -> None:
        """End the worker at once, and with it its sessions and their locks."""
        self.child.kill()

    def dismiss(self) -> None:
        """Give the worker no new work, and end it when it has nothing in hand."""
        if self._end.dismissal is None and self._end.retirement is None:
            self.state = "draining"
            self._end.dismissal = asyncio.create_task(self._end_when_idle())

    def dismiss_near_memory_limit(self, limit: int | None) -> None:
        """Dismiss the worker if it is near its limit: the next thread would pay for what earlier ones allocated."""
        used = memory.used_bytes(self.pid)
        if self.state in ("ready", "isolation") and memory.is_near_limit(used, self.bytes_at_start, limit):
            self.dismiss()

    async def listen(self, on_message: Callable[[FromWorker], None], deadline: timedelta) -> WorkerExit:
        """Pass on its messages until the worker ends; kill it if it is silent for `deadline` before it registers."""
        try:
            while True:
                async with asyncio.timeout(deadline.total_seconds() if self.registered_at is None else None):
                    message = await self.child.receive()
                if message is None:
                    break
                self._update(message)
                on_message(message)
        except TimeoutError:
            self.child.silent = True
        finally:
            self.kill()
            self.child.writer.close()
            self._end.cancel()
        code = await self.child.wait()
        return WorkerExit(
            code,
            registered=self.registered_at is not None,
            loading=self.imports.loading,
            retired=self._end.retirement is not None,
            dismissed=self._end.dismissal is not None and not self.inflight,
            tainted=self.imports.tainted,
            silent=self.child.silent,
            lived=timedelta(seconds=time.monotonic() - (self.registered_at or self.imports.found_at)),
        )

    def _update(self, message: FromWorker) -> None:  # noqa: C901 - one case for each message
        match message:
            case EntriesFound(names):
                self.imports.entries, self.imports.found_at = names, time.monotonic()
            case EntryLoading(name):
                self.imports.loading = name
            case EntryHung(name):
                self.imports.hung.add(name)
            case ProcessTainted(what, names):
                self.imports.tainted = what
                self.imports.loading = next(iter(names), self.imports.loading)
            case WorkerReady():
                self.state, self.imports.loading = "isolation" if self.alone else "ready", None
                self.bytes_at_start = memory.used_bytes(self.pid)
                self.registered_at = self.idle_since = time.monotonic()
                self.limits = {workflow.name: workflow.numbers.concurrency for workflow in message.workflows}
                self.imports.unloaded = set(message.unloaded)
            case WorkflowChanged(name, workflow, _, unloaded):
                self.limits.pop(name, None)
                if workflow is not None:
                    self.limits[name] = workflow.numbers.concurrency
                known = self.imports.unloaded
                (known.add if unloaded else known.discard)(name)
            case RequestDone(thread_id):
                self.inflight.pop(thread_id, None)
                self.idle_since = time.monotonic()
            case WorkerLeaving():
                self.state = "draining"
            case NodeStuck(thread_id):
                self._retire(thread_id)

    def _retire(self, thread_id: str) -> None:
        """End the process because a node cannot be stopped, once the other attempts in it have drained."""
        self._end.stuck.add(thread_id)
        if self._end.retirement is None:
            self.state = "draining"
            self.send(DrainAttempts())
            self._end.retirement = asyncio.create_task(self._kill_when_drained())

    async def _end_when_idle(self) -> None:
        while self.inflight:
            await asyncio.sleep(_POLL)
        self.send(EndWorker())
        await asyncio.sleep(timings.current().closing.total_seconds())
        self.kill()

    async def _kill_when_drained(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timings.current().stuck_grace.total_seconds()):
                while set(self.inflight) - self._end.stuck:
                    await asyncio.sleep(_POLL)
        self.kill()
