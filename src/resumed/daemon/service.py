"""The composition root of the control process: what is made of what, what runs when, how it starts and stops.

It decides nothing about threads. No user code runs in this process.
"""

import asyncio
import os
import socket
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from resumed.config.settings import Settings
from resumed.daemon.control_session import ControlSession
from resumed.daemon.periodic_tasks import PeriodicTasks
from resumed.daemon.readiness import Readiness
from resumed.daemon.retention import RetentionTask
from resumed.daemon.scheduler import PeriodicTask, running_scheduler
from resumed.daemon.stop_requests import StopRequests
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.daemon.worker_plan import retention_rules, sweep_rules, worker_plan
from resumed.errors import DatabaseUnreachableError, NotReadyError
from resumed.model import Attempt, Outcome
from resumed.observability.events import Events
from resumed.store import schema, watermark
from resumed.store.connection import Target
from resumed.store.lock_selftest import run_lock_selftest
from resumed.workers.pool import WorkerPool

_ANNOUNCE_EVERY = timedelta(seconds=20)
_SELF_TEST_EVERY = timedelta(seconds=60)
_RETENTION_EVERY = timedelta(seconds=10)
_RETRY_CONNECT = timedelta(seconds=1)
_CLOSE_PATIENCE = timedelta(seconds=1)
_CLOSE_PAUSE = timedelta(milliseconds=50)
_SWEEP_PATIENCE = timedelta(seconds=60)
_NOT_OF_THE_DATABASE = frozenset({"workers", "clock"})
_ROUND_PAUSE = timedelta(milliseconds=20)


