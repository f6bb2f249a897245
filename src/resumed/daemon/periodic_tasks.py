"""The work that repeats: sweep, dispatch, recovery, stop requests, announcement, self-test. One object a task.

`run_once()` does the work once and returns what it did. It outlives a failing database: the failure is reported, blocks
readiness, and the task runs again at its next turn. No timers here.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from resumed import timings
from resumed.daemon.clock_check import ClockCheck
from resumed.daemon.dispatch import DispatchTurn, WorkflowShare, dispatch_due
from resumed.daemon.readiness import Blocker
from resumed.daemon.recovery import Closer, close_orphan, suspect_thread
from resumed.daemon.stop_requests import StopRequests
from resumed.daemon.sweep import QuarantinedGroup, SweepReport, run_sweep
from resumed.daemon.sweep_memory import SweepMemory
from resumed.daemon.task_context import TaskContext, database_failure
from resumed.errors import DatabaseError
from resumed.judge.circuit_breaker import CircuitRecord, allowance, is_open
from resumed.model import Attempt, Outcome
from resumed.observability.redaction import ErrorReport
from resumed.operations.assess import build_sweep_context
from resumed.store import attempts, cases, schema, statistics, watermark, workflow_versions
from resumed.store.cases import ClaimRequest
from resumed.store.connection import PostgresError, Session
from resumed.store.lock_selftest import run_lock_selftest
from resumed.workers.pool import ISOLATION

_SLOWDOWN_WITHOUT_INDEX = 20
_ORPHANS_AT_ONCE = 200


@dataclass(slots=True)
class SweepTask:
    """Sweeps and counts. `unjudged` are the threads that the last sweep saw and could not judge.

    `swept_at` is when the last sweep ended, by the database's clock.
    """

    context: TaskContext
    clocks: ClockCheck
    unjudged: set[str] = field(default_factory=set)
    swept_at: datetime | None = None
    _not_before: float = 0.0
    _had_index: bool = True
    _memory: SweepMemory = field(default_factory=SweepMemory)

    async def run_once(self) -> SweepReport | None:
        """Sweep; return None where it is too early, another replica is sweeping, or the sweep failed."""
        context, began = self.context, asyncio.get_running_loop().time()
        if began < self._not_before:
            return None
        report: SweepReport | None = None
        async with context.surviving(Blocker.SWEEP, "sweep"), context.session() as session:
            self.unjudged.clear()
            report = await run_sweep(
                session,
                context.rules,
                on_unjudged=self._on_unjudged,
                memory=self._memory,
                on_quarantined=self._on_quarantined,
            )
            self.swept_at = await watermark.database_clock(session)
            self.clocks.compare_host(self.swept_at)
            took = asyncio.get_running_loop().time() - began
            has_index = await schema.has_index(session)
            context.events.index_looked_for(present=has_index)
            if has_index:
                newest = await statistics.newest_checkpoint(session, self.swept_at)
                self.clocks.compare_applications(self.swept_at, newest)
            elif self._had_index:
                context.events.index_missing()
            self._not_before = 0.0 if has_index else began + took * _SLOWDOWN_WITHOUT_INDEX
            self._had_index = has_index
            if report is not None:
                context.events.sweep_finished(report.rows, report.written, timedelta(seconds=took), report.lag)
        return report

    def _on_unjudged(self, thread_id: str, error: ErrorReport) -> None:
        self.unjudged.add(thread_id)
        self.context.events.thread_failed(thread_id, error)

    def _on_quarantined(self, group: QuarantinedGroup) -> None:
        self.context.events.cases_quarantined(group.workflow, group.threads, group.first, group.reason)


@dataclass(slots=True)
class DispatchTask:
    """Hands out due cases. `has_backlog`: more may be due than there was room for."""

    context: TaskContext
    sweep: SweepTask
    dry_run: bool = False
    has_backlog: bool = False
    _open_circuits: set[str] = field(default_factory=set)
    _was_active: bool = True

    async def run_once(self) -> int:
        """Hand out due cases while there is room; return how many."""
        context, handed_out = self.context, 0
        if self.dry_run or not context.readiness.allows_attempts or not context.control_session.trusts_free_locks:
            return handed_out
        async with context.surviving(Blocker.DISPATCH, "dispatch"), context.session() as session:
            turn = DispatchTurn(context.claimant, self.sweep.swept_at)
            is_active = bool(context.pool.inflight_threads()) or await self._is_any_due(session, turn)
            if is_active or self._was_active or self._open_circuits:  # once more after the last attempt has ended
                records = await self._circuit_records(session)
                handed_out = await dispatch_due(session, context.pool, self._shares(records), turn)
            self._was_active = is_active
        self.has_backlog = handed_out > 0 or context.pool.free_slots() == 0
        return handed_out

    async def _is_any_due(self, session: Session, turn: DispatchTurn) -> bool:
        """Return whether anything is due of the workflows that this replica has, for any replica."""
        known = self.context.monitor.workflows.registrations.values()
        wanted = [ClaimRequest(registration, 1, suspects) for registration in known for suspects in (False, True)]
        return await cases.is_any_due(session, wanted, turn.swept_at)

    async def _circuit_records(self, session: Session) -> dict[str, CircuitRecord]:
        """Read how the last attempts of each workflow ended, and report circuits that opened or closed."""
        records = await attempts.circuit_records(session, list(self.context.monitor.workflows.registrations))
        open_now = {name for name, record in records.items() if is_open(record.ended)}
        for name in sorted(open_now ^ self._open_circuits):
            self.context.events.circuit_changed(name, opened=name in open_now)
        self._open_circuits = open_now
        return records

    def _shares(self, records: dict[str, CircuitRecord]) -> list[WorkflowShare]:
        now, registrations = datetime.now(UTC), self.context.monitor.workflows.registrations
        probe_interval = timings.current().between_probes
        return [
            WorkflowShare(registration, allowance(records.get(name, CircuitRecord()), now, probe_interval))
            for name, registration in registrations.items()
        ]


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What a recovery did: attempts closed, threads made suspects, claims released, silent ends found."""

    closed: int = 0
    suspected: int = 0
    unclaimed: int = 0
    reported: int = 0


