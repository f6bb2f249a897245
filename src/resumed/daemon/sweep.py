"""One sweep: find threads that have gone quiet, look again at open cases, record what their rows say.

A sweep knows no graphs and reads no values; names and ages come from the table of registrations. It resumes nothing.
A page and the watermark that it moves are one transaction, so that after a crash the next sweep continues there.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from resumed.daemon.sweep_memory import SweepMemory
from resumed.judge.case import CaseUpdate, enters_quarantine, vanished_case
from resumed.judge.checkpoint_id import first_at, made_at, plausible_span
from resumed.model import Case, State
from resumed.operations.assess import (
    OnUnjudged,
    SweepContext,
    SweepRules,
    assess,
    build_sweep_context,
    ignore_unjudged,
)
from resumed.store import cases, checkpoints, runs, watermark
from resumed.store.checkpoints import JudgedRange
from resumed.store.connection import Session
from resumed.store.watermark import Watermark

PAGE_ROWS = 5000
LOOK_ROWS = 1000
_OVERLAP = timedelta(seconds=30)
_WIDE_EVERY = timedelta(minutes=1)
_SEARCH_TIME = timedelta(milliseconds=250)


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did: checkpoint rows and threads read, cases written, and how far the watermark lags behind."""

    rows: int = 0
    threads: int = 0
    written: int = 0
    lag: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class QuarantinedGroup:
    """How many cases of a workflow (empty: unclaimed) were put into quarantine, the first of them and its reason."""

    workflow: str
    threads: int
    first: str
    reason: str


OnQuarantined = Callable[[QuarantinedGroup], None]


