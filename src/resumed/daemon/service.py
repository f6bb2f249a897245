"""The composition root of the control process: what is made of what, what runs when, how it starts and stops.

It decides nothing about threads. No user code runs in this process.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from resumed.config.settings import Settings
from resumed.daemon.attempt_spans import SpanTask
from resumed.daemon.clock_check import ClockCheck
from resumed.daemon.control_session import ControlSession
from resumed.daemon.measurements import DatabaseReadTask, LongestStepTask
from resumed.daemon.periodic_tasks import (
    AnnouncementTask,
    DispatchTask,
    RecoveryTask,
    SelfTestTask,
    StopRequestTask,
    SweepTask,
)
from resumed.daemon.readiness import Blocker, Readiness
from resumed.daemon.retention import RetentionTask
from resumed.daemon.scheduler import ScheduledCall, run_scheduler
from resumed.daemon.stop_requests import StopRequests
from resumed.daemon.task_context import TaskContext
from resumed.daemon.webhook import webhook_task
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.daemon.worker_plan import retention_rules, sweep_rules, worker_plan
from resumed.errors import DatabaseUnreachableError, NotReadyError
from resumed.model import Attempt, Outcome
from resumed.observability.events import Events
from resumed.store import schema, watermark
from resumed.store.connection import Target
from resumed.store.lock_selftest import run_lock_selftest
from resumed.workers.pool import WorkerPool, replica_name

_ANNOUNCE_EVERY = timedelta(seconds=20)
_SELF_TEST_EVERY = timedelta(seconds=60)
_RETENTION_EVERY = timedelta(seconds=10)
_RETENTION_REST = timedelta(minutes=1)
_READ_EVERY = timedelta(seconds=10)
_NOTICES_EVERY = timedelta(seconds=5)
_MEASURE_STEPS_EVERY = timedelta(minutes=10)
_RETRY_CONNECT = timedelta(seconds=1)
_RECOVERY_LIMIT = timedelta(seconds=1)
_RECOVERY_PAUSE = timedelta(milliseconds=50)
_OTHER_SWEEP_LIMIT = timedelta(seconds=60)
_POLL = timedelta(milliseconds=20)


class Service:
    """The daemon of one replica. Its parts are public for the commands that make attempts without a daemon."""

    def __init__(self, settings: Settings, events: Events) -> None:
        """Put the parts together; nothing is opened or started yet."""
        self._settings = settings
        self._events = events
        self.readiness = Readiness(
            lambda ready, reason: events.readiness_changed(ready=ready, reason=reason),
            {Blocker.DATABASE: "not connected yet", Blocker.WORKERS: "no worker has registered its workflows yet"},
        )
        self.target = Target(settings.dsn, settings.checkpoint_schema)
        self._control_session = ControlSession(self.target, settings.reconnect_grace)
        self._dispatch_wanted = asyncio.Event()
        self._recovery_wanted = asyncio.Event()
        self.monitor = WorkerMonitor(events, self._on_slot_free, self._recovery_wanted.set)
        self.pool = WorkerPool(worker_plan(settings, settings.dsn), self.monitor.listener())
        self.context = TaskContext(
            self.target, self._control_session, self.pool, self.monitor, self.readiness, events,
            sweep_rules(settings), replica_name(),
        )  # fmt: skip
        if settings.traces:
            events.open_traces(self.context.claimant)
        self._spans = SpanTask(self.context)
        self._clocks = ClockCheck(self.readiness, events)
        self.sweep = SweepTask(self.context, self._clocks)
        self._dispatch = DispatchTask(self.context, self.sweep, dry_run=settings.dry_run)
        self.recovery = RecoveryTask(self.context)
        requests = StopRequests(self.pool, events, settings.shutdown_grace)
        self._stop_requests = StopRequestTask(self.context, requests)
        self._announcement = AnnouncementTask(self.context)
        self._self_test = SelfTestTask(self.context, self._clocks)
        self._longest_step = LongestStepTask(self.context)
        self._read_session = ControlSession(self.target, settings.reconnect_grace, "resumed metrics")
        read_every = min(settings.poll_interval, _READ_EVERY)
        self._database_read = DatabaseReadTask(self._read_session, events, read_every)
        self._webhook = webhook_task(settings, self.target, events)
        self.retention = RetentionTask(
            self.context, retention_rules(settings), dry_run=settings.dry_run, rest=_RETENTION_REST
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then drain. Raises DatabaseUnusableError at the start, never later."""
        working = asyncio.create_task(self._work())
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if working in done:
                await working
        finally:
            stopping.cancel()
            await self._shut_down(working)

    async def once(self, *, wait: bool) -> list[Attempt]:
        """Sweep once and see its attempts to their end; `wait` repeats that until nothing is due now."""
        finished = self.monitor.collect_finished()
        try:
            await self._open()
            await self.start_workers()
            await self._announcement.run_once()
            self._require_ready()
            await self._ask_for_notices()
            async with self.applying_stop_requests():
                while True:
                    before = len(finished)
                    await self._run_due()
                    if not wait or len(finished) == before:
                        break
            if self._webhook is not None:
                await self._webhook.run_once()
            return finished
        finally:
            await self._end()

    def applying_stop_requests(self) -> AbstractAsyncContextManager[None]:
        """Apply what people ask for while attempts are made for the length of a block."""
        every = self._settings.poll_interval
        return run_scheduler([ScheduledCall(self._stop_requests.run_once, every, every)])

    async def start_workers(self) -> None:
        """Start the workers and wait until one has registered; raises WorkersUnavailableError."""
        self.pool.start()
        await self.pool.wait_until_registered()
        self.readiness.unblock(Blocker.WORKERS)

    async def close(self) -> None:
        """Kill the workers and close the session."""
        self.monitor.expect_exits()
        await self.pool.close()
        await self._spans.close()
        await self._close_sessions()

    # The daemon

    async def _work(self) -> None:
        await self._wait_for_database()
        await self._ask_for_notices()
        calls = [ScheduledCall(self._database_read.run_once, self._database_read.every, timedelta(0))]
        if self._webhook is not None:
            every = min(self._settings.poll_interval, _NOTICES_EVERY)
            calls.append(ScheduledCall(self._webhook.run_once, every, timedelta(0)))
        async with run_scheduler(calls):
            await self._work_with_workers()

    async def _work_with_workers(self) -> None:
        self.pool.start()
        await self.pool.registered.wait()
        self.readiness.unblock(Blocker.WORKERS)
        await self._announcement.run_once()
        calls = [
            ScheduledCall(self._run_tasks, self._settings.poll_interval, timedelta(0)),
            ScheduledCall(self._announcement.run_once, _ANNOUNCE_EVERY, _ANNOUNCE_EVERY),
            ScheduledCall(self._self_test.run_once, _SELF_TEST_EVERY, _SELF_TEST_EVERY),
            ScheduledCall(self.retention.run_once, _RETENTION_EVERY, _RETENTION_EVERY),
            ScheduledCall(self._longest_step.run_once, _MEASURE_STEPS_EVERY, timedelta(0)),
            ScheduledCall(self._spans.run_once, self._settings.poll_interval, self._settings.poll_interval),
        ]
        async with run_scheduler(calls):
            await asyncio.gather(self._keep_dispatching(), self._keep_recovering())

    async def _run_tasks(self) -> None:
        """Do what is done at every poll interval."""
        self.pool.dismiss_unneeded()
        counts = self.pool.state_counts()
        self._events.workers_counted(counts)
        slots = self._settings.processes * self._settings.concurrency
        self._events.capacity_counted(slots, counts["ready"] * self.pool.session_limit.current)
        if counts["ready"]:
            self.readiness.unblock(Blocker.WORKERS)
        else:
            self.readiness.block(Blocker.WORKERS, "no worker is ready: the log says why workers end or do not start")
        if Blocker.ANNOUNCEMENT in self.readiness.blockers:
            await self._announcement.run_once()
        await self._stop_requests.run_once()
        await self.sweep.run_once()
        await self.recovery.run_once()
        self._dispatch_wanted.set()

    async def _keep_dispatching(self) -> None:
        while True:
            await self._dispatch_wanted.wait()
            self._dispatch_wanted.clear()
            await self._dispatch.run_once()

    async def _keep_recovering(self) -> None:
        """Settle a dead worker's attempts as soon as its sessions are gone, not only after the next sweep."""
        while True:
            await self._recovery_wanted.wait()
            self._recovery_wanted.clear()
            await self.recovery.run_once()
            self._dispatch_wanted.set()

    def _on_slot_free(self) -> None:
        if self._dispatch.has_backlog:
            self._dispatch_wanted.set()

    # One sweep, for `resumed once`

    async def _run_due(self) -> None:
        """Sweep, and see what is due now to its end."""
        await self._sweep_once()
        await self.recovery.run_once()
        pending = True
        while pending:
            pending = self.pool.is_isolation_starting()  # asked first: what it waits for may end while we hand out
            pending = await self._dispatch.run_once() > 0 or bool(self.pool.inflight_threads()) or pending
            pending = pending or self.pool.is_isolation_starting()
            await asyncio.sleep(_POLL.total_seconds())
        await self.recovery.run_once()
        self._require_ready()

    async def _sweep_once(self) -> None:
        """Sweep, after another replica where one is sweeping. Raises DatabaseError where no sweep could be made."""
        deadline = asyncio.get_running_loop().time() + _OTHER_SWEEP_LIMIT.total_seconds()
        while await self.sweep.run_once() is None:
            self._require_ready()
            if asyncio.get_running_loop().time() > deadline:
                message = "another replica has been sweeping for a minute: see whether it hangs, and try again"
                raise DatabaseUnreachableError(message)
            await asyncio.sleep(_RETRY_CONNECT.total_seconds())
        self._require_ready()

    def _require_ready(self) -> None:
        """Raise if anything has failed: a thread that was not looked at must not be reported as not being there."""
        if not self.readiness.is_ready:
            reasons = "; ".join(dict.fromkeys(self.readiness.blockers.values()))
            raise (DatabaseUnreachableError if self.readiness.is_database_to_blame else NotReadyError)(reasons)

    # Start and end

    async def _wait_for_database(self) -> None:
        while True:
            try:
                return await self._open()
            except DatabaseUnreachableError as error:
                self._events.database_failed("self_test", error)
                self._events.threads_uncounted()
                self.readiness.block(Blocker.DATABASE, str(error))
            await asyncio.sleep(_RETRY_CONNECT.total_seconds())

    async def _open(self) -> None:
        """Make sure that the database can be used. Raises DatabaseError."""
        async with self._control_session.session() as session:
            await schema.check(session)
            self._clocks.compare_host(await watermark.database_clock(session))
        await run_lock_selftest(self.target)
        self.readiness.unblock(Blocker.DATABASE)
        while not self._control_session.trusts_free_locks:
            await asyncio.sleep(_POLL.total_seconds())

    async def _shut_down(self, working: asyncio.Task[None]) -> None:
        self._events.shutdown_started(self._settings.shutdown_grace)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await self._end()
        self._events.shutdown_finished()

    async def _ask_for_notices(self) -> None:
        if self._webhook is not None:
            await self._webhook.ask_for_notices()

    async def _end(self) -> None:
        """Drain what runs, kill what is left, settle what that leaves open."""
        self.monitor.expect_exits()
        await self.pool.drain(self._settings.shutdown_grace)
        await self.pool.close()
        await self._close_open_attempts()
        await self._spans.close()
        await self._close_sessions()

    async def _close_sessions(self) -> None:
        await self._control_session.close()
        await self._read_session.close()
        if self._webhook is not None:
            await self._webhook.close()

    async def _close_open_attempts(self) -> None:
        """Close the attempts of killed workers; the server takes a moment to see that their sessions are gone."""
        deadline = asyncio.get_running_loop().time() + _RECOVERY_LIMIT.total_seconds()
        while self.monitor.open_attempts():
            await self.recovery.run_once(Outcome.DRAINED)
            if not self.monitor.open_attempts() or asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(_RECOVERY_PAUSE.total_seconds())
