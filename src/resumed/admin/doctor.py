"""Examines every precondition, each on its own, and says what to do about it. Changes nothing."""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from resumed import durations
from resumed.config.settings import Settings
from resumed.daemon.periodic_tasks import CLOCK_LIMIT
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.daemon.worker_plan import registered_workflows, retention_rules, sweep_rules
from resumed.errors import DatabaseError, ResumedError
from resumed.judge.retention import policy_of
from resumed.observability.events import Events
from resumed.operations.assess import build_sweep_context, with_own_registrations
from resumed.operations.step_durations import LongestStep, longest_steps
from resumed.store import pauses, retention, schema, vitals, watermark
from resumed.store.connection import PostgresError, Session, Target, open_session
from resumed.store.database_errors import ErrorKind, explain, kind_of
from resumed.store.lock_selftest import run_lock_selftest
from resumed.store.pauses import Pause

_CONTROL_SESSIONS = 6


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it where it is not well."""

    check: str
    level: Level
    finding: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """What every check is given."""

    session: Session
    settings: Settings
    monitor: WorkerMonitor


async def run_checks(settings: Settings, events: Events) -> list[Finding]:
    """Make every check; where the database cannot be had, those that need none."""
    target = Target(settings.dsn, settings.checkpoint_schema)
    found: list[Finding] = []
    monitor = await _workflows(settings, events, found)
    try:
        async with open_session(target, "resumed doctor") as session:
            practice = DoctorContext(session, settings, monitor)
            for check in _CHECKS:
                found += await _safely(check, practice)
            found.append(await _locks(target))
    except DatabaseError as error:
        found.append(_broken("database", error))
    return found


async def _workflows(settings: Settings, events: Events, found: list[Finding]) -> WorkerMonitor:
    try:
        monitor = await registered_workflows(settings, events)
    except ResumedError as error:
        found.append(Finding("workflows", Level.ERROR, str(error), "mend the import that the log names"))
        return WorkerMonitor(events, lambda: None, lambda: None)
    for name, reason in sorted(monitor.unavailable.items()):
        found.append(Finding("workflows", Level.ERROR, f"{name}: {reason}", "mend it; its threads stay untouched"))
    for name, one in sorted(monitor.registrations.items()):
        said = f"version {one.version}" if one.version else "it names no version, so every thread of it is accepted"
        found.append(Finding("workflows", Level.OK, f"{name}: {said}"))
    if not monitor.registrations and not monitor.unavailable:
        remedy = "declare them under the entry-point group resumed.workflows"
        found.append(Finding("workflows", Level.WARNING, "no workflows are registered", remedy))
    return monitor


async def _safely(check: Callable[[DoctorContext], Awaitable[list[Finding]]], practice: DoctorContext) -> list[Finding]:
    try:
        return await check(practice)
    except (DatabaseError, PostgresError) as error:
        name = check.__name__.removeprefix("_").replace("_", " ")
        if isinstance(error, PostgresError) and kind_of(error) is ErrorKind.MISSING:
            return [Finding(name, Level.WARNING, "not checked: no schema", "run `resumed migrate`, then this again")]
        return [_broken(name, error)]


def _broken(name: str, error: DatabaseError | PostgresError) -> Finding:
    """Say what is wrong, and what of that sentence is to be done about it."""
    sentence = str(explain(error) if isinstance(error, PostgresError) else error)
    parts = sentence.rpartition("; ") if "; " in sentence else sentence.rpartition(": ")
    return Finding(name, Level.ERROR, sentence, parts[2])


async def _database(practice: DoctorContext) -> list[Finding]:
    server = await vitals.server(practice.session)
    if server.standby:
        return [Finding("database", Level.ERROR, "it is a standby (in recovery)", "give the primary's address")]
    if server.read_only:
        remedy = "set default_transaction_read_only to off for this role or database"
        return [Finding("database", Level.ERROR, "its transactions are read-only", remedy)]
    started = datetime.now(UTC) - server.uptime
    said = f"PostgreSQL {server.version}, up since {started:%Y-%m-%d %H:%M:%S} UTC"
    return [Finding("database", Level.OK, said), *_encoding(server.encoding)]


def _encoding(encoding: str) -> list[Finding]:
    """Warn of an encoding that cannot hold every text."""
    if encoding == "UTF8":
        return []
    said = f"its encoding is {encoding}"
    if encoding == "SQL_ASCII":
        said += ", which knows no text: a thread whose id is not UTF-8 is not resumed"
    else:
        said += ": a text that it cannot hold is refused at the save, in the application too"
    return [Finding("database", Level.WARNING, said, "keep LangGraph's tables in a database with the encoding UTF8")]


async def _schema(practice: DoctorContext) -> list[Finding]:
    await schema.check_fit(practice.session)
    return [Finding("schema", Level.OK, f"version {schema.SCHEMA_VERSION}, LangGraph's tables are there")]


async def _row_security(practice: DoctorContext) -> list[Finding]:
    """Find nothing where every row can be seen: an error of its own otherwise, whatever else is wrong."""
    await schema.require_visible(practice.session)
    return []


async def _pauses(practice: DoctorContext) -> list[Finding]:
    standing = await pauses.current_pauses(practice.session)
    if not standing:
        return [Finding("pauses", Level.OK, "nothing is paused")]
    return [Finding("pauses", Level.WARNING, f"{one}; nothing of it is resumed", _unpausing(one)) for one in standing]


def _unpausing(pause: Pause) -> str:
    """Give the command that ends a pause."""
    return f"`{shlex.join(['resumed', 'unpause', *filter(None, [pause.workflow])])}` when its reason is gone"


async def _index(practice: DoctorContext) -> list[Finding]:
    if await schema.has_index(practice.session):
        return [Finding("index", Level.OK, "checkpoints (checkpoint_id)")]
    said = "there is none on checkpoints (checkpoint_id): sweeps read the whole table, and come twenty times as seldom"
    return [Finding("index", Level.WARNING, said, "run `resumed migrate`")]


async def _clock(practice: DoctorContext) -> list[Finding]:
    ahead = datetime.now(UTC) - await watermark.database_clock(practice.session)
    said = f"this host is {abs(ahead).total_seconds():.3f} s {'ahead of' if ahead.days >= 0 else 'behind'} the database"
    if abs(ahead) > CLOCK_LIMIT:
        return [Finding("clock", Level.ERROR, said, "synchronise the clocks: beyond 2 s no attempt is made")]
    return [Finding("clock", Level.OK, said), *await _applications_clock(practice.session)]


async def _applications_clock(session: Session) -> list[Finding]:
    """Checkpoint ids are made by the application's clock; those of the future have to wait until they are not."""
    now = await watermark.database_clock(session)
    newest = await vitals.newest_checkpoint(session, now) if await schema.has_index(session) else None
    if newest is None or newest - now <= CLOCK_LIMIT:
        return []
    said = f"the newest checkpoint lies {(newest - now).total_seconds():.0f} s ahead: its thread waits as long"
    return [Finding("clock", Level.WARNING, said, "synchronise the clock of the application's host")]


