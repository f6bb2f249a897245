"""Surveys which threads of a database are dead, by LangGraph's rows alone. It only reads, and needs only SELECT.

Each thread is judged as a sweep would judge it by its rows. Beyond 200 000 threads a sample is read, each thread as
likely as any other, so that time and memory stay bounded however many checkpoints there are.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any

from resumed.errors import DatabaseUnusableError
from resumed.judge.checkpoint_id import made_at
from resumed.judge.step_durations import StepMark, longest_step
from resumed.judge.survey import Group, Status, error_class, group_of, has_error, prefix_of, survey_thread, workflow_of
from resumed.judge.verdict import ThreadSnapshot
from resumed.store import checkpoints, locks, schema, statistics, watermark
from resumed.store import survey as store
from resumed.store.connection import Session, Target, open_session
from resumed.store.survey import Relation, Span

MOST_THREADS = 200_000
_SAMPLE = 100_000
_PAGE = 2000
_LEARN_FROM = 100
_TIME_LIMIT = timedelta(minutes=2)
_GROWTH_PERIOD = timedelta(days=7)
_THREADS_PER_SECOND = 6000  # threads, for the forecast before the first page has been timed


class By(StrEnum):
    """What threads are grouped by."""

    PREFIX = "prefix"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a survey is: threads read, of about how many, and what the forecast says in a sentence."""

    read: int
    expected: int
    forecast: str


Report = Callable[[Progress], None]