@dataclass(slots=True)
class RecoveryTask:
    """Settles what dead workers and dead replicas left open."""

    context: TaskContext
    _orphans_before: set[tuple[str, int]] = field(default_factory=set)

    async def run_once(self, outcome: Outcome = Outcome.CRASHED) -> RecoveryReport:
        """Close open attempts whose lock is free, and settle what dead workers had in hand.

        `outcome` is recorded for attempts of workers that were not ended by us.
        """
        context, report = self.context, RecoveryReport()
        async with context.surviving(Blocker.RECOVERY, "close"), context.session() as session:
            if context.control_session.trusts_free_locks:
                report = RecoveryReport(
                    closed=await self._close_orphans(session, outcome),
                    suspected=await self._mark_suspects(session),
                    unclaimed=await self._unclaim_unstarted(session),
                    reported=await self._report_silent_ends(session),
                )
        return report

    async def _close_orphans(self, session: Session, outcome: Outcome) -> int:
        context, count = self.context, 0
        found = await attempts.find_orphans(session, list(context.pool.inflight_threads()), _ORPHANS_AT_ONCE)
        closable = self._closable(found)
        if not closable:
            return count
        sweep_context = await build_sweep_context(session, context.rules)
        for orphan in closable:
            closer = Closer(
                context.claimant,
                context.monitor.abandoned.outcome_of(orphan) or outcome,
                ours=self._is_ours(orphan.worker),
                alone=orphan.worker == f"{context.claimant}-{ISOLATION}",
            )
            if closed := await close_orphan(session, sweep_context, orphan, closer):
                count += 1
                context.monitor.finish_attempt(closed.attempt)
                if closed.quarantine_reason is not None:
                    context.events.case_quarantined(orphan.thread_id, orphan.workflow, closed.quarantine_reason)
        return count

    def _closable(self, found: Sequence[Attempt]) -> list[Attempt]:
        """Return our own orphans, and others' that were there last time: their replica has had time to close them."""
        before, self._orphans_before = self._orphans_before, {(attempt.thread_id, attempt.attempt) for attempt in found}
        return [
            attempt
            for attempt in found
            if self._is_ours(attempt.worker) or (attempt.thread_id, attempt.attempt) in before
        ]

    def _is_ours(self, worker: str) -> bool:
        return worker.startswith(f"{self.context.claimant}-")

    async def _mark_suspects(self, session: Session) -> int:
        """Suspect what a worker had in hand without an attempt on record: loading its state may have killed it."""
        context, count = self.context, 0
        with context.monitor.abandoned.take_suspects() as suspects:
            untried = await cases.find_claimed(session, list(suspects), context.claimant) if suspects else []
            for thread in suspects.keys() - set(untried):
                del suspects[thread]
            if not untried:
                return count
            sweep_context = await build_sweep_context(session, context.rules)
            for thread in untried:
                registrations = context.monitor.workflows.registrations
                result = await suspect_thread(session, sweep_context, thread, registrations, alone=suspects[thread])
                if result is None:
                    continue
                count += 1
                del suspects[thread]
                if result.quarantine_reason is not None:
                    context.events.case_quarantined(thread, result.workflow or "", result.quarantine_reason)
        return count

    async def _unclaim_unstarted(self, session: Session) -> int:
        """Release the claims on threads that were handed out and not begun, so that others can claim them."""
        with self.context.monitor.abandoned.take_unstarted(self.context.pool.inflight_threads()) as threads:
            if threads:
                await cases.release_claims(session, sorted(threads), self.context.claimant)
            return len(threads)

    async def _report_silent_ends(self, session: Session) -> int:
        """Report attempts that one of ours closed without their end having been reported."""
        context, count = self.context, 0
        inflight = context.pool.inflight_threads()
        lost = [attempt.thread_id for attempt in context.monitor.open_attempts() if attempt.thread_id not in inflight]
        for thread in dict.fromkeys(lost):
            for attempt in await attempts.of_thread(session, thread):
                if attempt.finished_at is None or not context.monitor.is_open(attempt):
                    continue
                count += 1
                closer = attempt.closed_by or ""  # ourselves, where the commit was made and its answer was lost
                if closer == context.claimant or self._is_ours(closer):
                    context.monitor.finish_attempt(attempt)
                else:
                    context.monitor.forget_attempt(attempt)
        return count


