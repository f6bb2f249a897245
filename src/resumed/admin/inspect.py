"""Judges threads for people by the rows, rules and graphs of a sweep and a preflight. It writes and locks nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from resumed.daemon.service import Service
from resumed.daemon.sweep import PAGE_ROWS
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.daemon.worker_replies import NotInspectedError
from resumed.errors import ResumedError
from resumed.judge.case import CaseUpdate, action, place_case
from resumed.judge.checkpoint_id import first_at, plausible_span
from resumed.judge.evidence import evidence
from resumed.judge.verdict import Circumstances, ThreadSnapshot, needs_graph
from resumed.model import Action, Attempt, Case, Judgement, State, Verdict
from resumed.observability.redaction import ErrorReport
from resumed.operations.assess import SweepContext, assess, build_sweep_context, with_own_registrations
from resumed.store import attempts, audit, cases, checkpoints, pauses, runs, schema, watermark
from resumed.store.connection import Session, open_session
from resumed.store.pauses import Pause
from resumed.workers.pool import WorkerPool
from resumed.workers.protocol import InspectThread

_INSPECTION_LIMIT = timedelta(seconds=30)
_AHEAD = timedelta(days=1)
_LONGEST_ID = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One thread as `scan` and `show` report it; `evidence` is what the verdict is based on."""

    update: CaseUpdate
    action: Action
    case: Case | None
    evidence: tuple[str, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """Return the documented fields of one thread."""
        judgement, placement = self.update.judgement, self.update.placement
        return {
            "thread_id": self.update.thread_id,
            "workflow": self.update.workflow,
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "head": self.update.head,
            "last_activity": _text(self.update.last_activity_at),
            "action": self.action.value,
            "due_at": _text(placement.due_at),
        }


@dataclass(frozen=True, slots=True)
class AssessedThread:
    """One thread as judged by its rows."""

    update: CaseUpdate
    circumstances: Circumstances
    snapshot: ThreadSnapshot
    known: Case | None


@dataclass(frozen=True, slots=True)
class Inspector:
    """Judges threads with the graphs that this process's workers have.

    `unjudged` maps the threads that it could not judge to the reason.
    """

    session: Session
    sweep_context: SweepContext
    monitor: WorkerMonitor
    pool: WorkerPool
    paused: tuple[Pause, ...] = ()
    unjudged: dict[str, str] = field(default_factory=dict)

    async def find_unfinished(self, workflow: str | None = None) -> AsyncGenerator[Finding, None]:
        """Judge the unfinished threads that a sweep would see one after the other, the longest quiet first.

        A caller may stop early: later threads are then not judged. Only a few pages are in memory.
        """
        rules, now = self.sweep_context.rules, self.sweep_context.now
        first = now - rules.defaults.max_age
        position = await watermark.watermark_position(self.session) or first
        window = first_at(min(position, first) - rules.clock_tolerance), first_at(now + _AHEAD)
        timeless = await checkpoints.threads_without_time(self.session, plausible_span(now))
        abandoned = [thread async for page in runs.abandoned_runs(self.session, PAGE_ROWS) for thread in page]
        outside_time = frozenset({*timeless, *abandoned})
        yielded: set[str] = set()
        streams = (
            self._threads_without_window(outside_time),
            self._cases_outside(window, outside_time),
            self._threads_inside(window, outside_time),
        )
        async for seen in _merge(*streams):
            update = seen.update
            if update.thread_id in yielded or workflow not in (None, update.workflow):
                continue
            found = await self._judge_with_graph(seen)
            if found.update.judgement.verdict is not Verdict.FINISHED:
                yielded.add(update.thread_id)
                yield found

    async def judge(self, threads: Sequence[str]) -> list[Finding]:
        """Judge these threads by rows, then by values and graph; those without a checkpoint are left out."""
        return [await self._judge_with_graph(thread) for thread in await self._judge_by_rows(threads)]

    async def judge_one(self, thread_id: str) -> Finding:
        """Judge one thread. Raises ResumedError where there is none, or where its rows cannot be judged."""
        found = await self.judge([thread_id])
        if found:
            return found[0]
        if thread_id in self.unjudged:
            message = f"its rows raised {self.unjudged[thread_id]}: correct or delete what it saved"
            raise ResumedError(f"the thread {thread_id[:_LONGEST_ID]!r} cannot be judged, {message}")
        message = f"there is no thread {thread_id[:_LONGEST_ID]!r} in the database"
        raise ResumedError(f"{message}: check the id, the address and RESUMED_CHECKPOINT_SCHEMA")

    async def _judge_by_rows(self, threads: Sequence[str]) -> list[AssessedThread]:
        """Judge these threads by their rows alone, the longest quiet first."""
        known = await cases.of_threads(self.session, threads)
        sweep_context = replace(self.sweep_context, on_unjudged=self._on_unjudged)
        found = await assess(self.session, sweep_context, threads, known)
        seen = [AssessedThread(*one, found.seen[thread], known.get(thread)) for thread, one in found.judged.items()]
        return sorted(seen, key=_quiet_since)

    async def _judge_with_graph(self, seen: AssessedThread) -> Finding:
        found, known = seen.update, seen.known
        judgement = await self._ask_worker(found) if needs_graph(found.judgement) else None
        if judgement is not None:
            found = replace(found, judgement=judgement, placement=place_case(judgement, seen.circumstances))
        if known is not None and known.state is State.RUNNING and found.placement.state is State.RUNNING:
            found = replace(found, placement=replace(found.placement, due_at=None))
        what = action(found.judgement, found.placement)
        if what is Action.RESUME and pauses.covering_pause(self.paused, found.workflow):
            what = Action.WAIT
        triggers = [trigger for version in seen.circumstances.match.registrations for trigger in version.triggers]
        lines = evidence(seen.snapshot, found.judgement, triggers)
        kept_out = found.placement.quarantine_reason
        return Finding(found, what, known, (*lines, f"in quarantine: {kept_out}") if kept_out else lines)

    def _on_unjudged(self, thread_id: str, error: ErrorReport) -> None:
        self.unjudged[thread_id] = error.error_type

    async def _ask_worker(self, found: CaseUpdate) -> Judgement | None:
        """Have a worker judge the thread by values and graph; a worker that cannot leaves it unjudged."""
        if found.workflow is None or not self.pool.request(InspectThread(found.thread_id, found.workflow)):
            return None
        try:
            async with asyncio.timeout(_INSPECTION_LIMIT.total_seconds()):
                return await self.monitor.replies.inspection(found.thread_id)
        except (TimeoutError, NotInspectedError) as error:
            self.unjudged[found.thread_id] = str(error) or "no worker answered in time"
            return None

    async def _threads_without_window(self, threads: AbstractSet[str]) -> AsyncIterator[AssessedThread]:
        """Judge threads that no window shows: their ids hold no time, or their run was only registered."""
        ordered = sorted(threads)
        for start in range(0, len(ordered), PAGE_ROWS):
            for seen in await self._judge_by_rows(ordered[start : start + PAGE_ROWS]):
                yield seen

    async def _cases_outside(
        self, window: tuple[str, str], excluded: AbstractSet[str]
    ) -> AsyncIterator[AssessedThread]:
        """Judge open cases whose threads have no checkpoint in the window."""
        beyond: tuple[datetime, str] | None = None
        while page := await checkpoints.cases_outside(self.session, window, beyond, PAGE_ROWS):
            for seen in await self._judge_by_rows([thread for _, thread in page if thread not in excluded]):
                yield seen
            beyond = page[-1]

    async def _threads_inside(
        self, window: tuple[str, str], excluded: AbstractSet[str]
    ) -> AsyncIterator[AssessedThread]:
        """Judge the threads of the window, each in the page of its newest checkpoint."""
        async for page in checkpoints.window_pages(self.session, window, PAGE_ROWS, only_ends=True):
            for seen in await self._judge_by_rows([thread for thread in page.threads if thread not in excluded]):
                yield seen


@asynccontextmanager
async def open_inspector(service: Service) -> AsyncIterator[Inspector]:
    """Start this process's workers, whose workflows count as live, and inspect with them for the length of a block."""
    try:
        async with open_session(service.target, "resumed survey") as session:
            await schema.check(session, writing=False)
            await service.start_workers()
            sweep_context = await build_sweep_context(session, service.context.rules)
            sweep_context = with_own_registrations(sweep_context, service.monitor.workflows.registrations.values())
            paused = tuple(await pauses.current_pauses(session))
            yield Inspector(session, sweep_context, service.monitor, service.pool, paused)
    finally:
        await service.close()


async def _merge(*streams: AsyncIterator[AssessedThread]) -> AsyncIterator[AssessedThread]:
    """Merge streams that each have their longest quiet thread first."""
    heads = {number: head for number, one in enumerate(streams) if (head := await anext(one, None)) is not None}
    while heads:
        number = min(heads, key=lambda stream: _quiet_since(heads[stream]))
        yield heads.pop(number)
        if (head := await anext(streams[number], None)) is not None:
            heads[number] = head


def _quiet_since(seen: AssessedThread) -> datetime:
    return seen.update.last_activity_at


async def thread_history(session: Session, thread_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a thread's attempts and its newest checkpoints, as `show` reports them."""
    tried = [_attempt_fields(attempt) for attempt in await attempts.of_thread(session, thread_id)]
    return tried, await checkpoints.history(session, thread_id, 50)


async def thread_audit(session: Session, thread_id: str) -> list[dict[str, Any]]:
    """Read what people asked for on a thread, as `show` reports it."""
    return [
        {"at": _text(one.at), "actor": one.actor, "action": one.action, "reason": one.reason, "via": one.via}
        for one in await audit.of_thread(session, thread_id)
    ]


def case_fields(case: Case) -> dict[str, Any]:
    """Return an open case as `threads` reports it."""
    return {
        "thread_id": case.thread_id,
        "workflow": case.workflow,
        "verdict": case.verdict.value,
        "reason": case.quarantine_reason or case.reason,
        "state": case.state.value,
        "head": case.head,
        "last_activity": _text(case.last_activity_at),
        "due_at": _text(case.due_at),
        "attempts": case.attempts,
    }


def _attempt_fields(one: Attempt) -> dict[str, Any]:
    return {
        "attempt": one.attempt,
        "started_at": _text(one.started_at),
        "finished_at": _text(one.finished_at),
        "outcome": one.outcome.value if one.outcome else None,
        "error_type": one.error_type,
        "error": one.error,
        "before": one.before,
        "after": one.after,
        "worker": one.worker,
    }


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