def _ignore_quarantined(_: QuarantinedGroup) -> None:
    """Do not report what is put into quarantine."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What one transaction of a sweep wrote; not `complete` where it could not judge or write a thread."""

    threads: int = 0
    written: int = 0
    quarantined: tuple[QuarantinedGroup, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """The range of checkpoint ids that one sweep reads; a `wide` one reaches back for ids that appeared late."""

    after: str
    upper: str
    until: datetime
    wide: bool
    horizon: int


async def run_sweep(
    session: Session,
    rules: SweepRules,
    now: datetime | None = None,
    on_unjudged: OnUnjudged = ignore_unjudged,
    memory: SweepMemory | None = None,
    *,
    on_quarantined: OnQuarantined = _ignore_quarantined,
) -> SweepReport | None:
    """Make one pass; return None if another replica is making one. `now` replaces the database's clock in tests.

    A thread that cannot be judged is passed over, and reported to `on_unjudged`. What goes into quarantine is reported
    to `on_quarantined` once that is committed. What `memory` knows from sweeps before is not judged again.
    """
    sweep_context = replace(await build_sweep_context(session, rules, now), on_unjudged=on_unjudged)
    memory = memory or SweepMemory()
    found = await _sweep_window(session, sweep_context, memory, on_quarantined)
    if found is None:
        return None
    again = await _revisit_cases(session, sweep_context, memory, on_quarantined)
    lag = (
        sweep_context.now
        - _shortest_min_age(sweep_context)
        - (await watermark.watermark_position(session) or sweep_context.now)
    )
    return SweepReport(found.rows, found.threads + again.threads, found.written + again.written, max(lag, timedelta(0)))


async def _sweep_window(
    session: Session, sweep_context: SweepContext, memory: SweepMemory, on_quarantined: OnQuarantined
) -> SweepReport | None:
    rows = threads = written = 0
    complete = True
    window: Window | None = None
    first: Window | None = None
    judged: tuple[JudgedRange, ...] = ()
    while True:
        async with session.transaction():
            mark = await watermark.take_watermark(session, sweep_context.now - sweep_context.rules.defaults.max_age)
            if mark is None:
                return None if window is None else SweepReport(rows, threads, written)
            if window is None:
                window = first = _window(mark, sweep_context)
                judged = memory.judged(session, sweep_context, wide=window.wide)
            page = await checkpoints.window_news(session, (window.after, window.upper), PAGE_ROWS, judged)
            timeless: list[str] = []
            if window.wide:
                span = plausible_span(sweep_context.now)
                timeless = await checkpoints.threads_without_time(session, span, LOOK_ROWS)
            found = await _record(session, sweep_context, [*page.threads, *timeless])
            reached = None if page.is_last else page.last_id
            await watermark.move_watermark(session, _watermark_after(mark, window, reached, sweep_context))
        _report(found, on_quarantined)
        rows, threads, written = rows + page.rows, threads + found.threads, written + found.written
        complete = complete and found.complete
        if page.is_last:
            if complete and first is not None:
                reached_range = JudgedRange(first.after, first.upper, first.horizon)
                memory.remember(session, sweep_context, reached_range, wide=first.wide, whole=not judged)
            return SweepReport(rows, threads, written)
        window = replace(window, after=page.last_id or window.after)


def _window(mark: Watermark, sweep_context: SweepContext) -> Window:
    until = sweep_context.now - _shortest_min_age(sweep_context)
    wide = abs(sweep_context.now - mark.wide_at) >= _WIDE_EVERY
    overlap = sweep_context.rules.clock_tolerance if wide else _OVERLAP
    return Window(first_at(min(mark.position, until) - overlap), first_at(until), until, wide, mark.horizon)


def _watermark_after(mark: Watermark, window: Window, last_id: str | None, sweep_context: SweepContext) -> Watermark:
    if last_id is None:
        return replace(mark, position=window.until, wide_at=sweep_context.now if window.wide else mark.wide_at)
    reached = made_at(last_id) or mark.position
    return replace(mark, position=max(min(mark.position, window.until), reached))


def _shortest_min_age(sweep_context: SweepContext) -> timedelta:
    """Return the shortest `min_age` of any workflow."""
    return min(
        [
            sweep_context.rules.defaults.min_age,
            *(registration.numbers.min_age for registration in sweep_context.registrations),
        ]
    )


async def _revisit_cases(
    session: Session, sweep_context: SweepContext, memory: SweepMemory, on_quarantined: OnQuarantined
) -> SweepReport:
    """Look again at cases whose look is due, at those that have got an answer, and at runs that nobody continues."""
    looks = await cases.find_due_looks(session, sweep_context.now, LOOK_ROWS)
    threads = sorted({*looks, *await search_answered(session, memory)})
    report = SweepReport()
    if threads:
        async with session.transaction():
            found = await _record(session, sweep_context, threads)
        _report(found, on_quarantined)
        report = SweepReport(threads=found.threads, written=found.written)
    async for page in runs.abandoned_runs(session, PAGE_ROWS):
        async with session.transaction():
            found = await _record(session, sweep_context, page)
        _report(found, on_quarantined)
        report = SweepReport(threads=report.threads + found.threads, written=report.written + found.written)
    return report


async def search_answered(session: Session, memory: SweepMemory) -> list[str]:
    """Search for answers for a while, or until there are enough to look at, or to the last of the cases that wait.

    Looks are made in turn, so that with very many cases the one at a given case may be long in coming.
    """
    found: list[str] = []
    began = time.monotonic()
    while len(found) < LOOK_ROWS and time.monotonic() - began < _SEARCH_TIME.total_seconds():
        page = await cases.find_answered(session, memory.answers_after, PAGE_ROWS)
        found += page.threads
        memory.answers_after = page.last_id or "" if page.rows == PAGE_ROWS else ""
        if not memory.answers_after:
            break
    return found


def _report(found: _Recorded, on_quarantined: OnQuarantined) -> None:
    """Report what a transaction has put into quarantine, after it was committed."""
    for group in found.quarantined:
        on_quarantined(group)


async def _record(session: Session, sweep_context: SweepContext, threads: Sequence[str]) -> _Recorded:
    if not threads:
        return _Recorded()
    known = await cases.of_threads(session, threads)
    assessed = await assess(session, sweep_context, threads, known)
    present = assessed.seen.keys() | assessed.unread
    gone = [
        vanished_case(thread, known[thread].workflow, sweep_context.now) for thread in known if thread not in present
    ]
    updates = [*(update for update, _ in assessed.judged.values()), *gone]
    changed = [
        (update, known.get(update.thread_id))
        for update in updates
        if _needs_writing(update, known.get(update.thread_id))
    ]
    recorded = await cases.record(session, sorted(changed, key=lambda pair: pair[0].thread_id), sweep_context.now)
    for update, _ in assessed.judged.values():
        await runs.settle_run(session, assessed.seen[update.thread_id].head.run, update.judgement.verdict)
    put_away = [
        update for update, before in changed if update.thread_id in recorded and enters_quarantine(update, before)
    ]
    complete = not assessed.unread and assessed.judged.keys() == assessed.seen.keys() and len(recorded) == len(changed)
    return _Recorded(len(threads), len(changed), _grouped(put_away), complete)


def _grouped(updates: Sequence[CaseUpdate]) -> tuple[QuarantinedGroup, ...]:
    counts = Counter(one.workflow or "" for one in updates)
    firsts = {one.workflow or "": one for one in reversed(updates)}
    return tuple(
        QuarantinedGroup(name, count, firsts[name].thread_id, firsts[name].placement.quarantine_reason or "")
        for name, count in counts.items()
    )


def _needs_writing(found: CaseUpdate, known: Case | None) -> bool:
    """Return whether a case changed; a finished thread gets one only if nothing else can show that it was seen."""
    closed = found.placement.state is State.CLOSED
    if known is None:
        return not closed or (bool(found.head) and made_at(found.head) is None)
    if closed and known.state is State.CLOSED:
        return made_at(found.head) is None and found.head != known.head
    return (
        (found.head, found.fingerprint, found.workflow, found.version)
        != (known.head, known.fingerprint, known.workflow, known.version)
        or (found.judgement.verdict, found.judgement.reason) != (known.verdict, known.reason)
        or (found.placement.state, found.placement.due_at, found.placement.next_look_at)
        != (known.state, known.due_at, known.next_look_at)
    )
