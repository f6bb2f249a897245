"""The control process's side of its workers: starts them, hands them threads, notices when one dies or hangs.

It never imports user code and never touches the database; what a dead worker leaves open, the daemon closes.
"""

import asyncio
import os
import socket as sockets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from resumed.engine import memory
from resumed.engine.ceiling import Ceiling
from resumed.engine.handle import Exited, Handle, Spawn
from resumed.engine.wire import Message
from resumed.errors import WorkersUnavailableError

_HELLO_DEADLINE = timedelta(seconds=60)
_HELLO_PATIENCE = timedelta(seconds=75)
_RESTART_BASE = timedelta(milliseconds=500)
_CLOSE_PATIENCE = timedelta(seconds=1)
_KILL_PATIENCE = timedelta(seconds=2)
_RESTART_CAP = timedelta(seconds=30)
_IDLE_ISOLATION = timedelta(seconds=60)
ISOLATION = "isolation"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the workers are told at their start; `message` is the same for all but the worker's name.

    `memory` is the limit of each in bytes; None: no limit.
    """

    processes: int
    concurrency: int
    message: Message
    environment: Mapping[str, str]
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom the pool tells: of each message, of each worker that started or ended, and that none could be started."""

    on_message: Callable[[Handle, Message], None]
    on_spawned: Callable[[Handle], None]
    on_exited: Callable[[Handle, Exited], None]
    on_trouble: Callable[[OSError], None]


