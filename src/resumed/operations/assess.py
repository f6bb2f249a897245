"""Judges threads by their rows and the table of registrations, for sweeps, recovery, commands and the library."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from resumed.judge.case import CaseUpdate, case_update, decide_verdict, place_case, still_known
from resumed.judge.verdict import Ages, Circumstances, ThreadSnapshot
from resumed.judge.workflow_match import match_workflow
from resumed.model import Case, PolicyLimits, Registration
from resumed.observability.redaction import describe_error
from resumed.store import checkpoints, locks, watermark, workflow_versions
from resumed.store.connection import PostgresError, Session
from resumed.store.database_errors import blames_value
from resumed.store.text_encoding import is_text

OnUnjudged = Callable[[str, Mapping[str, Any]], None]


def ignore_unjudged(_: str, __: Mapping[str, Any]) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class SweepRules:
    """What a replica brings to a sweep: numbers for threads without a registration, and how late ids may appear."""

    defaults: PolicyLimits
    default_workflow: str | None
    clock_tolerance: timedelta


@dataclass(frozen=True, slots=True)
class SweepContext:
    """The time and the registrations that every look of one sweep shares."""

    now: datetime
    known: tuple[Registration, ...]
    rules: SweepRules
    on_trouble: OnUnjudged = ignore_unjudged

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
    """What a look has where no settings are known: threads without a registration may have any age."""

    now: datetime
    known: tuple[Registration, ...]
    on_trouble: OnUnjudged = ignore_unjudged
    default_ages: ClassVar[Ages] = Ages(timedelta(0), timedelta.max)
    default_workflow: ClassVar[str | None] = None


JudgingContext = SweepContext | UnconfiguredContext


@dataclass(frozen=True, slots=True)
class Assessments:
    """What was judged of threads, what was seen of those that are there at all, and which of them cannot be read."""

    judged: dict[str, tuple[CaseUpdate, Circumstances]] = field(default_factory=dict)
    seen: dict[str, ThreadSnapshot] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)


async def build_sweep_context(session: Session, rules: SweepRules, now: datetime | None = None) -> SweepContext:
    """Read the clock and the registrations once, for all looks of one pass."""
    return SweepContext(
        await watermark.database_clock(session, now), tuple(await workflow_versions.known_versions(session)), rules
    )


async def build_unconfigured_context(session: Session) -> UnconfiguredContext:
    """Read the clock and the registrations once, for looks that know no settings."""
    return UnconfiguredContext(
        await watermark.database_clock(session), tuple(await workflow_versions.known_versions(session))
    )


def with_own_registrations(sweep_context: SweepContext, own: Iterable[Registration]) -> SweepContext:
    """Count these versions as live, in place of what the table says of the same ones; other versions stay as they are.

    They are what the workers of this very process have, announced or not.
    """
    live = {(one.name, one.version): replace(one, seen_at=sweep_context.now) for one in own}
    others = [one for one in sweep_context.known if (one.name, one.version) not in live]
    return replace(sweep_context, known=(*live.values(), *others))


async def assess(
    session: Session, sweep_context: JudgingContext, threads: Sequence[str], known: dict[str, Case]
) -> Assessments:
    """Judge these threads by their rows; threads without a root checkpoint are left out."""
    looks = Assessments()
    if not threads:
        return looks
    held = await locks.held_threads(session, threads)
    await _read(session, sweep_context, [thread for thread in threads if is_text(thread)], looks)
    for thread in threads:
        if not is_text(thread):
            _tell(sweep_context, looks, thread, UnicodeError("its id is not UTF-8"))
    for thread, snapshot in looks.seen.items():
        try:
            looks.judged[thread] = _judged(
                snapshot, circumstances_of(snapshot, sweep_context, known.get(thread), held=thread in held)
            )
        except Exception as error:  # noqa: BLE001 - one hostile row must not hide all other threads
            sweep_context.on_trouble(thread, asdict(describe_error(error)))
    return looks


async def _read(session: Session, sweep_context: JudgingContext, threads: Sequence[str], looks: Assessments) -> None:
    """Read where threads stand; one whose rows the database cannot read must not hide the others."""
    try:
        async with session.transaction():
            looks.seen.update(await checkpoints.snapshots(session, threads))
    except PostgresError as error:
        if not blames_value(error):
            raise
        if len(threads) == 1:
            return _tell(sweep_context, looks, threads[0], error)
        half = len(threads) // 2
        await _read(session, sweep_context, threads[:half], looks)
        await _read(session, sweep_context, threads[half:], looks)


def _tell(sweep_context: JudgingContext, looks: Assessments, thread: str, error: BaseException) -> None:
    looks.unread.add(thread)
    sweep_context.on_trouble(thread, asdict(describe_error(error)))


def circumstances_of(
    snapshot: ThreadSnapshot, sweep_context: JudgingContext, known: Case | None, *, held: bool
) -> Circumstances:
    """Gather what a verdict on this thread depends on beside its rows."""
    claimed = match_workflow(snapshot.head, sweep_context.known, sweep_context.default_workflow)
    taker = claimed.taker(snapshot.head.metadata_version)
    ages = Ages(taker.numbers.min_age, taker.numbers.max_age) if taker is not None else sweep_context.default_ages
    return Circumstances(
        now=sweep_context.now, claim=claimed, ages=ages, lock_held=held, known=still_known(snapshot, known)
    )


def _judged(snapshot: ThreadSnapshot, circumstances: Circumstances) -> tuple[CaseUpdate, Circumstances]:
    judgement = decide_verdict(snapshot, circumstances)
    return case_update(snapshot, circumstances, judgement, place_case(judgement, circumstances)), circumstances
