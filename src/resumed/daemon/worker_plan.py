"""Owns what the settings mean for workers and sweeps: the plan of the one, the rules of the other."""

from dataclasses import replace

from resumed.config.settings import Settings
from resumed.daemon.retention import RetentionRules
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.errors import SettingsError
from resumed.model import PolicyLimits, PruneStrategy
from resumed.observability.events import Events
from resumed.operations.assess import SweepRules
from resumed.operations.retention import History
from resumed.workers import memory
from resumed.workers.pool import WorkerPlan, WorkerPool, plan_message
from resumed.workers.protocol import numbers_to_wire


def default_limits(settings: Settings) -> PolicyLimits:
    """The policy of a workflow that names no numbers of its own."""
    return PolicyLimits(
        min_age=settings.min_age,
        max_age=settings.max_age,
        max_attempts=settings.max_attempts,
        max_total_attempts=settings.max_total_attempts,
        retry_base=settings.retry_base,
        retry_cap=settings.retry_cap,
        timeout=settings.attempt_timeout,
        concurrency=settings.concurrency,
    )


def sweep_rules(settings: Settings) -> SweepRules:
    """What this replica brings to a look at a thread."""
    return SweepRules(default_limits(settings), settings.default_workflow, settings.clock_tolerance)


def retention_rules(settings: Settings) -> RetentionRules:
    """What the settings say of retention."""
    history = History(settings.history, settings.audit_history)
    return RetentionRules(history, settings.prune_older_than, PruneStrategy(settings.prune_strategy))


async def registered_workflows(settings: Settings, events: Events) -> WorkerMonitor:
    """Have a worker say what workflows it has; needs no database. Raises WorkersUnavailableError."""
    monitor = WorkerMonitor(events, freed=lambda: None, worker_exited=lambda: None)
    pool = WorkerPool(replace(worker_plan(settings, ""), processes=1), monitor.listener())
    try:
        pool.start()
        await pool.hello()
    finally:
        monitor.stopping = True
        await pool.close()
    return monitor


def worker_plan(settings: Settings, dsn: str) -> WorkerPlan:
    """What the workers are told at their start; raises SettingsError where there is no such file of graphs."""
    if settings.graphs is not None and not settings.graphs.is_file():
        sentence = f"there is no file {str(settings.graphs)!r}: correct --graphs or RESUMED_GRAPHS"
        raise SettingsError(sentence)
    extra = {
        "workflows": settings.workflows,
        "graphs": str(settings.graphs.resolve()) if settings.graphs is not None else None,
        "concurrency": settings.concurrency,
        "recursion_limit": settings.recursion_limit,
        "defaults": numbers_to_wire(default_limits(settings)),
    }
    environment = {"LANGGRAPH_STRICT_MSGPACK": "true"} if settings.strict_msgpack else {}
    message = plan_message(dsn, settings.checkpoint_schema, extra)
    limit = settings.worker_memory or memory.share(settings.processes + 1)
    return WorkerPlan(settings.processes, settings.concurrency, message, environment, limit)
