"""One attempt now because a person asks for it: it waits for no back-off and no silence, and overrules nothing else."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from resumed.admin.inspect import Finding, Inspector, open_inspector
from resumed.daemon.service import Service
from resumed.errors import ResumedError
from resumed.model import NEEDS_A_PERSON, Act, Attempt, State, Verdict, Via
from resumed.store import audit, cases, locks, pauses
from resumed.store.audit import Entry
from resumed.workers.protocol import RequestResult

_POLL = 0.02


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """What came of it: an outcome, `busy`, `paused` or the verdict that forbids it; why; the attempt if any."""

    outcome: str
    reason: str
    attempt: Attempt | None = None


async def resume_thread(service: Service, thread_id: str, actor: str, *, force: bool) -> ResumeResult:
    """Try one thread in the foreground; `force` also takes it out of quarantine. Raises ResumedError."""
    finished = service.monitor.collect_finished()
    async with open_inspector(service) as inspector, service.applying_stop_requests():
        found = await inspector.judge_one(thread_id)
        if paused := await _check_pause(inspector, found):
            return paused
        if thread_id in await locks.held_threads(inspector.session, [thread_id]):
            return ResumeResult("busy", "an application or a replica holds the thread's lock: it is running the thread")
        if refusal := _refusal(found, force=force):
            return ResumeResult(found.update.judgement.verdict.value, refusal)
        if not await _make_due(inspector, found, service.context.claimant, actor):
            return ResumeResult("busy", "it was cancelled or put into quarantine at this moment: see `resumed show`")
        await _run(service, found)
        attempts = [attempt for attempt in finished if attempt.thread_id == thread_id]
        return await _result(service, inspector, thread_id, attempts)


async def _check_pause(inspector: Inspector, found: Finding) -> ResumeResult | None:
    """Return the refusal if the workflow is paused: a pause holds for a person too."""
    pause = pauses.covering_pause(await pauses.current_pauses(inspector.session), found.update.workflow)
    return ResumeResult("paused", f"{pause}; it is not resumed before `resumed unpause`") if pause is not None else None


async def _make_due(inspector: Inspector, found: Finding, claimant: str, actor: str) -> bool:
    """Make the case due, and record who took it out of quarantine."""
    pinned = found.case is not None and found.case.pinned
    async with inspector.session.transaction():
        made = await cases.make_due(inspector.session, found.update, claimant, known=found.case, pinned=pinned)
        if made and found.update.placement.state is State.QUARANTINED:
            entry = Entry(actor, Act.RESUME, found.update.thread_id, via=Via.CLI)
            await audit.write(inspector.session, [entry])
    return made


def _refusal(found: Finding, *, force: bool) -> str | None:
    """Return why the thread is not resumed even though a person asks for it; None if it is."""
    judgement = found.update.judgement
    if judgement.verdict in NEEDS_A_PERSON or judgement.verdict is Verdict.CANCELLED:
        return f"it is {judgement.verdict.value}: {judgement.reason}; that is for a person to decide"
    if judgement.verdict in (Verdict.FINISHED, Verdict.UNCLAIMED, Verdict.INCOMPATIBLE):
        return f"it is {judgement.verdict.value}: {judgement.reason}"
    if found.update.placement.state is State.QUARANTINED and not force:
        reason = found.update.placement.quarantine_reason
        return f"it is in quarantine: {reason}; --force releases it"
    if judgement.until is not None and not force:
        return f"it may still be running: {judgement.reason}; --force does not wait"
    return None


async def _run(service: Service, found: Finding) -> None:
    thread_id, workflow = found.update.thread_id, found.update.workflow
    if workflow is None or not service.pool.submit(thread_id, workflow, asked=True):
        why = service.monitor.workflows.unavailable.get(workflow or "", "run this where its code is installed")
        message = f"no worker here has the workflow {workflow!r}: {why}"
        raise ResumedError(message)
    while thread_id in service.pool.inflight_threads():
        await asyncio.sleep(_POLL)
    await service.recovery.run_once()


async def _result(service: Service, inspector: Inspector, thread_id: str, attempts: Sequence[Attempt]) -> ResumeResult:
    if attempts and attempts[-1].outcome is not None:
        return ResumeResult(attempts[-1].outcome.value, attempts[-1].error or "", attempts[-1])
    if service.monitor.results[RequestResult.BUSY]:
        return ResumeResult("busy", "another process took the thread's lock first")
    after = await inspector.judge_one(thread_id)
    if paused := await _check_pause(inspector, after):
        return paused
    return ResumeResult(after.update.judgement.verdict.value, after.update.judgement.reason)