class Service:
    """The daemon of one replica."""

    def __init__(self, settings: Settings, events: Events) -> None:
        """Put the parts together; nothing is opened or started yet."""
        self.settings = settings
        self.events = events
        self.health = Readiness(lambda ready, reason: events.readiness_changed(ready=ready, reason=reason))
        self.health.reasons |= {"database": "not connected yet", "workers": "no worker has said hello yet"}
        self.target = Target(settings.dsn, settings.checkpoint_schema)
        self.link = ControlSession(self.target, settings.reconnect_grace)
        self._wanted = asyncio.Event()
        self._bereaved = asyncio.Event()
        self.monitor = WorkerMonitor(events, self._freed, self._bereaved.set)
        self.pool = WorkerPool(worker_plan(settings, settings.dsn), self.monitor.listener())
        claimant = f"{socket.gethostname()}-{os.getpid()}"
        heeding = StopRequests(self.pool, events, settings.shutdown_grace)
        parts = (self.target, self.link, self.pool, self.monitor, self.health)
        self.retention = RetentionTask(
            *(self.target, self.pool, self.monitor, self.health, sweep_rules(settings)),
            retention_rules(settings),
            dry_run=settings.dry_run,
        )
        self.rounds = PeriodicTasks(*parts, sweep_rules(settings), claimant, heeding, dry_run=settings.dry_run)

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
        """Sweep once and see its attempts to their end; `wait` goes on until nothing is due now."""
        self.monitor.keeps_endings = True
        try:
            await self._open()
            await self.ready_workers()
            await self.rounds.announce()
            self._require_ready()
            async with self.heeding():
                while await self._one_round() and wait:
                    continue
            return self.monitor.endings
        finally:
            await self._end()

    def heeding(self) -> AbstractAsyncContextManager[None]:
        """Heed what people ask for while attempts are made without a daemon's rounds."""
        return running_scheduler(
            [PeriodicTask(self.rounds.apply_stop_requests, self.settings.poll_interval, self.settings.poll_interval)]
        )

    async def ready_workers(self) -> None:
        """Start the workers and wait for their hello; raises WorkersUnavailableError."""
        self.pool.start()
        await self.pool.hello()
        self.health.clear("workers")

    async def close(self) -> None:
        """Kill the workers and close the session."""
        self.monitor.stopping = True
        await self.pool.close()
        await self.link.close()

    async def _work(self) -> None:
        await self._wait_for_database()
        self.pool.start()
        await self.pool.greeted.wait()
        self.health.clear("workers")
        await self.rounds.announce()
        async with running_scheduler(self._rounds()):
            await asyncio.gather(self._keep_dispatching(), self._keep_closing())

    def _rounds(self) -> list[PeriodicTask]:
        return [
            PeriodicTask(self._pass, self.settings.poll_interval, timedelta(0)),
            PeriodicTask(self.rounds.announce, _ANNOUNCE_EVERY, _ANNOUNCE_EVERY),
            PeriodicTask(self.rounds.self_test, _SELF_TEST_EVERY, _SELF_TEST_EVERY),
            PeriodicTask(self.retention.run_once, _RETENTION_EVERY, _RETENTION_EVERY),
        ]

    async def _pass(self) -> None:
        self.pool.tend()
        counts = self.pool.counts()
        self.events.workers_counted(counts)
        if counts["ready"]:
            self.health.clear("workers")
        else:
            self.health.doubt("workers", "no worker is ready")
        if "announce" in self.health.reasons:
            await self.rounds.announce()
        await self.rounds.apply_stop_requests()
        await self.rounds.sweep()
        await self.rounds.close()
        self._wanted.set()

    async def _keep_dispatching(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.rounds.dispatch()

    async def _keep_closing(self) -> None:
        """A dead worker's attempts are closed as soon as its sessions are gone, not at the next sweep."""
        while True:
            await self._bereaved.wait()
            self._bereaved.clear()
            await self.rounds.close()
            self._wanted.set()

    def _freed(self) -> None:
        if self.rounds.backlog:
            self._wanted.set()

    async def _one_round(self) -> bool:
        """Sweep, and see what is due now to its end; says whether any attempt was made."""
        tried = len(self.monitor.endings)
        await self._sweep_once()
        await self.rounds.close()
        pending = True
        while pending:
            pending = self.pool.starts_isolation()  # asked first: what it waits for may end while we hand out
            pending = await self.rounds.dispatch() > 0 or bool(self.pool.inflight()) or pending
            pending = pending or self.pool.starts_isolation()
            await asyncio.sleep(_ROUND_PAUSE.total_seconds())
        await self.rounds.close()
        self._require_ready()
        return len(self.monitor.endings) > tried

    async def _sweep_once(self) -> None:
        """Sweep, after another replica where one is sweeping. Raises DatabaseError where no sweep could be made."""
        deadline = asyncio.get_running_loop().time() + _SWEEP_PATIENCE.total_seconds()
        while await self.rounds.sweep() is None:
            self._require_ready()
            if asyncio.get_running_loop().time() > deadline:
                message = "another replica has been sweeping for a minute: see whether it hangs, and try again"
                raise DatabaseUnreachableError(message)
            await asyncio.sleep(_RETRY_CONNECT.total_seconds())
        self._require_ready()

    def _require_ready(self) -> None:
        """Make sure that nothing failed: what was not looked at must not be taken for what is not there."""
        if not self.health.ready:
            reasons = "; ".join(dict.fromkeys(self.health.reasons.values()))
            kind = NotReadyError if self.health.reasons.keys() <= _NOT_OF_THE_DATABASE else DatabaseUnreachableError
            raise kind(reasons)

    async def _wait_for_database(self) -> None:
        while True:
            try:
                return await self._open()
            except DatabaseUnreachableError as error:
                self.events.database_failed("self_test", error)
                self.health.doubt("database", str(error))
            await asyncio.sleep(_RETRY_CONNECT.total_seconds())

    async def _open(self) -> None:
        """Make sure that the database can be used. Raises DatabaseError."""
        async with self.link.session() as session:
            await schema.check(session)
            self.rounds.compare_clocks(await watermark.database_clock(session))
        await run_lock_selftest(self.target)
        self.health.clear("database")
        while not self.link.believes_locks:
            await asyncio.sleep(_ROUND_PAUSE.total_seconds())

    async def _shut_down(self, working: asyncio.Task[None]) -> None:
        self.events.shutdown_started(self.settings.shutdown_grace)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await self._end()
        self.events.shutdown_finished()

    async def _end(self) -> None:
        """Drain what runs, kill what is left, close what it left open."""
        self.monitor.stopping = True
        await self.pool.drain(self.settings.shutdown_grace)
        await self.pool.close()
        await self._close_what_is_open()
        await self.link.close()

    async def _close_what_is_open(self) -> None:
        """Close what the killed left; the server takes a moment to see that their sessions are gone."""
        deadline = asyncio.get_running_loop().time() + _CLOSE_PATIENCE.total_seconds()
        while self.monitor.open:
            await self.rounds.close(Outcome.DRAINED)
            if not self.monitor.open or asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(_CLOSE_PAUSE.total_seconds())