@dataclass(slots=True)
class Survey:
    """What a survey found. `fraction` is the share of the threads that was read; `begun` counts recent first saves."""

    groups: dict[str, Group] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    fraction: float = 1.0
    read: int = 0
    older: int = 0
    begun: int = 0

    @property
    def threads_a_day(self) -> float:
        """How many new threads there were a day in the last week."""
        return self.begun / self.fraction / (_GROWTH_PERIOD / timedelta(days=1))

    @property
    def bytes_a_day(self) -> float:
        """By how much the tables grow a day, if new threads are like those there are."""
        threads = (self.read + self.older) / self.fraction
        return sum(relation.bytes for relation in self.relations) * self.threads_a_day / threads if threads else 0.0

    def as_fields(self) -> dict[str, Any]:
        """Return the documented figures."""
        named = sorted(self.groups.items(), key=lambda pair: (-sum(pair[1].counts.values()), pair[0]))
        return {
            "groups": [group.as_fields(name, self.fraction) for name, group in named],
            "tables": {relation.name: {"rows": relation.rows, "bytes": relation.bytes} for relation in self.relations},
            "sampled": False if self.fraction == 1.0 else round(self.fraction, 6),
        }


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a survey: threads that saved since `since`, grouped by `by`; `min_age` makes one not recent."""

    since: timedelta
    by: By
    min_age: timedelta


def _ignore_progress(_: Progress) -> None:
    """Report nothing."""


async def survey(target: Target, question: Question, report: Report = _ignore_progress) -> Survey:
    """Look at all threads, or at a sample of them. Raises DatabaseError.

    `report` is called with a forecast before the first page, and after each.
    """
    async with open_session(target, "resumed survey") as session:
        await session.execute("select set_config('default_transaction_read_only', 'on', false)")
        if missing := await schema.missing_tables(session):
            message = (
                f"LangGraph's tables are not in the schema {target.schema!r} ({', '.join(missing)} missing): "
                "name theirs with RESUMED_CHECKPOINT_SCHEMA"
            )
            raise DatabaseUnusableError(message)
        relations = await store.relations(session)
        of_checkpoints = next(relation for relation in relations if relation.name == "checkpoints")
        expected = await store.estimated_threads(session, of_checkpoints)
        surveyor = _Surveyor(session, question, await watermark.database_clock(session), report)
        if expected <= MOST_THREADS and await surveyor.read_all(expected):
            surveyor.found.relations = relations
            return surveyor.found
        # More than the planner estimated, or too slow: start again with a sample.
        sampled = _Surveyor(session, question, surveyor.now, report)
        await sampled.read_sample(max(expected, surveyor.found.read + 1))
        sampled.found.relations = relations
        return sampled.found


@dataclass(slots=True)
class _Surveyor:
    """One pass over threads; `learnt` counts, for each group, the finished threads whose steps were measured."""

    session: Session
    question: Question
    now: datetime
    report: Report
    found: Survey = field(default_factory=Survey)
    learnt: Counter[str] = field(default_factory=Counter)

    async def read_all(self, expected: int) -> bool:
        """Read every thread; return False if there are too many, or the time is over."""
        began = time.monotonic()
        self._report(expected, "every thread", expected)
        after: str | None = None
        while spans := await store.page(self.session, after, _PAGE):
            after = list(spans)[-1]
            await self._read(spans)
            self._report(max(expected, self.found.read), "every thread", expected)
            over = time.monotonic() - began > _TIME_LIMIT.total_seconds()
            if over or self.found.read + self.found.older > 2 * MOST_THREADS:
                return False
        return True

    async def read_sample(self, expected: int) -> None:
        """Read about a hundred thousand of the threads."""
        self.found.fraction = min(_SAMPLE / expected, 1.0)
        self._report(_SAMPLE, f"a sample of {self.found.fraction:.1%} of the threads", _SAMPLE)
        threads = await store.sample(self.session, 100 * self.found.fraction, 2 * _SAMPLE)
        for start in range(0, len(threads), _PAGE):
            await self._read(await store.ages(self.session, threads[start : start + _PAGE]))
            self._report(len(threads), f"a sample of {self.found.fraction:.1%} of the threads", len(threads))

    def _report(self, expected: int, what: str, threads: int) -> None:
        seconds = max(round(threads / _THREADS_PER_SECOND), 1)
        self.report(
            Progress(self.found.read + self.found.older, expected, f"reads {what}: about {seconds} s and 100 MiB")
        )

    async def _read(self, spans: Mapping[str, Span]) -> None:
        wanted = self._saved_since(spans)
        snapshots = await checkpoints.threads_without_run(self.session, wanted)
        held = await locks.held_threads(self.session, wanted)
        errors = await self._errors(snapshots)
        finished: dict[str, Group] = {}
        for thread_id, snapshot in snapshots.items():
            name = workflow_of(snapshot) if self.question.by is By.WORKFLOW else prefix_of(thread_id)
            group = group_of(self.found.groups, name)
            thread = survey_thread(
                snapshot,
                self.now,
                self.question.min_age,
                lock_held=thread_id in held,
                errors=errors.get(thread_id, ()),
            )
            group.add(thread)
            if thread.status is Status.FINISHED and self.learnt[name] < _LEARN_FROM:
                self.learnt[name] += 1
                finished[thread_id] = group
        self.found.read += len(snapshots)
        await self._learn(finished)

    def _saved_since(self, spans: Mapping[str, Span]) -> list[str]:
        """Return the threads that saved since `since`, with those whose ids hold no time."""
        since, recently = self.now - self.question.since, self.now - _GROWTH_PERIOD
        wanted = {name: one for name, one in spans.items() if (made_at(one.newest) or self.now) >= since}
        self.found.older += len(spans) - len(wanted)
        self.found.begun += sum((made_at(span.oldest) or since) >= recently for span in wanted.values())
        return list(wanted)

    async def _errors(self, snapshots: Mapping[str, ThreadSnapshot]) -> dict[str, list[str]]:
        heads = {name: one.head.checkpoint_id for name, one in snapshots.items() if has_error(one)}
        found: dict[str, list[str]] = {}
        for thread, said in await store.raised(self.session, heads) if heads else ():
            found.setdefault(thread, []).append(error_class(said))
        return found

    async def _learn(self, finished: Mapping[str, Group]) -> None:
        """Measure the steps of threads that have finished."""
        steps = await statistics.steps(self.session, list(finished)) if finished else []
        for thread, own in groupby(steps, lambda step: step.thread_id):
            marks = [StepMark(step.checkpoint_id, step.source == "input", step.ours, step.stood) for step in own]
            finished[thread].learn(longest_step(marks))
