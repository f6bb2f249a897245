"""The work that comes round again: sweep, dispatch, closing, announcing, self-test. One attempt each, no timers here.

Every round survives the database: what fails is told and tried again at its next turn.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from resumed import timings
from resumed.daemon.control_session import ControlSession
from resumed.daemon.dispatch import DispatchTurn, WorkflowShare, dispatch_due
from resumed.daemon.readiness import Readiness
from resumed.daemon.recovery import Closer, close_orphan
from resumed.daemon.stop_requests import StopRequests
from resumed.daemon.sweep import SweepReport, run_sweep
from resumed.daemon.worker_deaths import blame_thread
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.errors import DatabaseError
from resumed.judge.circuit_breaker import CircuitRecord, allowance, is_open
from resumed.model import Attempt, Outcome
from resumed.operations.assess import SweepContext, SweepRules, build_sweep_context
from resumed.store import attempts, cases, schema, statistics, watermark, workflow_versions
from resumed.store.connection import PostgresError, Session, Target
from resumed.store.database_errors import explain, refuses_writes
from resumed.store.lock_selftest import run_lock_selftest
from resumed.workers.pool import ISOLATION, WorkerPool

CLOCK_LIMIT = timedelta(seconds=2)
_STRETCH = 20
_PATIENCE = timedelta(seconds=90)
_ORPHANS = 200
# What fails in these says nothing of whether attempts can be made.
_OF_LITTLE_WEIGHT = frozenset({"dispatch", "heed", "announce"})


@dataclass(slots=True)
class PeriodicTasks:
    """The rounds of one control process. `claimant` is the name under which it claims cases.

    `unjudged` are the threads that the last sweep saw and could not judge.
    """

    target: Target
    link: ControlSession
    pool: WorkerPool
    monitor: WorkerMonitor
    health: Readiness
    rules: SweepRules
    claimant: str
    heeding: StopRequests
    dry_run: bool = False
    backlog: bool = False
    unjudged: set[str] = field(default_factory=set)
    _not_before: float = field(default=0.0)
    _indexed: bool = field(default=True)
    _swept_at: datetime | None = field(default=None)
    _doubts_applications: bool = field(default=False)
    _circuits: set[str] = field(default_factory=set)
    _orphaned: set[tuple[str, int]] = field(default_factory=set)

    async def sweep(self) -> SweepReport | None:
        """Sweep once, close what dead holders left open, count; None where another replica was at it or it failed."""
        if asyncio.get_running_loop().time() < self._not_before:
            return None
        began = asyncio.get_running_loop().time()
        report: SweepReport | None = None
        async with self._surviving("sweep"), self._session() as session:
            self.unjudged.clear()
            report = await run_sweep(session, self.rules, on_trouble=self._troubled)
            self._swept_at = await watermark.database_clock(session)
            self.compare_clocks(self._swept_at)
            took = asyncio.get_running_loop().time() - began
            indexed = await schema.has_index(session)
            if indexed:
                self._compare_applications(self._swept_at, await statistics.newest_checkpoint(session, self._swept_at))
            self._not_before = 0.0 if indexed else began + took * _STRETCH
            if self._indexed and not indexed:
                self.monitor.events.index_missed()
            self._indexed = indexed
            if report is not None:
                cases = report.written
                self.monitor.events.sweep_finished(report.rows, cases, timedelta(seconds=took), report.lag)
            self.monitor.events.threads_counted(await statistics.count_cases(session))
        return report

    def _troubled(self, thread_id: str, report: Mapping[str, Any]) -> None:
        """Note a thread that could not be judged."""
        self.unjudged.add(thread_id)
        self.monitor.events.thread_failed(thread_id, report)

    async def close(self, outcome: Outcome = Outcome.CRASHED) -> None:
        """Close open attempts whose lock is free, and tell of those that a dead worker had closed without a word."""
        async with self._surviving("close"), self._session() as session:
            if not self.link.believes_locks:
                return
            sweep_context = await build_sweep_context(session, self.rules)
            for orphan in self._ripe(await attempts.find_orphans(session, self.pool.inflight(), _ORPHANS)):
                if closed := await close_orphan(session, sweep_context, orphan, self._closer(orphan, outcome)):
                    self.monitor.finished(closed, None)
            self.monitor.retired.clear()
            await self._blame(session, sweep_context)
            await self._give_back(session)
            for silent in await self._closed_in_silence(session):
                if silent.closed_by == silent.worker:
                    self.monitor.finished(silent, None)
                else:
                    self.monitor.forget(silent)

    async def _blame(self, session: Session, sweep_context: SweepContext) -> None:
        """Try alone what a worker died of, it may be, before an attempt began; what was alone is the culprit."""
        suspects = self.monitor.suspects
        untried = await cases.find_claimed(session, list(suspects), self.claimant) if suspects else []
        for thread in suspects.keys() - set(untried):
            del suspects[thread]
        for thread in untried:
            blamed = await blame_thread(
                session, sweep_context, thread, self.monitor.registrations, alone=suspects[thread]
            )
            if blamed is not None:
                del suspects[thread]
            if blamed is not None and blamed.reason is not None:
                self.monitor.events.case_quarantined(thread, blamed.workflow or "", blamed.reason)

    async def _give_back(self, session: Session) -> None:
        """Give back what was claimed and not begun, lest nobody takes it until the claim runs out."""
        dropped = self.monitor.dropped - set(self.pool.inflight()) - self.monitor.suspects.keys()
        if dropped:
            await cases.release_claims(session, sorted(dropped), self.claimant)
        self.monitor.dropped -= dropped

    def _closer(self, orphan: Attempt, outcome: Outcome) -> Closer:
        how = Outcome.DRAINED if orphan.worker in self.monitor.retired else outcome
        alone = orphan.worker == f"{self.claimant}-{ISOLATION}"
        return Closer(self.claimant, how, ours=orphan.worker.startswith(f"{self.claimant}-"), alone=alone)

    def _ripe(self, found: list[Attempt]) -> list[Attempt]:
        """Those that our own dead workers left, and others' that have had a round's time to stop by themselves."""
        seen = {(one.thread_id, one.attempt) for one in found}
        ripe = [
            one
            for one in found
            if one.worker.startswith(f"{self.claimant}-") or (one.thread_id, one.attempt) in self._orphaned
        ]
        self._orphaned = seen
        return ripe

    async def dispatch(self) -> int:
        """Hand out due cases while there is room; says how many were handed out."""
        handed = 0
        if self.dry_run or self.health.reasons.keys() - _OF_LITTLE_WEIGHT or not self.link.believes_locks:
            return handed
        async with self._surviving("dispatch"), self._session() as session:
            turn = DispatchTurn(self.claimant, self._swept_at)
            handed = await dispatch_due(session, self.pool, self._takers(await self._records(session)), turn)
        self.backlog = handed > 0 or self.pool.free() == 0
        return handed

    async def _records(self, session: Session) -> dict[str, CircuitRecord]:
        """Read how the workflows fare, and tell of a circuit that opened or closed."""
        records = await attempts.circuit_records(session, list(self.monitor.registrations))
        open_now = {name for name, record in records.items() if is_open(record.ended)}
        for name in sorted(open_now ^ self._circuits):
            self.monitor.events.circuit_changed(name, opened=name in open_now)
        self._circuits = open_now
        return records

    def _takers(self, records: dict[str, CircuitRecord]) -> list[WorkflowShare]:
        now, apart = datetime.now(UTC), timings.current().between_probes
        known = self.monitor.registrations.items()
        return [WorkflowShare(one, allowance(records.get(name, CircuitRecord()), now, apart)) for name, one in known]

    async def apply_stop_requests(self) -> None:
        """Do what people asked for since: stop what is not to run any more, and know what is paused."""
        async with self._surviving("dispatch", "heed"), self._session() as session:
            await self.heeding.apply_stop_requests(session, list(self.monitor.registrations))

    async def announce(self) -> None:
        """Renew the hello of this replica's workers."""
        async with self._surviving("dispatch", "announce"), self._session() as session:
            await workflow_versions.announce_versions(session, list(self.monitor.registrations.values()))

    async def self_test(self) -> None:
        """Prove again that locks lock, that the schema fits and that the clocks agree."""
        try:
            await run_lock_selftest(self.target)
            async with self._session() as session:
                await schema.check(session)
                self.compare_clocks(await watermark.database_clock(session))
            self.health.clear("self_test")
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            self.monitor.events.database_failed("self_test", error)
            self.health.doubt("self_test", _what_is_wrong(error))

    def compare_clocks(self, theirs: datetime) -> None:
        """Doubt this host's clock where it is too far from the database's: ids made behind a head are never read."""
        ahead = datetime.now(UTC) - theirs
        if abs(ahead) > CLOCK_LIMIT:
            if "clock" not in self.health.reasons:
                self.monitor.events.clock_doubted(ahead)
            self.health.doubt(
                "clock", f"this host's clock differs from the database's by {ahead.total_seconds():.0f} s"
            )
        else:
            self.health.clear("clock")

    def _compare_applications(self, now: datetime, newest: datetime | None) -> None:
        """Tell of an application whose clock is ahead: its threads wait until the time of their ids has come."""
        ahead = newest - now if newest is not None else timedelta(0)
        if ahead > CLOCK_LIMIT and not self._doubts_applications:
            self.monitor.events.application_clock_doubted(ahead)
        self._doubts_applications = ahead > CLOCK_LIMIT

    async def _closed_in_silence(self, session: Session) -> list[Attempt]:
        living = set(self.pool.inflight())
        lost = [attempt for (thread, _), attempt in self.monitor.open.items() if thread not in living]
        rows = [row for attempt in lost for row in await attempts.of_thread(session, attempt.thread_id)]
        return [row for row in rows if row.finished_at and (row.thread_id, row.attempt) in self.monitor.open]

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        async with asyncio.timeout(_PATIENCE.total_seconds()), self.link.session() as session:
            yield session
        self.health.clear("database")

    @asynccontextmanager
    async def _surviving(self, operation: str, key: str | None = None) -> AsyncIterator[None]:
        """Outlive what fails, and let it stand against readiness under a key of its own until it has been done.

        `operation` is what the metric counts it as; `key` is by default the same.
        """
        name = key or operation
        try:
            yield
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            self.monitor.events.database_failed(operation, error)
            self.health.doubt(name, _what_is_wrong(error))
        except Exception as error:  # noqa: BLE001 - an error of ours must not end the rounds, nor hide
            self.monitor.events.round_failed(operation, error)
            self.health.doubt(name, f"{name} failed: {type(error).__name__}")
        else:
            self.health.clear(name)


def _what_is_wrong(error: BaseException) -> str:
    """Say in one sentence what keeps the database from serving."""
    if refuses_writes(error):
        return "the database is read-only: it takes no writes of ours"
    if isinstance(error, PostgresError):
        return str(explain(error))
    if isinstance(error, TimeoutError):
        return f"the database did not answer within {_PATIENCE.total_seconds():.0f} s"
    return str(error) or f"the database failed us: {type(error).__name__}"