async def _connections(practice: DoctorContext) -> list[Finding]:
    room = await vitals.connections(practice.session)
    needed = practice.settings.processes * practice.settings.concurrency + _CONTROL_SESSIONS
    said = f"{room.used} of {room.size} used; this replica may need {needed}"
    if room.size - room.used < needed:
        remedy = "lower RESUMED_CONCURRENCY or RESUMED_PROCESSES, or raise max_connections"
        return [Finding("connections", Level.WARNING, said, remedy)]
    return [Finding("connections", Level.OK, said)]


async def _lock_table(practice: DoctorContext) -> list[Finding]:
    room = await vitals.lock_table(practice.session)
    said = f"{room.used} of about {room.size} locks used"
    if room.used * 2 > room.size:
        remedy = "raise max_locks_per_transaction: a full lock table stops the whole server"
        return [Finding("lock table", Level.WARNING, said, remedy)]
    return [Finding("lock table", Level.OK, said)]


async def _min_age(practice: DoctorContext) -> list[Finding]:
    """Compare each workflow's longest step with the silence after which it is taken for dead."""
    sweep_context = await build_sweep_context(practice.session, sweep_rules(practice.settings))
    sweep_context = with_own_registrations(sweep_context, practice.monitor.registrations.values())
    return [_compared(one) for one in await longest_steps(practice.session, sweep_context)]


def _compared(step: LongestStep) -> Finding:
    name = step.workflow or "(unclaimed)"
    said = (
        f"{name}: longest step seen {step.took.total_seconds():.1f} s, min_age {durations.duration_text(step.min_age)}"
    )
    if step.too_close:
        return Finding("min_age", Level.WARNING, said, "raise min_age to at least twice the longest step")
    return Finding("min_age", Level.OK, said)


async def _retention(practice: DoctorContext) -> list[Finding]:
    """Find that threads are to be pruned and the role may not delete; nothing where nobody asks for it."""
    rules, known = retention_rules(practice.settings), practice.monitor.registrations.values()
    asking = [one.name for one in known if policy_of(one, rules.older_than, rules.strategy) is not None]
    missing = await retention.missing_rights(practice.session) if asking else []
    if not asking:
        return []
    if missing:
        said = f"threads of {', '.join(asking)} are to be pruned, and the role lacks DELETE on {', '.join(missing)}"
        return [Finding("retention", Level.WARNING, said, "apply deploy/sql/roles.sql with -v prune=yes")]
    return [Finding("retention", Level.OK, f"threads of {', '.join(asking)} are pruned")]


async def _locks(target: Target) -> Finding:
    try:
        await run_lock_selftest(target)
    except DatabaseError as error:
        return _broken("locks", error)
    return Finding("locks", Level.OK, "session advisory locks lock, and are seen")


_CHECKS = (_database, _schema, _row_security, _pauses, _index, _clock, _connections, _lock_table, _min_age, _retention)
