"""The daemon's retention, a round at a time: what is over of our own tables, then threads that a policy lets go.

One replica or command does it at a time, under an advisory lock on a session of its own: no sweep waits for it, and its
end frees the lock. Nothing is deleted while the daemon is not ready; what fails is logged and tried at the next round.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from resumed.daemon.prune_rounds import Pruner, PruneReport, is_cycle_over
from resumed.daemon.task_context import TaskContext
from resumed.errors import DatabaseError
from resumed.judge.retention import PrunePolicy, grouped_policies, policy_of
from resumed.model import PruneStrategy, Registration
from resumed.observability.events import Events
from resumed.operations.assess import SweepContext, build_sweep_context, with_own_registrations
from resumed.operations.retention import History, forget_history
from resumed.store import locks, retention, schema
from resumed.store.connection import PostgresError, Session, open_session
from resumed.store.database_errors import ErrorKind, kind_of
from resumed.store.retention import RETENTION_KEY, PrunePosition

_RACED_ROWS = 100


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """What the settings say: how long our own rows are kept, and what becomes of threads whose workflow says nothing.

    Durations; `older_than` None: such threads are kept. `strategy` counts only where `older_than` is set.
    """

    history: History
    older_than: timedelta | None
    strategy: PruneStrategy


@dataclass(slots=True)
class RetentionTask:
    """Makes the rounds of retention of one control process, none for `rest` after one that left nothing to do."""

    context: TaskContext
    rules: RetentionRules
    dry_run: bool = False
    rest: timedelta = timedelta(0)
    _pruner: Pruner = field(init=False)
    _denied: bool = False
    _refused: bool = False
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        """Prepare to prune on behalf of this host's daemon."""
        pool, replies = self.context.pool, self.context.monitor.replies
        self._pruner = Pruner(pool, replies, f"resumed@{socket.gethostname()}", self._report, self._may_go_on)

    async def run_once(self) -> None:
        """Make one round, unless another replica is making one or the daemon is not ready."""
        now = asyncio.get_running_loop().time()
        if self.dry_run or now < self._not_before or not self._may_go_on():
            return
        events = self.context.events
        try:
            async with open_session(self.context.target, "resumed retention") as session:
                if await locks.try_key(session, RETENTION_KEY) and not await self._run_round(session):
                    self._not_before = now + self.rest.total_seconds()
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            refused = isinstance(error, PostgresError) and kind_of(error) is ErrorKind.REFUSED
            if not (refused and self._refused):  # a role that lacks a right is reported once
                events.retention_failed(error)
            self._refused = refused
        except Exception as error:  # noqa: BLE001 - an error of ours must not end the rounds, nor hide
            events.round_failed("retention", error)

    def _may_go_on(self) -> bool:
        return self.context.readiness.is_ready and not self.context.pool.stopping

    async def _run_round(self, session: Session) -> bool:
        """Make one round; return whether the next one may have anything to do."""
        if gone := await forget_history(session, self.rules.history):
            self.context.events.history_forgotten(gone)
        raced = await retention.raced_threads(session, _RACED_ROWS)
        for thread_id, workflow in raced.items():
            self.context.events.prune_raced(thread_id, workflow)
        if raced:
            await retention.forget_marks(session, list(raced))
        own = dict(self.context.monitor.workflows.registrations)
        policies = {name: policy_of(one, self.rules.older_than, self.rules.strategy) for name, one in own.items()}
        if own and await self._may_prune(session, policies):
            await self._prune(session, own, policies)
        return bool(gone or raced or any(policies.values()))

    async def _may_prune(self, session: Session, policies: Mapping[str, PrunePolicy | None]) -> bool:
        """Return whether threads can be pruned: with the index, and the right to delete where a policy asks for it."""
        missing = await retention.missing_rights(session)
        if missing and not self._denied and any(policies.values()):
            self.context.events.retention_denied(missing)
        self._denied = bool(missing)
        return not missing and await schema.has_index(session)

    async def _prune(
        self, session: Session, own: Mapping[str, Registration], policies: Mapping[str, PrunePolicy | None]
    ) -> None:
        context = await build_sweep_context(session, self.context.rules)
        context = with_own_registrations(context, own.values())
        self._pruner.renew()
        await self._pruner.delete_marked(session, context, policies)
        for group in grouped_policies(one for one in policies.values() if one is not None):
            position = await _position(session, context, group.key)
            position, _ = await self._pruner.prune_group(session, context, group, own, position)
            if position.checkpoint_id or position.thread_id:
                await retention.move_position(session, group.key, position)

    def _report(self, report: PruneReport) -> None:
        log_report(self.context.events, report)


async def _position(session: Session, context: SweepContext, policies: str) -> PrunePosition:
    """Read how far the look under these policies has come; a day after a cycle's begin the next one begins."""
    position = await retention.prune_position(session, policies)
    if position.cycle_at is not None and not is_cycle_over(position, context):
        return position
    await retention.move_position(session, policies, PrunePosition())
    return PrunePosition()


def log_report(events: Events, report: PruneReport) -> None:
    """Log and count what became of a batch."""
    if report.done:
        events.threads_pruned(report.workflow, report.strategy, report.counts(), report.rows, report.bytes)
    for refusal, threads in report.refusals().items():
        errors = {one.error_type for one in report.results if one.refusal is refusal and one.error_type}
        events.prune_refused(report.workflow, refusal, threads, sorted(errors))
    for one in report.results:
        if one.raced:
            events.prune_raced(one.thread_id, report.workflow)
