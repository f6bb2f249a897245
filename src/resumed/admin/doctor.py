"""Checks every precondition on its own, and says what to do where one is not met. It changes nothing."""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from resumed import durations
from resumed.config.settings import Settings
from resumed.daemon.available_workflows import AvailableWorkflows
from resumed.daemon.worker_plan import registered_workflows, retention_rules, sweep_rules
from resumed.errors import DatabaseError, ResumedError
from resumed.judge.checkpoint_id import CLOCK_LIMIT
from resumed.judge.retention import policy_of
from resumed.observability.events import Events
from resumed.operations.assess import build_sweep_context, with_own_registrations
from resumed.operations.step_durations import LongestStep, longest_steps
from resumed.store import pauses, retention, schema, statistics, watermark, webhook
from resumed.store.connection import PostgresError, Session, Target, open_session
from resumed.store.database_errors import ErrorKind, explain, kind_of
from resumed.store.lock_selftest import run_lock_selftest

_CONTROL_SESSIONS = 7


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it unless it is ok."""

    check: str
    level: Level
    finding: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """What every check uses."""

    session: Session
    settings: Settings
    workflows: AvailableWorkflows


async def run_checks(settings: Settings, events: Events) -> list[Finding]:
    """Run every check; without a database, those that need none."""
    target = Target(settings.dsn, settings.checkpoint_schema)
    found: list[Finding] = []
    workflows = await _workflows(settings, events, found)
    try:
        async with open_session(target, "resumed doctor") as session:
            context = DoctorContext(session, settings, workflows)
            for check in _CHECKS:
                found += await _run_check(check, context)
            found.append(await _locks(target))
    except DatabaseError as error:
        found.append(_failed_check("database", error))
    return found


async def _workflows(settings: Settings, events: Events, found: list[Finding]) -> AvailableWorkflows:
    try:
        workflows = await registered_workflows(settings, events)
    except ResumedError as error:
        remedy = "correct the import that the log names, then run this again"
        found.append(Finding("workflows", Level.ERROR, str(error), remedy))
        return AvailableWorkflows(events)
    for name, reason in sorted(workflows.unavailable.items()):
        remedy = f"correct the entry {name} or install what it imports; until then its threads are not resumed"
        found.append(Finding("workflows", Level.ERROR, f"{name}: {reason}", remedy))
    for name, registration in sorted(workflows.registrations.items()):
        version = registration.version
        said = f"version {version}" if version else "it declares no version, so it accepts every thread of its name"
        found.append(Finding("workflows", Level.OK, f"{name}: {said}"))
    if not workflows.registrations and not workflows.unavailable:
        remedy = "declare them under the entry-point group resumed.workflows, or name a langgraph.json with --graphs"
        found.append(Finding("workflows", Level.WARNING, "no workflows are registered", remedy))
    return workflows


async def _run_check(
    check: Callable[[DoctorContext], Awaitable[list[Finding]]], context: DoctorContext
) -> list[Finding]:
    try:
        return await check(context)
    except (DatabaseError, PostgresError) as error:
        name = check.__name__.removeprefix("_").replace("_", " ")
        if isinstance(error, PostgresError) and kind_of(error) is ErrorKind.MISSING:
            return [
                Finding(
                    name,
                    Level.WARNING,
                    "not checked: no schema resumed yet",
                    "run `resumed migrate`, then this again",
                )
            ]
        return [_failed_check(name, error)]


def _failed_check(name: str, error: DatabaseError | PostgresError) -> Finding:
    """Return what is wrong, and as the remedy the last part of that sentence, which says what to do."""
    sentence = str(explain(error) if isinstance(error, PostgresError) else error)
    separator = "; " if "; " in sentence else ": "
    return Finding(name, Level.ERROR, sentence, sentence.rpartition(separator)[2])


async def _database(context: DoctorContext) -> list[Finding]:
    server = await statistics.server(context.session)
    if server.standby:
        return [
            Finding(
                "database",
                Level.ERROR,
                "the server is a standby (in recovery)",
                "set RESUMED_DATABASE_URL to the primary's address",
            )
        ]
    if server.read_only:
        remedy = "set default_transaction_read_only to off for this role or database"
        return [Finding("database", Level.ERROR, "transactions are read-only by default", remedy)]
    started = datetime.now(UTC) - server.uptime
    said = f"PostgreSQL {server.version}, up since {started:%Y-%m-%d %H:%M:%S} UTC"
    return [Finding("database", Level.OK, said), *_encoding(server.encoding)]


def _encoding(encoding: str) -> list[Finding]:
    """Warn about an encoding that cannot store every text."""
    if encoding == "UTF8":
        return []
    said = f"its encoding is {encoding}"
    if encoding == "SQL_ASCII":
        said += ", which checks no text: a thread whose id is not UTF-8 is not resumed"
    else:
        said += ": saving a text that it cannot store fails, in the application too"
    return [Finding("database", Level.WARNING, said, "move LangGraph's tables to a database with the encoding UTF8")]


async def _schema(context: DoctorContext) -> list[Finding]:
    await schema.check_fit(context.session)
    return [Finding("schema", Level.OK, f"version {schema.SCHEMA_VERSION}; LangGraph's tables are present")]


async def _row_security(context: DoctorContext) -> list[Finding]:
    """Report nothing where every row is visible, and an error of its own otherwise."""
    await schema.require_visible(context.session)
    return []


async def _pauses(context: DoctorContext) -> list[Finding]:
    current = await pauses.current_pauses(context.session)
    if not current:
        return [Finding("pauses", Level.OK, "nothing is paused")]
    found = []
    for pause in current:
        command = shlex.join(["resumed", "unpause", *filter(None, [pause.workflow])])
        remedy = f"run `{command}` when its reason is gone"
        found.append(Finding("pauses", Level.WARNING, f"{pause}; its threads are not resumed", remedy))
    return found


async def _index(context: DoctorContext) -> list[Finding]:
    if await schema.has_index(context.session):
        return [Finding("index", Level.OK, "checkpoints (checkpoint_id)")]
    said = "checkpoints (checkpoint_id) has none: every sweep scans the whole table, so sweeps run 20 times less often"
    return [Finding("index", Level.WARNING, said, "run `resumed migrate`")]


async def _clock(context: DoctorContext) -> list[Finding]:
    ahead = datetime.now(UTC) - await watermark.database_clock(context.session)
    said = f"this host is {abs(ahead).total_seconds():.3f} s {'ahead of' if ahead.days >= 0 else 'behind'} the database"
    if abs(ahead) > CLOCK_LIMIT:
        return [
            Finding(
                "clock",
                Level.ERROR,
                said,
                "synchronise the clocks, with NTP for example: beyond 2 s no attempt is made",
            )
        ]
    return [Finding("clock", Level.OK, said), *await _applications_clock(context.session)]


async def _applications_clock(session: Session) -> list[Finding]:
    """Warn about applications whose clock is ahead: threads with ids of the future wait until that time has come."""
    now = await watermark.database_clock(session)
    newest = await statistics.newest_checkpoint(session, now) if await schema.has_index(session) else None
    if newest is None or newest - now <= CLOCK_LIMIT:
        return []
    said = f"the newest checkpoint is {(newest - now).total_seconds():.0f} s in the future: its thread waits that long"
    return [Finding("clock", Level.WARNING, said, "synchronise the clock of the host that runs the application")]


async def _connections(context: DoctorContext) -> list[Finding]:
    room = await statistics.connections(context.session)
    settings = context.settings
    for_attempts = min(settings.concurrency, settings.sessions or settings.concurrency)
    needed = settings.processes * for_attempts + _CONTROL_SESSIONS + (settings.webhook_url is not None)
    said = f"{room.used} of {room.size} connections used; this replica may need {needed}"
    if room.size - room.used < needed:
        remedy = "lower RESUMED_CONCURRENCY or RESUMED_PROCESSES, set RESUMED_SESSIONS, or raise max_connections"
        return [Finding("connections", Level.WARNING, said, remedy)]
    return [Finding("connections", Level.OK, said)]


async def _lock_table(context: DoctorContext) -> list[Finding]:
    room = await statistics.lock_table(context.session)
    said = f"{room.used} of about {room.size} locks used"
    if room.used * 2 > room.size:
        remedy = "raise max_locks_per_transaction and restart the server: a full lock table stops all of it"
        return [Finding("lock table", Level.WARNING, said, remedy)]
    return [Finding("lock table", Level.OK, said)]


async def _min_age(context: DoctorContext) -> list[Finding]:
    """Compare each workflow's longest step with the silence after which its threads count as dead."""
    sweep_context = await build_sweep_context(context.session, sweep_rules(context.settings))
    sweep_context = with_own_registrations(sweep_context, context.workflows.registrations.values())
    return [_compare_step(step) for step in await longest_steps(context.session, sweep_context)]


