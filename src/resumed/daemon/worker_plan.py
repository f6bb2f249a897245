"""Owns what the settings mean for workers and for sweeps."""

from dataclasses import replace

from resumed import timings
from resumed.config.settings import Settings
from resumed.daemon.available_workflows import AvailableWorkflows
from resumed.daemon.retention import RetentionRules
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.errors import SettingsError
from resumed.model import PolicyLimits, PruneStrategy
from resumed.observability.events import Events
from resumed.operations.assess import SweepRules
from resumed.operations.retention import History
from resumed.workers import memory
from resumed.workers.pool import WorkerPlan, WorkerPool
from resumed.workers.protocol import WorkerSettings


def default_limits(settings: Settings) -> PolicyLimits:
    """Return the policy of a workflow that sets no limits of its own."""
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
    """Return what this replica brings to the assessment of a thread."""
    return SweepRules(default_limits(settings), settings.default_workflow, settings.clock_tolerance)


def retention_rules(settings: Settings) -> RetentionRules:
    """Return what the settings say of retention."""
    history = History(settings.history, settings.audit_history)
    return RetentionRules(history, settings.prune_older_than, PruneStrategy(settings.prune_strategy))


async def registered_workflows(settings: Settings, events: Events) -> AvailableWorkflows:
    """Start a worker and return what it reports to have; needs no database. Raises WorkersUnavailableError."""
    monitor = WorkerMonitor(events, on_slot_free=lambda: None, on_worker_exit=lambda: None)
    pool = WorkerPool(replace(worker_plan(settings, ""), processes=1), monitor.listener())
    try:
        pool.start()
        await pool.wait_until_registered()
    finally:
        monitor.expect_exits()
        await pool.close()
    return monitor.workflows


def worker_plan(settings: Settings, dsn: str) -> WorkerPlan:
    """Return how the workers are started; raises SettingsError where the file of graphs does not exist."""
    if settings.graphs is not None and not settings.graphs.is_file():
        sentence = f"there is no file {str(settings.graphs)!r}: correct --graphs or RESUMED_GRAPHS"
        raise SettingsError(sentence)
    worker_settings = WorkerSettings(
        dsn=dsn,
        schema=settings.checkpoint_schema,
        graphs=str(settings.graphs.resolve()) if settings.graphs is not None else None,
        concurrency=settings.concurrency,
        recursion_limit=settings.recursion_limit,
        defaults=default_limits(settings),
        timings=timings.current(),
        nests_traces=settings.trace_nest,
        sessions=settings.sessions,
    )
    workflows = tuple(settings.workflows) if settings.workflows is not None else None
    environment = {"LANGGRAPH_STRICT_MSGPACK": "true"} if settings.strict_msgpack else {}
    limit = settings.worker_memory or memory.worker_share(settings.processes + 1)
    return WorkerPlan(settings.processes, worker_settings, workflows, environment, limit)
