"""The control process's side of its workers: starts them, hands them threads, notices when one dies or hangs.

It never imports user code and never touches the database; the daemon closes what a dead worker leaves open.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta

from resumed import timings
from resumed.errors import WorkersUnavailableError
from resumed.workers.child import WorkerStart
from resumed.workers.load_trials import LoadTrials
from resumed.workers.process import WorkerExit, WorkerProcess
from resumed.workers.protocol import (
    DrainAttempts,
    EndWorker,
    EntryHung,
    FromWorker,
    InspectThread,
    LoadWorkflow,
    RequestDone,
    RequestResult,
    RunAttempt,
    StartWorker,
    StopAttempts,
    WorkerReady,
    WorkerSettings,
)
from resumed.workers.prune_messages import PruneThread
from resumed.workers.restart_delay import FailuresByWorkflow, restart_delay
from resumed.workers.session_limit import SessionLimit

_REGISTRATION_DEADLINE = timedelta(seconds=60)
_FIRST_REGISTRATION_DEADLINE = timedelta(seconds=75)
_CLOSE_GRACE = timedelta(seconds=1)
_KILL_GRACE = timedelta(seconds=2)
_DRAIN_SHARE = 0.7
_TRIALS_AT_ONCE = 3
_EARLY_DEATH = timedelta(seconds=10)
_RETRY_LOADS_EVERY = timedelta(seconds=1)
ISOLATION = "isolation"
TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """Which workers there are and what each is started with; `workflows` None: all that are registered.

    `memory` is the limit of each in bytes; None: no limit.
    """

    processes: int
    settings: WorkerSettings
    workflows: tuple[str, ...] | None
    environment: Mapping[str, str]
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class PoolListener:
    """Called for each message, for each worker that started or ended, and for each that could not be started."""

    on_message: Callable[[WorkerProcess, FromWorker], None]
    on_spawned: Callable[[WorkerProcess], None]
    on_exited: Callable[[WorkerProcess, WorkerExit], None]
    on_spawn_failed: Callable[[OSError], None]


def replica_name() -> str:
    """Return the name under which this process claims cases, and with which the names of its workers begin."""
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(slots=True)
class WorkerPool:
    """A fixed number of workers, each replaced when it ends, and an isolation worker while there are suspects.

    `registered` is set once an ordinary worker has said what it has; `isolated_workflow` is what the isolation worker
    loads, or loaded last. `session_limit` holds for each ordinary worker.
    """

    plan: WorkerPlan
    listener: PoolListener
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    workers: list[WorkerProcess] = field(default_factory=list)
    stopping: bool = False
    isolated_workflow: str | None = None
    trials: LoadTrials = field(init=False)
    session_limit: SessionLimit = field(init=False)
    _places: list[asyncio.Task[None]] = field(default_factory=list)
    _trying: set[asyncio.Task[None]] = field(default_factory=set)
    _isolation: asyncio.Task[None] | None = None
    _isolation_failures: FailuresByWorkflow = field(default_factory=FailuresByWorkflow)

    def __post_init__(self) -> None:
        """Prepare for trials, which load what the workers load."""
        # Where memory is limited, one at a time: a trial uses the share that is meant for the isolation worker.
        at_once = _TRIALS_AT_ONCE if self.plan.memory is None else 1
        self.trials = LoadTrials(lambda name: self._start_of(TRIAL, (name,), shared=True), at_once)
        self.session_limit = SessionLimit(self.plan.settings.concurrency)

    # What the workers have in hand

    def free_slots(self, *, alone: bool = False) -> int:
        """Return how many threads could be handed out now, or to the isolation worker."""
        return sum(self._slots(worker) for worker in self.workers if worker.alone is alone)

    def room_for(self, workflow: str, *, alone: bool = False) -> int:
        """Return how many threads of this workflow could be handed out now, or to the isolation worker."""
        fitting = [worker for worker in self.workers if worker.alone is alone]
        return sum(min(self._slots(worker), worker.room_for(workflow)) for worker in fitting)

    def inflight_threads(self) -> dict[str, str]:
        """Return the threads that workers have in hand, each with its workflow."""
        return {thread: workflow for worker in self.workers for thread, workflow in worker.inflight.items()}

    def submit(self, thread_id: str, workflow: str, *, asked: bool = False, alone: bool = False) -> bool:
        """Hand a thread to the worker with the most room, or to the isolation worker; return whether one had room.

        `asked` says that a person asked for this attempt.
        """
        candidates = [worker for worker in self.workers if worker.alone is alone]
        fitting = [worker for worker in candidates if self._slots(worker) and worker.room_for(workflow)]
        if not fitting or thread_id in self.inflight_threads():
            return False
        worker = max(fitting, key=self._slots)
        worker.inflight[thread_id] = workflow
        worker.send(RunAttempt(thread_id, workflow, asked))
        return True

    def request(self, message: InspectThread | PruneThread) -> str | None:
        """Have a worker inspect or prune a thread; return the worker's name, None where none has the workflow now."""
        fitting = [worker for worker in self.workers if worker.state == "ready" and message.workflow in worker.limits]
        if not fitting or self.stopping:
            return None
        worker = max(fitting, key=self._slots)
        worker.send(message)
        return worker.name

    def end_attempts(self, threads: AbstractSet[str], how: type[DrainAttempts | StopAttempts]) -> None:
        """End the attempts on these threads: at their next superstep (`DrainAttempts`), or at once."""
        for worker in self.workers:
            if own := sorted(threads & worker.inflight.keys()):
                worker.send(how(tuple(own)))

    def state_counts(self) -> dict[str, int]:
        """Return how many workers are in each state."""
        counts = dict.fromkeys(("starting", "ready", "draining", "isolation"), 0)
        for worker in self.workers:
            counts[worker.state] += 1
        return counts

    # The isolation worker

    def start_isolation(self, workflow: str) -> None:
        """Start the isolation worker for one workflow where there is none; it ends by itself when it is idle."""
        if not self.stopping and not self.has_isolation():
            self.isolated_workflow = workflow
            self._isolation = asyncio.create_task(self._run_isolation(workflow))

    def can_isolate(self, workflow: str) -> bool:
        """Return whether the isolation worker may be started for a workflow: after a failure only after a back-off."""
        return not self._trials_use_isolation_share() and self._isolation_failures.is_over(workflow)

    def has_isolation(self) -> bool:
        """Return whether there is an isolation worker, or one is being started."""
        return self._isolation is not None and not self._isolation.done()

    def is_isolation_starting(self) -> bool:
        """Return whether an isolation worker is being started, is being replaced, or waits for the end of a trial."""
        serves = any(worker.alone and worker.state == "isolation" for worker in self.workers)
        return self._trials_use_isolation_share() or (self.has_isolation() and not serves)

    def is_isolation_turn_over(self) -> bool:
        """Return whether the isolation worker has served its workflow long enough if others wait for their turn."""
        since = [worker.registered_at for worker in self.workers if worker.alone and worker.registered_at is not None]
        return bool(since) and time.monotonic() - since[0] > timings.current().isolation_turn.total_seconds()

    def release_isolation(self) -> None:
        """End the isolation worker once it has nothing in hand: another workflow needs one."""
        for worker in self.workers:
            if worker.alone and worker.state == "isolation":
                worker.dismiss()

    # From start to end

    def start(self) -> None:
        """Start every worker and keep each place filled."""
        self._places = [asyncio.create_task(self._keep_filled(str(place))) for place in range(self.plan.processes)]
        self._places.append(asyncio.create_task(self._keep_retrying_loads()))

    async def wait_until_registered(self) -> None:
        """Wait until a worker has registered, while workers make progress; raises WorkersUnavailableError."""
        loop = asyncio.get_running_loop()
        last, seen = loop.time(), -1
        while not self.registered.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.registered.wait(), 1)
            if self.trials.progress != seen:
                last, seen = loop.time(), self.trials.progress
            if loop.time() - last > _FIRST_REGISTRATION_DEADLINE.total_seconds():
                message = (
                    f"no worker process has registered its workflows within {_FIRST_REGISTRATION_DEADLINE.seconds} s: "
                    "see the log above for what its imports did, and correct the entry that hangs or fails"
                )
                raise WorkersUnavailableError(message)

    def dismiss_unneeded(self) -> None:
        """End workers that are near their memory limit, and an isolation worker that is idle."""
        for worker in self.workers:
            if worker.state == "isolation" and worker.idle_for > timings.current().idle_isolation:
                worker.dismiss()
            worker.dismiss_near_memory_limit(self.plan.memory)

    async def drain(self, grace: timedelta) -> None:
        """Ask every graph to stop, then stop the runs; takes at most about `grace`."""
        self.stopping = True
        for message, share in ((DrainAttempts(), _DRAIN_SHARE), (StopAttempts(), 1 - _DRAIN_SHARE)):
            for worker in self.workers:
                worker.send(message)
            await self._wait_until(lambda: not self.inflight_threads(), grace * share)

    def kill(self) -> None:
        """Kill every worker at once."""
        for worker in self.workers:
            worker.kill()

    async def close(self) -> None:
        """End every worker and wait until it is gone; one that has no work in hand may close what it holds."""
        self.stopping = True
        for worker in self.workers:
            if worker.inflight or worker.state == "starting":
                worker.kill()
            worker.send(EndWorker())
        self.trials.close()
        tasks = [*self._places, *self._trying, *([self._isolation] if self._isolation is not None else [])]
        if tasks:
            await self._wait_until(lambda: not self.workers, _CLOSE_GRACE)
        self.kill()
        if tasks:
            await self._wait_until(lambda: not self.workers, _KILL_GRACE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _slots(self, worker: WorkerProcess) -> int:
        if worker.state not in ("ready", "isolation") or self.stopping:
            return 0
        if worker.alone and self._trials_use_isolation_share():
            return 0
        return max((1 if worker.alone else self.session_limit.current) - len(worker.inflight), 0)

    def _trials_use_isolation_share(self) -> bool:
        """Return whether trials use the isolation worker's share of memory, as they do where memory is limited."""
        return bool(self.trials.running) and self.plan.memory is not None

    async def _wait_until(self, condition: Callable[[], bool], limit: timedelta) -> None:
        deadline = asyncio.get_running_loop().time() + limit.total_seconds()
        while not condition() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)

    # The lives of workers

    async def _keep_filled(self, place: str) -> None:
        failures = 0
        while not self.stopping:
            try:
                worker, exited = await self._run_worker(place, self.plan.workflows)
                died = not exited.dismissed and not exited.retired
                failures = 0 if exited.registered and not (died and not worker.inflight) else failures + 1
                if died and not self.stopping and await self._try_entries_of_dead(worker, exited):
                    failures = 0
            except OSError as error:
                self.listener.on_spawn_failed(error)
                failures += 1
            if not self.stopping and failures:
                await asyncio.sleep(restart_delay(failures).total_seconds())

    async def _run_isolation(self, workflow: str) -> None:
        """Run one isolation worker from its start to its end; the next one is started when something is due."""
        try:
            worker, exited = await self._run_worker(ISOLATION, (workflow,))
        except OSError as error:
            self.listener.on_spawn_failed(error)
            return
        died = not (exited.dismissed or exited.retired or worker.inflight or self.stopping)
        if exited.registered and worker.limits and not died:
            self._isolation_failures.clear(workflow)
            return
        self._isolation_failures.add(workflow)
        if died:
            await self._try_entries_and_dismiss(worker, exited)

    async def _run_worker(self, place: str, names: Sequence[str] | None) -> tuple[WorkerProcess, WorkerExit]:
        """Run one worker from its start to its end."""
        worker = await WorkerProcess.spawn(self._start_of(place, names))
        self.workers.append(worker)
        self.trials.progress += 1
        self.listener.on_spawned(worker)
        try:
            exited = await worker.listen(lambda message: self._on_message(worker, message), _REGISTRATION_DEADLINE)
        finally:
            worker.kill()
            self.workers.remove(worker)
        self.listener.on_exited(worker, exited)
        return worker, exited

    def _start_of(self, place: str, names: Sequence[str] | None, *, shared: bool = False) -> WorkerStart:
        """Return how a worker is started that loads these names, or all; trials and the isolation worker load one."""
        message = StartWorker(
            worker=f"{replica_name()}-{place}",
            settings=self.plan.settings,
            workflows=tuple(names) if names is not None else None,
            excluded={} if shared else dict(self.trials.excluded),
            memory=self.plan.memory,
            alone=place == ISOLATION,
            shared=shared,
        )
        return WorkerStart(message, self.plan.environment)

    def _on_message(self, worker: WorkerProcess, message: FromWorker) -> None:
        self.trials.progress += 1
        match message:
            case EntryHung(name, reason):
                self.trials.exclude_hung(name, reason)
            case WorkerReady() if not worker.alone:
                self.registered.set()
            case WorkerReady() if not worker.limits:
                worker.dismiss()
            case RequestDone(result=result):
                if result is RequestResult.UNREACHABLE:
                    self.session_limit.lower(asyncio.get_running_loop().time())
                elif result in (RequestResult.TRIED, RequestResult.LOOKED):
                    self.session_limit.increase()
                worker.dismiss_near_memory_limit(self.plan.memory)  # before the slot that is free again is filled
        self.listener.on_message(worker, message)

    # Which entry killed a worker

    async def _try_entries_of_dead(self, worker: WorkerProcess, exited: WorkerExit) -> bool:
        """Find out what a worker died of; return whether an entry was excluded before the next worker starts.

        Threads that it had in hand are suspected first; what it had loaded only once that happens again soon.
        """
        if not worker.inflight and exited.lived < _EARLY_DEATH:
            return await self._try_entries(worker, exited)
        if not worker.inflight or self.trials.repeats_early_death(exited):
            task = asyncio.create_task(self._try_entries_and_dismiss(worker, exited))
            self._trying.add(task)
            task.add_done_callback(self._trying.discard)
        return False

    async def _try_entries(self, worker: WorkerProcess, exited: WorkerExit) -> bool:
        try:
            return await self.trials.try_entries(exited, worker.imports.entries)
        except OSError as error:
            self.listener.on_spawn_failed(error)
            return False

    async def _try_entries_and_dismiss(self, worker: WorkerProcess, exited: WorkerExit) -> None:
        """Try the entries while other workers serve, and replace those that have loaded one that was excluded."""
        if await self._try_entries(worker, exited):
            for one in self.workers:
                if one.state == "ready" and self.trials.excluded.keys() & set(one.imports.entries):
                    one.dismiss()

    async def _keep_retrying_loads(self) -> None:
        """Try again what could not be loaded, and have the workers load it once it can be."""
        while not self.stopping:
            await asyncio.sleep(_RETRY_LOADS_EVERY.total_seconds())
            ready = [worker for worker in self.workers if worker.state == "ready"]
            unloaded = {name for worker in ready for name in worker.imports.unloaded}
            if not ready or self.trials.running:
                continue
            try:
                loadable = await self.trials.retry_due(unloaded, asyncio.get_running_loop().time())
            except OSError as error:
                self.listener.on_spawn_failed(error)
                continue
            for name in loadable:
                self._load_everywhere(name)

    def _load_everywhere(self, name: str) -> None:
        """Have every worker load an entry; one in which its import never ended is replaced."""
        for worker in self.workers:
            if worker.state == "ready" and name in worker.imports.hung:
                worker.dismiss()
            elif worker.state == "ready":
                worker.send(LoadWorkflow(name))
