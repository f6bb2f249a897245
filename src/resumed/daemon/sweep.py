"""ONE pass: find threads that have gone quiet, look again at open cases, record what rows say of them.

A sweep knows no graphs and reads no values; names and ages come from the table of registrations. It resumes nothing.
A page and the watermark it moves are one transaction, so a sweep that dies goes on where it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from resumed.judge.case import Standing, decide, place, standing, still_known, vanished
from resumed.judge.checkpoint_id import first_at, made_at, plausible_span
from resumed.judge.resolve import claim
from resumed.judge.verdict import Ages, Circumstances, Sighting
from resumed.model import Case, Numbers, Registration, State
from resumed.redaction import describe
from resumed.store import cases, checkpoints, locks, registrations, runs, watermarks
from resumed.store.connect import DatabaseFault, Session
from resumed.store.faults import blames_value
from resumed.store.texts import is_text
from resumed.store.watermarks import Watermark

Trouble = Callable[[str, Mapping[str, Any]], None]

PAGE_ROWS = 5000
LOOK_ROWS = 1000
_OVERLAP = timedelta(seconds=30)
_WIDE_EVERY = timedelta(minutes=1)


def _silent(_: str, __: Mapping[str, Any]) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a replica brings to a sweep: numbers for threads without a registration, and how late ids may appear."""

    defaults: Numbers
    default_workflow: str | None
    clock_tolerance: timedelta


@dataclass(frozen=True, slots=True)
class Report:
    """What a sweep did: checkpoint rows and threads looked at, cases written, how far it is behind."""

    rows: int = 0
    threads: int = 0
    written: int = 0
    lag: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Scene:
    """The time and the registrations that every look of one sweep shares."""

    now: datetime
    known: tuple[Registration, ...]
    rules: Rules
    on_trouble: Trouble = _silent


