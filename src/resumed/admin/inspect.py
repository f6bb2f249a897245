"""Judges threads for people: the same rows, rules and graphs as a sweep and a preflight, and not one write or lock."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from resumed.daemon.service import Service
from resumed.daemon.sweep import PAGE_ROWS
from resumed.daemon.worker_monitor import NotInspectedError, WorkerMonitor
from resumed.judge.case import CaseUpdate, action, place_case
from resumed.judge.checkpoint_id import first_at, plausible_span
from resumed.judge.evidence import evidence
from resumed.judge.verdict import Circumstances, ThreadSnapshot, needs_graph
from resumed.model import Action, Attempt, Case, Judgement, State, Verdict
from resumed.operations.assess import SweepContext, assess, build_sweep_context, with_own_registrations
from resumed.store import attempts, audit, cases, checkpoints, pauses, runs, schema, watermark
from resumed.store.connection import Session, open_session
from resumed.store.pauses import Pause
from resumed.workers.pool import WorkerPool

_INSPECTION_PATIENCE = timedelta(seconds=30)
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thread as `scan` and `show` tell of it."""

    standing: CaseUpdate
    action: Action
    case: Case | None
    evidence: tuple[str, ...] = ()

    def as_fields(self) -> dict[str, Any]:
        """Give the contract's fields of one thread."""
        judgement, placement = self.standing.judgement, self.standing.placement
        return {
            "thread_id": self.standing.thread_id,
            "workflow": self.standing.workflow,
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "head": self.standing.head,
            "last_activity": _text(self.standing.last_activity_at),
            "action": self.action.value,
            "due_at": _text(placement.due_at),
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """One thread as its rows show it."""

    standing: CaseUpdate
    circumstances: Circumstances
    snapshot: ThreadSnapshot
    known: Case | None


@dataclass(frozen=True, slots=True)
class Inspector:
    """Looks at threads with the graphs that this process's workers have.

    `unjudged` maps the threads that it saw and could not judge to the reason.
    """

    session: Session
    sweep_context: SweepContext
    monitor: WorkerMonitor
    pool: WorkerPool
    paused: tuple[Pause, ...] = ()
    unjudged: dict[str, str] = field(default_factory=dict)

    async def unfinished(self, workflow: str | None = None) -> AsyncGenerator[Finding, None]:
        """Judge the unfinished threads that a sweep would see one after the other, the longest quiet first.

        Whoever has enough stops: what is not asked for is not judged, and only a few pages are held.
        """
        window = await self._window()
        timeless = await checkpoints.threads_without_time(self.session, plausible_span(self.sweep_context.now))
        apart = frozenset({*timeless, *await runs.abandoned_runs(self.session)})
        given: set[str] = set()
        streams = (self._apart(apart), self._outside(window, apart), self._inside(window, apart))
        async for seen in _merged(*streams):
            standing = seen.standing
            if standing.thread_id in given or workflow not in (None, standing.workflow):
                continue
            found = await self._finding(seen)
            if found.standing.judgement.verdict is not Verdict.FINISHED:
                given.add(standing.thread_id)
                yield found

    async def judge(self, threads: Sequence[str]) -> list[Finding]:
        """Judge these threads, by rows and then by values and graph; those without a checkpoint are left out."""
        return [await self._finding(one) for one in await self._seen(threads)]

    async def _seen(self, threads: Sequence[str]) -> list[Seen]:
        """Judge these threads by their rows alone, the longest quiet first."""
        known = await cases.of_threads(self.session, threads)
        sweep_context = replace(self.sweep_context, on_trouble=self._troubled)
        looks = await assess(self.session, sweep_context, threads, known)
        seen = [Seen(*found, looks.seen[thread], known.get(thread)) for thread, found in looks.judged.items()]
        return sorted(seen, key=_quiet_since)

    async def _finding(self, seen: Seen) -> Finding:
        found, known = seen.standing, seen.known
        said = await self._inspected(found) if needs_graph(found.judgement) else None
        if said is not None:
            found = replace(found, judgement=said, placement=place_case(said, seen.circumstances))
        if known is not None and known.state is State.RUNNING and found.placement.state is State.RUNNING:
            found = replace(found, placement=replace(found.placement, due_at=None))
        what = action(found.judgement, found.placement)
        if what is Action.RESUME and pauses.covering_pause(self.paused, found.workflow):
            what = Action.WAIT
        return _proven(Finding(found, what, known), seen.snapshot, seen.circumstances)

    def _troubled(self, thread_id: str, report: Mapping[str, Any]) -> None:
        """Note a thread that could not be judged."""
        self.unjudged[thread_id] = str(report.get("error_type"))

    async def _inspected(self, found: CaseUpdate) -> Judgement | None:
        """Ask a worker for what values and graph say; a worker that cannot tell leaves the thread unjudged."""
        if found.workflow is None or not self.pool.ask(found.thread_id, found.workflow):
            return None
        try:
            async with asyncio.timeout(_INSPECTION_PATIENCE.total_seconds()):
                return await self.monitor.inspection(found.thread_id)
        except (TimeoutError, NotInspectedError) as error:
            self.unjudged[found.thread_id] = str(error) or "no worker answered in time"
            return None

    async def _window(self) -> tuple[str, str]:
        now, rules = self.sweep_context.now, self.sweep_context.rules
        first = now - rules.defaults.max_age
        position = await watermark.watermark_position(self.session) or first
        return first_at(min(position, first) - rules.clock_tolerance), first_at(now + _AHEAD)

    async def _apart(self, threads: AbstractSet[str]) -> AsyncIterator[Seen]:
        """Look at threads that the window cannot show: whose ids tell no time, and runs that were only registered."""
        ordered = sorted(threads)
        for start in range(0, len(ordered), PAGE_ROWS):
            for seen in await self._seen(ordered[start : start + PAGE_ROWS]):
                yield seen

    async def _outside(self, window: tuple[str, str], but: AbstractSet[str]) -> AsyncIterator[Seen]:
        """Look at open cases whose threads have no checkpoint in the window."""
        beyond: tuple[datetime, str] | None = None
        while page := await checkpoints.cases_outside(self.session, window, beyond, PAGE_ROWS):
            for seen in await self._seen([thread for _, thread in page if thread not in but]):
                yield seen
            beyond = page[-1]

    async def _inside(self, window: tuple[str, str], but: AbstractSet[str]) -> AsyncIterator[Seen]:
        """Look at the threads of the window, each in the page of its newest checkpoint."""
        async for page in checkpoints.window_pages(self.session, window, PAGE_ROWS, only_ends=True):
            for seen in await self._seen([thread for thread in page.threads if thread not in but]):
                yield seen


@asynccontextmanager
async def open_inspector(service: Service) -> AsyncIterator[Inspector]:
    """Open a survey with the workers of this process, whose workflows count as live; ends both afterwards."""
    try:
        async with open_session(service.target, "resumed survey") as session:
            await schema.check(session, writing=False)
            await service.ready_workers()
            sweep_context = await build_sweep_context(session, service.rounds.rules)
            sweep_context = with_own_registrations(sweep_context, service.monitor.registrations.values())
            paused = tuple(await pauses.current_pauses(session))
            yield Inspector(session, sweep_context, service.monitor, service.pool, paused)
    finally:
        await service.close()


async def _merged(*streams: AsyncIterator[Seen]) -> AsyncIterator[Seen]:
    """Merge streams of which each has its longest quiet thread first."""
    heads = {number: head for number, one in enumerate(streams) if (head := await anext(one, None)) is not None}
    while heads:
        number = min(heads, key=lambda one: _quiet_since(heads[one]))
        yield heads.pop(number)
        if (head := await anext(streams[number], None)) is not None:
            heads[number] = head


def _quiet_since(seen: Seen) -> datetime:
    return seen.standing.last_activity_at


def _proven(found: Finding, snapshot: ThreadSnapshot, circumstances: Circumstances) -> Finding:
    """Add what the verdict was made of, and why the case is kept out where it is."""
    triggers = [one for registration in circumstances.claim.registrations for one in registration.triggers]
    lines = evidence(snapshot, found.standing.judgement, triggers)
    kept_out = found.standing.placement.quarantine_reason
    return replace(found, evidence=(*lines, f"in quarantine: {kept_out}") if kept_out else lines)


async def thread_history(session: Session, thread_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a thread's attempts and its newest checkpoints in the form in which `show` tells of them."""
    tried = [_attempt_fields(one) for one in await attempts.of_thread(session, thread_id)]
    return tried, await checkpoints.history(session, thread_id, 50)


async def thread_audit(session: Session, thread_id: str) -> list[dict[str, Any]]:
    """Read what people asked for on a thread, in the form in which `show` tells of it."""
    return [
        {"at": _text(one.at), "actor": one.actor, "action": one.action.value, "reason": one.reason}
        for one in await audit.of_thread(session, thread_id)
    ]


def case_fields(case: Case) -> dict[str, Any]:
    """Give an open case in the form in which `threads` tells of it."""
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
