"""Judges threads by their rows and the table of registrations, for sweeps, recovery, commands and the library."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar

from resumed.judge.case import CaseUpdate, decide_case, known_for_head
from resumed.judge.verdict import Ages, Circumstances, ThreadSnapshot
from resumed.judge.workflow_match import match_workflow
from resumed.model import Case, PolicyLimits, Registration
from resumed.observability.redaction import ErrorReport, describe_error
from resumed.store import checkpoints, locks, watermark, workflow_versions
from resumed.store.connection import PostgresError, Session
from resumed.store.database_errors import blames_value
from resumed.store.slices import in_slices
from resumed.store.text_encoding import is_text

OnUnjudged = Callable[[str, ErrorReport], None]


def ignore_unjudged(_: str, __: ErrorReport) -> None:
    """Do not report a thread that cannot be judged."""


@dataclass(frozen=True, slots=True)
class SweepRules:
    """What a replica brings to a sweep: limits of threads without a registration, and how late ids may appear."""

    defaults: PolicyLimits
    default_workflow: str | None
    clock_tolerance: timedelta


@dataclass(frozen=True, slots=True)
class SweepContext:
    """The time and the registrations by which all threads of one pass are judged."""

    now: datetime
    registrations: tuple[Registration, ...]
    rules: SweepRules
    on_unjudged: OnUnjudged = ignore_unjudged

    @property
    def default_ages(self) -> Ages:
        """The ages of a thread that no registration claims."""
        return Ages(self.rules.defaults.min_age, self.rules.defaults.max_age)

    @property
    def default_workflow(self) -> str | None:
        """The workflow of a thread that names none."""
        return self.rules.default_workflow


@dataclass(frozen=True, slots=True)
class UnconfiguredContext:
    """What threads are judged by without settings, as in an application: without a registration any age will do."""

    now: datetime
    registrations: tuple[Registration, ...]
    on_unjudged: OnUnjudged = ignore_unjudged
    default_ages: ClassVar[Ages] = Ages(timedelta(0), timedelta.max)
    default_workflow: ClassVar[str | None] = None


JudgingContext = SweepContext | UnconfiguredContext


@dataclass(frozen=True, slots=True)
class Assessments:
    """The threads that were judged, the rows of all that were read, and the threads that cannot be read."""

    judged: dict[str, tuple[CaseUpdate, Circumstances]] = field(default_factory=dict)
    seen: dict[str, ThreadSnapshot] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)


async def build_sweep_context(session: Session, rules: SweepRules, now: datetime | None = None) -> SweepContext:
    """Read the clock and the registrations once for a whole pass."""
    return SweepContext(
        await watermark.database_clock(session, now), tuple(await workflow_versions.known_versions(session)), rules
    )


async def build_unconfigured_context(session: Session) -> UnconfiguredContext:
    """Read the clock and the registrations once, for judging without settings."""
    return UnconfiguredContext(
        await watermark.database_clock(session), tuple(await workflow_versions.known_versions(session))
    )


def with_own_registrations(sweep_context: SweepContext, own: Iterable[Registration]) -> SweepContext:
    """Count the versions that this process's workers have as live, announced or not; others stay as in the table."""
    live = {
        (registration.name, registration.version): replace(registration, seen_at=sweep_context.now)
        for registration in own
    }
    others = [
        registration
        for registration in sweep_context.registrations
        if (registration.name, registration.version) not in live
    ]
    return replace(sweep_context, registrations=(*live.values(), *others))


async def assess(
    session: Session, sweep_context: JudgingContext, threads: Sequence[str], known: dict[str, Case]
) -> Assessments:
    """Judge these threads by their rows; threads without a root checkpoint are left out."""
    found = Assessments()
    if not threads:
        return found
    held = await locks.held_threads(session, threads)
    await _read(session, sweep_context, [thread for thread in threads if is_text(thread)], found)
    for thread in threads:
        if not is_text(thread):
            _report_unread(sweep_context, found, thread, UnicodeError("its id is not UTF-8"))
    async for thread, snapshot in in_slices(found.seen.items()):
        try:
            circumstances = circumstances_of(snapshot, sweep_context, known.get(thread), held=thread in held)
            found.judged[thread] = decide_case(snapshot, circumstances), circumstances
        except Exception as error:  # noqa: BLE001 - one hostile row must not hide all other threads
            sweep_context.on_unjudged(thread, describe_error(error))
    return found


async def _read(session: Session, sweep_context: JudgingContext, threads: Sequence[str], found: Assessments) -> None:
    """Read the rows of threads; one whose rows the database cannot read must not hide the others."""
    try:
        async with session.transaction():
            found.seen.update(await checkpoints.snapshots(session, threads))
    except PostgresError as error:
        if not blames_value(error):
            raise
        if len(threads) == 1:
            return _report_unread(sweep_context, found, threads[0], error)
        half = len(threads) // 2
        await _read(session, sweep_context, threads[:half], found)
        await _read(session, sweep_context, threads[half:], found)


def _report_unread(sweep_context: JudgingContext, found: Assessments, thread: str, error: BaseException) -> None:
    found.unread.add(thread)
    sweep_context.on_unjudged(thread, describe_error(error))


def circumstances_of(
    snapshot: ThreadSnapshot, sweep_context: JudgingContext, known: Case | None, *, held: bool
) -> Circumstances:
    """Return what the verdict on this thread depends on beside its rows."""
    match = match_workflow(snapshot.head, sweep_context.registrations, sweep_context.default_workflow)
    taker = match.taker(snapshot.head.metadata_version)
    ages = Ages(taker.numbers.min_age, taker.numbers.max_age) if taker is not None else sweep_context.default_ages
    return Circumstances(
        now=sweep_context.now, match=match, ages=ages, lock_held=held, known=known_for_head(snapshot, known)
    )
