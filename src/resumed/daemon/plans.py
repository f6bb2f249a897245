"""Owns what the settings mean for workers and sweeps: the plan of the one, the rules of the other."""

from dataclasses import replace

from resumed.daemon.crew import Crew
from resumed.daemon.sweep import Rules
from resumed.engine import memory
from resumed.engine.pool import Plan, Pool, plan_message
from resumed.engine.wire import numbers_to_wire
from resumed.errors import SettingsError
from resumed.events import Events
from resumed.model import Numbers
from resumed.settings import Settings


def defaults_of(settings: Settings) -> Numbers:
    """The policy of a workflow that names no numbers of its own."""
    return Numbers(
        min_age=settings.min_age,
        max_age=settings.max_age,
        max_attempts=settings.max_attempts,
        max_total_attempts=settings.max_total_attempts,
        retry_base=settings.retry_base,
        retry_cap=settings.retry_cap,
        timeout=settings.attempt_timeout,
        concurrency=settings.concurrency,
    )


def rules_of(settings: Settings) -> Rules:
    """What this replica brings to a look at a thread."""
    return Rules(defaults_of(settings), settings.default_workflow, settings.clock_tolerance)


async def registered(settings: Settings, events: Events) -> Crew:
    """Have a worker say what workflows it has; needs no database. Raises WorkersUnavailableError."""
    crew = Crew(events, freed=lambda: None, bereaved=lambda: None)
    pool = Pool(replace(plan_of(settings, ""), processes=1), crew.listener())
    try:
        pool.start()
        await pool.hello()
    finally:
        crew.stopping = True
        await pool.close()
    return crew


def plan_of(settings: Settings, dsn: str) -> Plan:
    """What the workers are told at their start; raises SettingsError where there is no such file of graphs."""
    if settings.graphs is not None and not settings.graphs.is_file():
        sentence = f"there is no file {str(settings.graphs)!r}: correct --graphs or RESUMED_GRAPHS"
        raise SettingsError(sentence)
    extra = {
        "workflows": settings.workflows,
        "graphs": str(settings.graphs.resolve()) if settings.graphs is not None else None,
        "concurrency": settings.concurrency,
        "recursion_limit": settings.recursion_limit,
        "defaults": numbers_to_wire(defaults_of(settings)),
    }
    environment = {"LANGGRAPH_STRICT_MSGPACK": "true"} if settings.strict_msgpack else {}
    message = plan_message(dsn, settings.checkpoint_schema, extra)
    limit = settings.worker_memory or memory.share(settings.processes + 1)
    return Plan(settings.processes, settings.concurrency, message, environment, limit)