@dataclass(frozen=True, slots=True)
class Looks:
    """What was judged of threads, what was seen of those that are there at all, and which of them cannot be read."""

    judged: dict[str, tuple[Standing, Circumstances]] = field(default_factory=dict)
    seen: dict[str, Sighting] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of checkpoint ids that one sweep looks through; `wide` reaches back for late ones."""

    after: str
    upper: str
    until: datetime
    wide: bool


async def sweep(
    session: Session, rules: Rules, now: datetime | None = None, on_trouble: Trouble = _silent
) -> Report | None:
    """Make one pass; None where another replica is at it. `now` stands in for the database's clock in tests.

    A thread that cannot be judged is told to `on_trouble` and passed over.
    """
    scene = replace(await scene_of(session, rules, now), on_trouble=on_trouble)
    found = await _look_through_window(session, scene)
    if found is None:
        return None
    again = await _look_again(session, scene)
    lag = scene.now - _youngest(scene) - (await watermarks.position(session) or scene.now)
    return Report(found.rows, found.threads + again.threads, found.written + again.written, max(lag, timedelta(0)))


async def scene_of(session: Session, rules: Rules, now: datetime | None = None) -> Scene:
    """Read the clock and the registrations once, for all looks of one pass."""
    return Scene(await watermarks.clock(session, now), tuple(await registrations.all_known(session)), rules)


async def _look_through_window(session: Session, scene: Scene) -> Report | None:
    rows = threads = written = 0
    window: Window | None = None
    while True:
        async with session.transaction():
            mark = await watermarks.take(session, scene.now - scene.rules.defaults.max_age)
            if mark is None:
                return None if window is None else Report(rows, threads, written)
            window = window or _window(mark, scene)
            page = await checkpoints.window_page(session, window.after, window.upper, PAGE_ROWS)
            found = await _record(session, scene, [*page.threads, *await _timeless(session, scene, window)])
            last = page.rows < PAGE_ROWS or page.last_id is None
            await watermarks.move(session, _moved(mark, window, None if last else page.last_id, scene))
        rows, threads, written = rows + page.rows, threads + found.threads, written + found.written
        if last:
            return Report(rows, threads, written)
        window = Window(page.last_id or window.after, window.upper, window.until, wide=window.wide)


def _window(mark: Watermark, scene: Scene) -> Window:
    until = scene.now - _youngest(scene)
    wide = abs(scene.now - mark.wide_at) >= _WIDE_EVERY
    overlap = scene.rules.clock_tolerance if wide else _OVERLAP
    return Window(first_at(min(mark.position, until) - overlap), first_at(until), until, wide=wide)


def _moved(mark: Watermark, window: Window, last_id: str | None, scene: Scene) -> Watermark:
    if last_id is None:
        return Watermark(window.until, scene.now if window.wide else mark.wide_at)
    reached = made_at(last_id) or mark.position
    return Watermark(max(min(mark.position, window.until), reached), mark.wide_at)


def _youngest(scene: Scene) -> timedelta:
    """The smallest silence that any workflow asks for."""
    return min([scene.rules.defaults.min_age, *(one.numbers.min_age for one in scene.known)])


async def _timeless(session: Session, scene: Scene, window: Window) -> list[str]:
    if not window.wide:
        return []
    return await checkpoints.timeless(session, plausible_span(scene.now), LOOK_ROWS)


async def _look_again(session: Session, scene: Scene) -> Report:
    async with session.transaction():
        threads = {*await cases.to_look_at(session, scene.now, LOOK_ROWS), *await runs.abandoned(session, LOOK_ROWS)}
        return await _record(session, scene, sorted(threads))


async def _record(session: Session, scene: Scene, threads: Sequence[str]) -> Report:
    known = await cases.of_threads(session, threads)
    looks = await look_at(session, scene, threads, known)
    there = looks.seen.keys() | looks.unread
    gone = [vanished(thread, known[thread].workflow, scene.now) for thread in known if thread not in there]
    standings = [*(one for one, _ in looks.judged.values()), *gone]
    changed = [(one, known.get(one.thread_id)) for one in standings if _worth_writing(one, known.get(one.thread_id))]
    await cases.record(session, sorted(changed, key=lambda pair: pair[0].thread_id), scene.now)
    for one, _ in looks.judged.values():
        await runs.settle(session, looks.seen[one.thread_id].head.run, one.judgement.verdict)
    return Report(threads=len(threads), written=len(changed))


async def look_at(session: Session, scene: Scene, threads: Sequence[str], known: dict[str, Case]) -> Looks:
    """Judge these threads by their rows; threads without a root checkpoint are left out."""
    looks = Looks()
    if not threads:
        return looks
    held = await locks.held(session, threads)
    await _read(session, scene, [thread for thread in threads if is_text(thread)], looks)
    for thread in threads:
        if not is_text(thread):
            _tell(scene, looks, thread, UnicodeError("its id is not UTF-8"))
    for thread, sighting in looks.seen.items():
        try:
            looks.judged[thread] = _judged(sighting, around(sighting, scene, known.get(thread), held=thread in held))
        except Exception as error:  # noqa: BLE001 - one hostile row must not hide all other threads
            scene.on_trouble(thread, asdict(describe(error)))
    return looks


async def _read(session: Session, scene: Scene, threads: Sequence[str], looks: Looks) -> None:
    """Read where threads stand; one whose rows the database cannot read must not hide the others."""
    try:
        async with session.transaction():
            looks.seen.update(await checkpoints.sightings(session, threads))
    except DatabaseFault as error:
        if not blames_value(error):
            raise
        if len(threads) == 1:
            return _tell(scene, looks, threads[0], error)
        half = len(threads) // 2
        await _read(session, scene, threads[:half], looks)
        await _read(session, scene, threads[half:], looks)


def _tell(scene: Scene, looks: Looks, thread: str, error: BaseException) -> None:
    looks.unread.add(thread)
    scene.on_trouble(thread, asdict(describe(error)))


def around(sighting: Sighting, scene: Scene, known: Case | None, *, held: bool) -> Circumstances:
    """Gather what a verdict on this thread depends on beside its rows."""
    claimed = claim(sighting.head, scene.known, scene.rules.default_workflow)
    taker = claimed.taker(sighting.head.metadata_version)
    numbers = taker.numbers if taker is not None else scene.rules.defaults
    ages = Ages(numbers.min_age, numbers.max_age)
    return Circumstances(now=scene.now, claim=claimed, ages=ages, lock_held=held, known=still_known(sighting, known))


def _judged(sighting: Sighting, around: Circumstances) -> tuple[Standing, Circumstances]:
    judgement = decide(sighting, around)
    return standing(sighting, around, judgement, place(judgement, around)), around


def _worth_writing(found: Standing, known: Case | None) -> bool:
    """A finished thread nobody worried about is no case, unless only its record can tell that it was seen."""
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