@dataclass(slots=True)
class Pool:
    """A fixed number of workers, each replaced when it ends, and one more for suspects while there are any.

    `greeted` is set by the first hello.
    """

    plan: Plan
    listener: Listener
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    handles: list[Handle] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    stopping: bool = False
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)
    _isolation: asyncio.Task[None] | None = None
    _allowed: Ceiling | None = None

    def start(self) -> None:
        """Start every worker and keep each place filled."""
        self._keepers = [asyncio.create_task(self._keep(str(place))) for place in range(self.plan.processes)]

    def isolate(self) -> None:
        """Start the isolation worker where there is none; it ends by itself when it has had nothing to do."""
        if not self.stopping and not self.has_isolation():
            self._isolation = asyncio.create_task(self._keep_alone())

    def has_isolation(self) -> bool:
        """Say whether there is an isolation worker, or one is being started."""
        return self._isolation is not None and not self._isolation.done()

    def starts_isolation(self) -> bool:
        """Say whether an isolation worker has been started and has not said hello yet."""
        return self.has_isolation() and not any(handle.alone and handle.state != "starting" for handle in self.handles)

    def tend(self) -> None:
        """Have workers end that are near their limit of memory, and an isolation worker that is not needed."""
        for handle in self.handles:
            if handle.state == "isolation" and handle.idle_for > _IDLE_ISOLATION:
                handle.dismiss()
            if handle.state == "ready" and memory.outgrown(memory.used(handle.pid), handle.at_start, self.plan.memory):
                handle.dismiss()

    async def hello(self) -> None:
        """Wait until a worker has said what it has; raises WorkersUnavailableError."""
        try:
            async with asyncio.timeout(_HELLO_PATIENCE.total_seconds()):
                await self.greeted.wait()
        except TimeoutError:
            message = "no worker process said what workflows it has; the log above says what its imports did"
            raise WorkersUnavailableError(message) from None

    def free(self, *, alone: bool = False) -> int:
        """How many threads could be handed out now, or to the isolation worker."""
        return sum(self._slots(handle) for handle in self.handles if handle.alone is alone)

    def room(self, workflow: str, *, alone: bool = False) -> int:
        """How many threads of this workflow could be handed out now, or to the isolation worker."""
        fitting = [handle for handle in self.handles if handle.alone is alone]
        return sum(min(self._slots(handle), handle.room_for(workflow)) for handle in fitting)

    def inflight(self) -> list[str]:
        """The threads that workers are trying at this moment."""
        return [thread for handle in self.handles for thread in handle.inflight]

    def submit(self, thread_id: str, workflow: str, *, asked: bool = False, alone: bool = False) -> bool:
        """Hand a thread to the worker with the most room, `asked` for by a person or not; False where none has any.

        `alone` hands it to the isolation worker.
        """
        able = [one for one in self.handles if one.alone is alone]
        fitting = [one for one in able if self._slots(one) and one.room_for(workflow)]
        if not fitting or thread_id in self.inflight():
            return False
        handle = max(fitting, key=self._slots)
        handle.inflight[thread_id] = workflow
        handle.send({"kind": "attempt", "thread_id": thread_id, "workflow": workflow, "asked": asked})
        return True

    def ask(self, thread_id: str, workflow: str) -> bool:
        """Have a worker inspect a thread; False where none has its workflow."""
        fitting = [handle for handle in self.handles if handle.state == "ready" and workflow in handle.limits]
        for handle in fitting[:1]:
            handle.send({"kind": "inspect", "thread_id": thread_id, "workflow": workflow})
        return bool(fitting)

    def counts(self) -> dict[str, int]:
        """How many workers are in which state."""
        counted = dict.fromkeys(("starting", "ready", "draining", "isolation"), 0)
        for handle in self.handles:
            counted[handle.state] += 1
        return counted

    async def drain(self, grace: timedelta) -> None:
        """Ask every graph to stop, then stop the runs, then kill what is left; takes at most about `grace`."""
        self.stopping = True
        for kind, share in (("drain", 0.7), ("stop", 0.3)):
            for handle in self.handles:
                handle.send({"kind": kind})
            await self._wait_idle(grace * share)

    async def close(self) -> None:
        """End every worker and wait until it is gone; one that has no work in hand may close what it holds."""
        self.stopping = True
        for handle in self.handles:
            if handle.inflight or handle.state == "starting":
                handle.kill()
            handle.send({"kind": "end"})
        keepers = [*self._keepers, *([self._isolation] if self._isolation is not None else [])]
        if keepers:
            await asyncio.wait(keepers, timeout=_CLOSE_PATIENCE.total_seconds())
        for handle in self.handles:
            handle.kill()
        if keepers:
            await asyncio.wait(keepers, timeout=_KILL_PATIENCE.total_seconds())
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _slots(self, handle: Handle) -> int:
        if handle.state not in ("ready", "isolation") or self.stopping:
            return 0
        return max((1 if handle.alone else self._ceiling().now) - len(handle.inflight), 0)

    def _ceiling(self) -> Ceiling:
        if self._allowed is None:
            self._allowed = Ceiling(self.plan.concurrency)
        return self._allowed

    async def _wait_idle(self, limit: timedelta) -> None:
        deadline = asyncio.get_running_loop().time() + limit.total_seconds()
        while self.inflight() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    async def _keep_alone(self) -> None:
        """Live through one life of the isolation worker; whoever needs another one asks for it."""
        try:
            await self._live(ISOLATION)
        except OSError as error:
            self.listener.on_trouble(error)

    async def _keep(self, place: str) -> None:
        failures = 0
        while not self.stopping:
            try:
                exited = await self._live(place)
                failures = 0 if exited.greeted else failures + 1
            except OSError as error:
                self.listener.on_trouble(error)
                failures += 1
            if not self.stopping and failures:
                await asyncio.sleep(min(_RESTART_CAP, _RESTART_BASE * 2 ** min(failures, 8)).total_seconds())

    async def _live(self, place: str) -> Exited:
        """Live through one worker's life, from its start to its end."""
        name, alone = f"{sockets.gethostname()}-{os.getpid()}-{place}", place == ISOLATION
        own = {"worker": name, "excluded": dict(self.excluded), "memory": self.plan.memory, "alone": alone}
        handle = await Handle.spawn(Spawn(name, {**self.plan.message, **own}, self.plan.environment, alone))
        self.handles.append(handle)
        self.listener.on_spawned(handle)
        try:
            exited = await handle.attend(lambda said: self._hear(handle, said), _HELLO_DEADLINE)
        finally:
            handle.kill()
            self.handles.remove(handle)
        if exited.loading is not None:
            self.excluded[exited.loading] = f"its import ended the worker process (exit {exited.code})"
        self.listener.on_exited(handle, exited)
        return exited

    def _hear(self, handle: Handle, message: Message) -> None:
        if message["kind"] == "hello":
            self.greeted.set()
        if message["kind"] == "done" and message["result"] == "unreachable":
            self._ceiling().refused(asyncio.get_running_loop().time())
        elif message["kind"] == "done" and message["result"] in ("tried", "looked"):
            self._ceiling().served()
        self.listener.on_message(handle, message)


def plan_message(dsn: str, schema: str, extra: Mapping[str, Any]) -> Message:
    """Build what a worker is told at its start; it travels over the socket, never on a command line."""
    return {"kind": "plan", "dsn": dsn, "schema": schema, **extra}