@dataclass(slots=True)
class StopRequestTask:
    """Applies cancels, quarantines and pauses to attempts that run."""

    context: TaskContext
    requests: StopRequests

    async def run_once(self) -> int:
        """Apply what people asked for; return how many threads have to stop."""
        context, stopping = self.context, 0
        async with context.surviving(Blocker.STOP_REQUESTS, "dispatch"), context.session() as session:
            stopping += await self.requests.apply(session, list(context.monitor.workflows.registrations))
        return stopping


@dataclass(slots=True)
class AnnouncementTask:
    """Announces to all replicas what this one has."""

    context: TaskContext

    async def run_once(self) -> int:
        """Announce the versions of workflows that the workers have; return how many."""
        context, announced = self.context, 0
        async with context.surviving(Blocker.ANNOUNCEMENT, "dispatch"), context.session() as session:
            registrations = list(context.monitor.workflows.registrations.values())
            await workflow_versions.announce_versions(session, registrations)
            announced += len(registrations)
        return announced


@dataclass(slots=True)
class SelfTestTask:
    """Checks again what the start has checked."""

    context: TaskContext
    clocks: ClockCheck

    async def run_once(self) -> bool:
        """Return whether locks work, the schema fits and the clock could be read."""
        context = self.context
        try:
            await run_lock_selftest(context.target)
            async with context.session() as session:
                await schema.check(session)
                self.clocks.compare_host(await watermark.database_clock(session))
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            context.events.database_failed("self_test", error)
            context.readiness.block(Blocker.SELF_TEST, database_failure(error))
            return False
        context.readiness.unblock(Blocker.SELF_TEST)
        return True