async def _retention(context: DoctorContext) -> list[Finding]:
    """Report that threads are to be pruned and the role may not delete; nothing where no policy asks for it."""
    rules, known = retention_rules(context.settings), context.workflows.registrations.values()
    asking = [one.name for one in known if policy_of(one, rules.older_than, rules.strategy) is not None]
    if not asking:
        return []
    if missing := await retention.missing_rights(context.session):
        said = f"threads of {', '.join(asking)} are to be pruned, and the role lacks DELETE on {', '.join(missing)}"
        return [Finding("retention", Level.WARNING, said, "apply deploy/sql/roles.sql with -v prune=yes")]
    return [Finding("retention", Level.OK, f"threads of {', '.join(asking)} are pruned")]


async def _webhook(context: DoctorContext) -> list[Finding]:
    """Report how notices are delivered, without making a request; nothing where there is no webhook."""
    if context.settings.webhook_url is None:
        return []
    if missing := await webhook.missing_rights(context.session):
        said = f"no notice is sent: the role lacks rights on {', '.join(missing)}"
        return [Finding("webhook", Level.WARNING, said, "apply deploy/sql/roles.sql again")]
    record = await webhook.delivery_record(context.session)
    waiting = f"{record.waiting} notices wait to be sent" if record.waiting else "no notice waits to be sent"
    if record.failures and record.failing_since is not None:
        since = f"{record.failing_since:%Y-%m-%d %H:%M:%S} UTC"
        said = f"{record.failures} requests in a row have failed since {since}, the last: {record.failure}; {waiting}"
        remedy = "have the receiver at RESUMED_WEBHOOK_URL answer 2xx within 10 s (docs/webhook.md)"
        return [Finding("webhook", Level.WARNING, said, remedy)]
    return [Finding("webhook", Level.OK, waiting)]


def _compare_step(step: LongestStep) -> Finding:
    name = step.workflow or "(unclaimed)"
    said = (
        f"{name}: longest step seen {step.took.total_seconds():.1f} s, min_age {durations.duration_text(step.min_age)}"
    )
    if step.too_close:
        return Finding(
            "min_age",
            Level.WARNING,
            said,
            "raise min_age to at least twice the longest step, so that a thread at work does not look dead",
        )
    return Finding("min_age", Level.OK, said)


async def _locks(target: Target) -> Finding:
    try:
        await run_lock_selftest(target)
    except DatabaseError as error:
        return _failed_check("locks", error)
    return Finding("locks", Level.OK, "session advisory locks work and are visible in pg_locks")


_CHECKS = (
    _database,
    _schema,
    _row_security,
    _pauses,
    _index,
    _clock,
    _connections,
    _lock_table,
    _min_age,
    _retention,
    _webhook,
)
