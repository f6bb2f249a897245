"""Prunes threads because a person asks for it, with the workers of this process; a dry run takes back what it does."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from resumed.daemon.prune_rounds import AT_ONCE, MARK_WAIT, Pruner, PruneReport
from resumed.daemon.retention import log_report
from resumed.daemon.service import Service
from resumed.errors import DatabaseUnusableError, ResumedError
from resumed.judge.retention import PrunePolicy, grouped_policies, policy_of
from resumed.model import PruneStrategy, Registration
from resumed.operations.assess import SweepContext, build_sweep_context, with_own_registrations
from resumed.store import locks, retention, schema
from resumed.store.connection import Session, open_session
from resumed.store.retention import RETENTION_KEY, PrunePosition

_LOCK_PATIENCE = timedelta(seconds=60)
_LOCK_PAUSE = timedelta(milliseconds=300)
Ask = Callable[[list[PrunePolicy]], None]


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What a person asks for. `older_than` None: as long as each workflow keeps its threads; `workflow` None: all.

    `default_age` is how long the settings keep threads of a workflow that says nothing.
    """

    strategy: PruneStrategy
    older_than: timedelta | None = None
    workflow: str | None = None
    dry_run: bool = False
    default_age: timedelta | None = None


async def prune_threads(
    service: Service,
    request: PruneRequest,
    actor: str,
    ask: Ask,
    report: Callable[[PruneReport], None],
) -> list[PrunePolicy]:
    """Prune what `request` names; `ask` is called with its policies before anything is deleted, and raises to stop.

    Returns the policies. Raises ResumedError where nothing can be pruned, DatabaseUnusableError without the right to
    delete or the index.
    """

    def reported(one: PruneReport) -> None:
        if not request.dry_run:
            log_report(service.context.events, one)
        report(one)

    try:
        async with open_session(service.target, "resumed retention") as session:
            await schema.check(session)
            await _require_usable(session)
            await service.start_workers()
            own = {
                name: one
                for name, one in service.monitor.workflows.registrations.items()
                if request.workflow in (None, name)
            }
            policies = requested_policies(request, own)
            ask(policies)
            await _take_lock(session)
            context = await build_sweep_context(session, service.context.rules)
            context = with_own_registrations(context, own.values())
            pruner = Pruner(
                *(service.pool, service.monitor.replies, actor, reported),
                asked=True,
                dry_run=request.dry_run,
                at_once=AT_ONCE,
                limited=False,
            )
            await _prune(session, context, pruner, policies, own)
            return policies
    finally:
        await service.close()


def requested_policies(request: PruneRequest, own: Mapping[str, Registration]) -> list[PrunePolicy]:
    """Return what is asked for each workflow. Raises ResumedError where that is nothing.

    A workflow that keeps its newest checkpoints by its own registration is deleted only where it is named.
    """
    if not own:
        what = f"no worker here has the workflow {request.workflow!r}" if request.workflow else "there is no workflow"
        message = f"{what}: run this where its code is installed"
        raise ResumedError(message)
    found: list[PrunePolicy] = []
    for one in own.values():
        kept = one.retention is PruneStrategy.KEEP_LATEST and request.strategy is PruneStrategy.DELETE
        policy = policy_of(one, request.older_than or request.default_age, request.strategy)
        if policy is not None and not (kept and request.workflow is None):
            retain = request.older_than or policy.retain
            found.append(replace(policy, strategy=request.strategy, retain=retain))
    if not found:
        message = "no workflow says how long its threads are kept: say it with --older-than, such as --older-than 30d"
        raise ResumedError(message)
    return found


async def _take_lock(session: Session) -> None:
    deadline = asyncio.get_running_loop().time() + _LOCK_PATIENCE.total_seconds()
    while not await locks.try_key(session, RETENTION_KEY):
        if asyncio.get_running_loop().time() > deadline:
            message = "another replica or command has been pruning for a minute: try again"
            raise ResumedError(message)
        await asyncio.sleep(_LOCK_PAUSE.total_seconds())


async def _require_usable(session: Session) -> None:
    if missing := await retention.missing_rights(session):
        message = (
            f"the role {session.info.user} lacks DELETE on {', '.join(missing)}: apply deploy/sql/roles.sql with "
            "-v prune=yes, or connect as the tables' owner"
        )
        raise DatabaseUnusableError(message)
    if not await schema.has_index(session):
        message = (
            "there is no index on checkpoints (checkpoint_id), by which old threads are found: run `resumed migrate`"
        )
        raise DatabaseUnusableError(message)


async def _prune(
    session: Session,
    context: SweepContext,
    pruner: Pruner,
    policies: list[PrunePolicy],
    own: Mapping[str, Registration],
) -> None:
    """Prune group by group, from the oldest thread to the cut; then what was marked long enough ago."""
    for group in grouped_policies(policies):
        position, ended = PrunePosition(), False
        while not ended:
            pruner.renew()
            before = position
            position, ended = await pruner.prune_group(session, context, group, own, position)
            if position == before and not ended:
                message = "no worker prunes any more: the log above says what became of them"
                raise ResumedError(message)
    if not pruner.dry_run and any(one.strategy is PruneStrategy.DELETE for one in policies):
        pruner.renew()
        await pruner.delete_marked(session, context, {one.workflow: one for one in policies})


__all__ = ["MARK_WAIT", "PruneRequest", "prune_threads", "requested_policies"]
