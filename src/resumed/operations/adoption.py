"""Takes in threads that a sweep leaves alone because they were too old when it first saw them, or never looked for.

A thread is adopted as if it had been seen when it last saved: its case becomes due and never expires again. No lock of
a thread is taken; the attempt judges it again under its lock, as any other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from resumed.errors import ResumedError
from resumed.judge.adoption import Hindrance, WorkflowLoad, batch_room, hindrance
from resumed.judge.case import CaseUpdate, decide_case
from resumed.judge.checkpoint_id import first_at
from resumed.judge.circuit_breaker import is_open
from resumed.judge.verdict import Ages
from resumed.judge.workflow_match import LIVE_FOR
from resumed.model import Act, State, Verdict
from resumed.observability.redaction import ErrorReport
from resumed.operations.assess import SweepContext, SweepRules, assess, build_sweep_context
from resumed.operations.containment import OperatorCommand
from resumed.store import attempts, audit, case_commands, cases, checkpoints, locks, pauses
from resumed.store.connection import Session
from resumed.store.locks import identifier_key
from resumed.store.pauses import covering_pause

ADOPTION_KEY = identifier_key("resumed adoption")
"""The advisory lock under which one command adopts at a time."""

_PAGE_ROWS = 1000
_WAIT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class AdoptionRequest:
    """Which threads: those that last saved within `since`, of one workflow or of all, at most `limit`."""

    since: timedelta
    workflow: str | None = None
    limit: int | None = None


@dataclass(slots=True)
class Adoptable:
    """What can be adopted of a workflow: threads, and when the longest and the shortest quiet one last saved."""

    oldest: datetime
    newest: datetime
    threads: int = 0


@dataclass(slots=True)
class AdoptionReport:
    """What was found and adopted, by workflow, why a workflow was stopped, and the threads that could not be judged."""

    found: dict[str, Adoptable] = field(default_factory=dict)
    adopted: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, Hindrance] = field(default_factory=dict)
    unjudged: set[str] = field(default_factory=set)

    @property
    def threads(self) -> int:
        """Return how many threads were adopted."""
        return sum(self.adopted.values())

    def note_unjudged(self, thread_id: str, _: ErrorReport) -> None:
        """Remember a thread that could not be judged."""
        self.unjudged.add(thread_id)

    def add_found(self, update: CaseUpdate) -> None:
        """Count a thread that can be adopted."""
        at = update.last_activity_at
        found = self.found.setdefault(update.workflow or "", Adoptable(at, at))
        found.oldest, found.newest, found.threads = min(found.oldest, at), max(found.newest, at), found.threads + 1


@dataclass(frozen=True, slots=True)
class Adoption:
    """One adoption: what it asks of the database, by which rules, and what it has found and done so far.

    `tell` is called with the report again and again, as progress.
    """

    session: Session
    rules: SweepRules
    command: OperatorCommand
    request: AdoptionRequest
    tell: Callable[[AdoptionReport], None] = lambda _: None
    report: AdoptionReport = field(default_factory=AdoptionReport)

    async def find(self) -> None:
        """Count what can be adopted, by workflow; changes nothing."""
        async for page in self._pages(self.request.workflow):
            for update in page:
                self.report.add_found(update)
            self.tell(self.report)

    async def adopt(self) -> None:
        """Adopt what `find` has found, a workflow after the other, in batches that its attempts keep up with.

        Where one is paused, fails or has no replica the rest of it is left, and the next workflow's turn comes. Raises
        ResumedError where another adoption is at work: each would take the room that the other leaves.
        """
        if not await locks.try_key(self.session, ADOPTION_KEY):
            message = "another `resumed adopt` is at work in this database: run it again when that has ended"
            raise ResumedError(message)
        for workflow in sorted(self.report.found):
            if not self._room_left():
                return
            if stopped := await self._adopt_workflow(workflow):
                self.report.stopped[workflow] = stopped

    async def _adopt_workflow(self, workflow: str) -> Hindrance | None:
        busy_at = time.monotonic()
        async for page in self._pages(workflow):
            waiting = [update.thread_id for update in page]
            while waiting and self._room_left():
                load = await self._load(workflow)
                busy_at = time.monotonic() if load.attempts or not load.due else busy_at
                if why := hindrance(load, timedelta(seconds=time.monotonic() - busy_at)):
                    return why
                room = min(batch_room(load), self._room_left())
                batch, waiting = waiting[:room], waiting[room:]
                if batch:
                    adopted = await self._adopt_batch(batch)
                    self.report.adopted[workflow] = self.report.adopted.get(workflow, 0) + len(adopted)
                else:
                    await asyncio.sleep(_WAIT.total_seconds())
                self.tell(self.report)
            if not self._room_left():
                break
        return None

    def _room_left(self) -> int:
        limit = self.request.limit
        return _PAGE_ROWS if limit is None else limit - self.report.threads

    async def _pages(self, workflow: str | None) -> AsyncIterator[list[CaseUpdate]]:
        """Judge the threads whose newest checkpoint lies in the window, page by page; yields those to be adopted."""
        context = await self._judging_context()
        window = _window(context, self.request.since)
        async for page in checkpoints.window_pages(self.session, window, _PAGE_ROWS, only_ends=True):
            threads = [thread for thread in page.threads if thread not in self.report.unjudged]
            found = await assess(self.session, context, threads, await cases.of_threads(self.session, threads))
            updates = [update for update, _ in found.judged.values() if _is_adoptable(update)]
            yield [update for update in updates if workflow in (None, update.workflow)]

    async def _judging_context(self) -> SweepContext:
        context = await build_sweep_context(self.session, self.rules)
        return replace(context, on_unjudged=self.report.note_unjudged)

    async def _load(self, workflow: str) -> WorkflowLoad:
        session = self.session
        context = await self._judging_context()
        circuit = (await attempts.circuit_records(session, [workflow]))[workflow]
        paused = covering_pause(await pauses.current_pauses(session), workflow) is not None
        live = any(one.name == workflow and context.now - one.seen_at < LIVE_FOR for one in context.registrations)
        due = await case_commands.count_due(session, workflow)
        return WorkflowLoad(due, circuit.open, paused, is_open(circuit.ended), live)

    async def _adopt_batch(self, threads: Sequence[str]) -> set[str]:
        """Make these threads due in one transaction with its audit; returns those that still could be adopted."""
        session = self.session
        async with session.transaction():
            context = await self._judging_context()
            await case_commands.lock(session, threads)
            known = await cases.of_threads(session, threads)
            found = await assess(session, context, threads, known)
            adopted = []
            for thread, (update, circumstances) in sorted(found.judged.items()):
                if _is_adoptable(update):
                    ages = Ages(circumstances.ages.min_age, timedelta.max)
                    decided = decide_case(found.seen[thread], replace(circumstances, ages=ages))
                    adopted.append((decided, known.get(thread)))
            written = await cases.record(session, adopted, context.now)
            await case_commands.backdate(session, sorted(written))
            await audit.write(session, [self.command.entry(Act.ADOPT, thread) for thread in sorted(written)])
        return written


def _is_adoptable(update: CaseUpdate) -> bool:
    """Return whether nothing but its age keeps the thread from being resumed."""
    return update.judgement.verdict is Verdict.EXPIRED and update.placement.state is State.HELD


def _window(context: SweepContext, since: timedelta) -> tuple[str, str]:
    """Return the ids between which the newest checkpoint of a thread that is too old lies."""
    shortest = min([context.rules.defaults.max_age, *(one.numbers.max_age for one in context.registrations)])
    first = ""
    with suppress(OverflowError, ValueError):  # longer ago than any id can tell
        first = first_at(context.now - since)
    return first, first_at(context.now - shortest)
