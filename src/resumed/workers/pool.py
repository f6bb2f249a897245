"""The control process's side of its workers: starts them, hands them threads, notices when one dies or hangs.

It never imports user code and never touches the database; what a dead worker leaves open, the daemon closes.
"""

import asyncio
import contextlib
import os
import socket as sockets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from resumed.errors import WorkersUnavailableError
from resumed.workers import memory
from resumed.workers.load_trials import LoadTrials
from resumed.workers.process import WorkerExit, WorkerProcess, WorkerStart
from resumed.workers.protocol import Message
from resumed.workers.session_limit import SessionLimit

_HELLO_DEADLINE = timedelta(seconds=60)
_HELLO_PATIENCE = timedelta(seconds=75)
_RESTART_BASE = timedelta(milliseconds=500)
_CLOSE_PATIENCE = timedelta(seconds=1)
_KILL_PATIENCE = timedelta(seconds=2)
_RESTART_CAP = timedelta(seconds=30)
_IDLE_ISOLATION = timedelta(seconds=60)
_TURN = timedelta(seconds=30)
_TRIALS_AT_ONCE = 3
_AT_ONCE = timedelta(seconds=10)
_PROBATION = timedelta(seconds=60)
_RECONSIDER = timedelta(seconds=1)
ISOLATION = "isolation"
TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What the workers are told at their start; `message` is the same for all but the worker's name.

    `memory` is the limit of each in bytes; None: no limit.
    """

    processes: int
    concurrency: int
    message: Message
    environment: Mapping[str, str]
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class PoolListener:
    """Whom the pool tells: of each message, of each worker that started or ended, and that none could be started."""

    on_message: Callable[[WorkerProcess, Message], None]
    on_spawned: Callable[[WorkerProcess], None]
    on_exited: Callable[[WorkerProcess, WorkerExit], None]
    on_trouble: Callable[[OSError], None]


@dataclass(slots=True)
class WorkerPool:
    """A fixed number of workers, each replaced when it ends, and one more for suspects while there are any.

    `greeted` is set by the first hello of one of them; `isolated` is the workflow that the one for suspects loads.
    """

    plan: WorkerPlan
    listener: PoolListener
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    handles: list[WorkerProcess] = field(default_factory=list)
    stopping: bool = False
    trials: LoadTrials = field(init=False)
    isolated: str | None = None
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)
    _judging: set[asyncio.Task[None]] = field(default_factory=set)
    _isolation: asyncio.Task[None] | None = None
    _not_alone: dict[str, tuple[int, float]] = field(default_factory=dict)
    _allowed: SessionLimit | None = None
    _fell_at: float | None = None

    def __post_init__(self) -> None:
        """Prepare for trials, which load what the workers load."""
        # Where memory is limited, one at a time: it takes the place that is meant for the isolation worker.
        at_once = _TRIALS_AT_ONCE if self.plan.memory is None else 1
        self.trials = LoadTrials(lambda name: self._spawn(TRIAL, (name,), shared=True), at_once)

    def start(self) -> None:
        """Start every worker and keep each place filled."""
        self._keepers = [asyncio.create_task(self._keep(str(place))) for place in range(self.plan.processes)]
        self._keepers.append(asyncio.create_task(self._reconsider()))

    def isolate(self, workflow: str) -> None:
        """Start the isolation worker where there is none, for one workflow; it loads nothing else.

        It ends by itself when it has had nothing to do.
        """
        if not self.stopping and not self.has_isolation():
            self.isolated = workflow
            self._isolation = asyncio.create_task(self._keep_alone(workflow))

    def can_isolate(self, workflow: str) -> bool:
        """Say whether an isolation worker may be started for a workflow: not while one that failed to load it waits."""
        return (
            not self._place_is_taken()
            and asyncio.get_running_loop().time() >= self._not_alone.get(workflow, (0, 0.0))[1]
        )

    def overstays(self) -> bool:
        """Say whether the isolation worker has served its workflow for long enough, should others wait for one."""
        served = [one.greeted_at for one in self.handles if one.alone and one.greeted_at is not None]
        return bool(served) and time.monotonic() - served[0] > _TURN.total_seconds()

    def yield_isolation(self) -> None:
        """Have the isolation worker end, once it has nothing in hand: another workflow needs one."""
        for handle in self.handles:
            if handle.alone and handle.state == "isolation":
                handle.dismiss()

    def has_isolation(self) -> bool:
        """Say whether there is an isolation worker, or one is being started."""
        return self._isolation is not None and not self._isolation.done()

    def starts_isolation(self) -> bool:
        """Say whether an isolation worker is being started, makes room for another, or waits for the end of a trial."""
        serves = any(one.alone and one.state == "isolation" for one in self.handles)
        return self._place_is_taken() or (self.has_isolation() and not serves)

    def tend(self) -> None:
        """Have workers end that are near their limit of memory, and an isolation worker that is not needed."""
        for handle in self.handles:
            if handle.state == "isolation" and handle.idle_for > _IDLE_ISOLATION:
                handle.dismiss()
            self._relieve(handle)

    async def hello(self) -> None:
        """Wait until a worker has said what it has, for as long as workers get on; raises WorkersUnavailableError."""
        loop = asyncio.get_running_loop()
        last, seen = loop.time(), -1
        while not self.greeted.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.greeted.wait(), 1)
            if self.trials.progress != seen:
                last, seen = loop.time(), self.trials.progress
            if loop.time() - last > _HELLO_PATIENCE.total_seconds():
                message = "no worker process said what workflows it has; the log above says what its imports did"
                raise WorkersUnavailableError(message)

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

    def prune(self, message: Message) -> str | None:
        """Have the worker with the most room prune a thread; returns its name, None where none has the workflow."""
        fitting = [one for one in self.handles if one.state == "ready" and message["workflow"] in one.limits]
        if not fitting or self.stopping:
            return None
        handle = max(fitting, key=self._slots)
        handle.send(message)
        return handle.name

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
        self.trials.close()
        keepers = [*self._keepers, *self._judging, *([self._isolation] if self._isolation is not None else [])]
        if keepers:
            await self._wait_gone(_CLOSE_PATIENCE)
        for handle in self.handles:
            handle.kill()
        if keepers:
            await self._wait_gone(_KILL_PATIENCE)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _relieve(self, handle: WorkerProcess) -> None:
        """Have a worker end that is near its limit of memory: the next thread would pay for what earlier ones took."""
        used = memory.used(handle.pid)
        if handle.state in ("ready", "isolation") and memory.outgrown(used, handle.at_start, self.plan.memory):
            handle.dismiss()

    def _slots(self, handle: WorkerProcess) -> int:
        if handle.state not in ("ready", "isolation") or self.stopping or (handle.alone and self._place_is_taken()):
            return 0
        return max((1 if handle.alone else self._ceiling().now) - len(handle.inflight), 0)

    def _place_is_taken(self) -> bool:
        """Say whether trials have the isolation worker's place, as they do where memory is limited."""
        return bool(self.trials.running) and self.plan.memory is not None

    def _ceiling(self) -> SessionLimit:
        if self._allowed is None:
            self._allowed = SessionLimit(self.plan.concurrency)
        return self._allowed

    async def _wait_idle(self, limit: timedelta) -> None:
        deadline = asyncio.get_running_loop().time() + limit.total_seconds()
        while self.inflight() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    async def _wait_gone(self, patience: timedelta) -> None:
        deadline = asyncio.get_running_loop().time() + patience.total_seconds()
        while self.handles and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)

    async def _keep_alone(self, workflow: str) -> None:
        """Live through one life of the isolation worker; whoever needs another one asks for it."""
        try:
            handle, exited = await self._live(ISOLATION, (workflow,))
        except OSError as error:
            self.listener.on_trouble(error)
            return
        fell = not (exited.dismissed or exited.retired or handle.inflight or self.stopping)
        if exited.greeted and handle.limits and not fell:
            self._not_alone.pop(workflow, None)
            return
        failures = self._not_alone.get(workflow, (0, 0.0))[0] + 1
        pause = min(_RESTART_CAP, _RESTART_BASE * 2 ** min(failures, 8)).total_seconds()
        self._not_alone[workflow] = failures, asyncio.get_running_loop().time() + pause
        if fell:
            await self._judge_meanwhile(handle, exited)

    async def _keep(self, place: str) -> None:
        failures = 0
        while not self.stopping:
            try:
                handle, exited = await self._live(place, self.plan.message["workflows"])
                fell = not exited.dismissed and not exited.retired
                failures = 0 if exited.greeted and not (fell and not handle.inflight) else failures + 1
                if fell and not self.stopping and await self._judged(handle, exited):
                    failures = 0
            except OSError as error:
                self.listener.on_trouble(error)
                failures += 1
            if not self.stopping and failures:
                await asyncio.sleep(min(_RESTART_CAP, _RESTART_BASE * 2 ** min(failures, 8)).total_seconds())

    async def _judged(self, handle: WorkerProcess, exited: WorkerExit) -> bool:
        """Find out what a worker ended of: before the next one starts where that would not live either.

        Threads that it had in hand are suspected first, what it had loaded only once that soon happens again.
        """
        if not handle.inflight and exited.lived < _AT_ONCE:
            return await self._judge(handle, exited)
        if not handle.inflight or self._fell_again(exited):
            task = asyncio.create_task(self._judge_meanwhile(handle, exited))
            self._judging.add(task)
            task.add_done_callback(self._judging.discard)
        return False

    def _fell_again(self, exited: WorkerExit) -> bool:
        """Note that a worker ended with threads in hand; returns whether another one did shortly before."""
        if exited.lived >= _PROBATION:
            return False
        now = asyncio.get_running_loop().time()
        before, self._fell_at = self._fell_at, now
        return before is not None and now - before < 2 * _PROBATION.total_seconds()

    async def _judge(self, handle: WorkerProcess, exited: WorkerExit) -> bool:
        try:
            return await self.trials.judge(exited, handle.entries)
        except OSError as error:
            self.listener.on_trouble(error)
            return False

    async def _judge_meanwhile(self, handle: WorkerProcess, exited: WorkerExit) -> None:
        if await self._judge(handle, exited):
            for one in self.handles:
                if one.state == "ready" and self.trials.excluded.keys() & set(one.entries):
                    one.dismiss()

    async def _reconsider(self) -> None:
        """Try again what could not be loaded, and have the workers load it once it can be."""
        while not self.stopping:
            await asyncio.sleep(_RECONSIDER.total_seconds())
            ready = [one for one in self.handles if one.state == "ready"]
            unloaded = {name for one in ready for name in one.unloaded}
            if not ready or self.trials.running:
                continue
            try:
                sound = await self.trials.again(unloaded, asyncio.get_running_loop().time())
            except OSError as error:
                self.listener.on_trouble(error)
                continue
            for name in sound:
                self._have_loaded(name)

    def _have_loaded(self, name: str) -> None:
        """Have every worker load an entry; one whose import of it never ended is replaced."""
        for handle in self.handles:
            if handle.state == "ready" and name in handle.hung:
                handle.dismiss()
            elif handle.state == "ready":
                handle.send({"kind": "load", "name": name})

    def _spawn(self, place: str, names: Sequence[str] | None, *, shared: bool = False) -> WorkerStart:
        """Say how a worker is started that loads these names, or all; trials and the isolation worker load one."""
        name, alone = f"{sockets.gethostname()}-{os.getpid()}-{place}", place == ISOLATION
        own: Message = {
            "worker": name,
            "excluded": {} if shared else dict(self.trials.excluded),
            "memory": self.plan.memory,
        }
        own |= {"alone": alone, "workflows": list(names) if names is not None else None, "shared": shared}
        return WorkerStart(name, {**self.plan.message, **own}, self.plan.environment, alone)

    async def _live(self, place: str, names: Sequence[str] | None) -> tuple[WorkerProcess, WorkerExit]:
        """Live through one worker's life, from its start to its end."""
        handle = await WorkerProcess.spawn(self._spawn(place, names))
        self.handles.append(handle)
        self.trials.progress += 1
        self.listener.on_spawned(handle)
        try:
            exited = await handle.attend(lambda said: self._hear(handle, said), _HELLO_DEADLINE)
        finally:
            handle.kill()
            self.handles.remove(handle)
        self.listener.on_exited(handle, exited)
        return handle, exited

    def _hear(self, handle: WorkerProcess, message: Message) -> None:
        self.trials.progress += 1
        if message["kind"] == "hung":
            self.trials.set_aside(message["name"], message["reason"])
        if message["kind"] == "hello" and not handle.alone:
            self.greeted.set()
        if message["kind"] == "hello" and handle.alone and not handle.limits:
            handle.dismiss()
        if message["kind"] == "done" and message["result"] == "unreachable":
            self._ceiling().refused(asyncio.get_running_loop().time())
        elif message["kind"] == "done" and message["result"] in ("tried", "looked"):
            self._ceiling().served()
        if message["kind"] == "done":
            self._relieve(handle)  # before the place that is free again is filled
        self.listener.on_message(handle, message)


def plan_message(dsn: str, schema: str, extra: Mapping[str, Any]) -> Message:
    """Build what a worker is told at its start; it travels over the socket, never on a command line."""
    return {"kind": "plan", "dsn": dsn, "schema": schema, **extra}
