"""One attempt because a person asks for it, now: no back-off, no silence waited for, and nothing else overruled."""

import asyncio
from dataclasses import dataclass

from resumed.admin.inspect import Finding, Inspector, open_inspector
from resumed.daemon.service import Service
from resumed.errors import ResumedError
from resumed.model import Attempt, State, Verdict
from resumed.store import audit, cases, locks, pauses
from resumed.store.audit import Act, Entry

_PERSONS = (Verdict.WAITING, Verdict.BREAKPOINT, Verdict.EDITED, Verdict.CANCELLED)
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """What came of it: a word (an outcome, `busy` or the verdict that forbade it), a sentence, the attempt if any."""

    outcome: str
    reason: str
    attempt: Attempt | None = None


async def resume_thread(service: Service, thread_id: str, actor: str, *, force: bool) -> ResumeResult:
    """Try one thread in the foreground; `force` also takes it out of quarantine. Raises ResumedError."""
    service.monitor.keeps_endings = True
    async with open_inspector(service) as inspector, service.heeding():
        found = await _judged(inspector, thread_id)
        if paused := await _paused(inspector, found):
            return paused
        held = await locks.held_threads(inspector.session, [thread_id])
        if thread_id in held:
            return ResumeResult("busy", "somebody holds the thread's lock")
        if refusal := _refusal(found, force=force):
            return ResumeResult(found.standing.judgement.verdict.value, refusal)
        if not await _made_due(inspector, found, service.rounds.claimant, actor):
            return ResumeResult("busy", "somebody cancelled it or put it into quarantine at this moment")
        await _handed_out(service, found)
        return await _result(service, inspector, thread_id)


async def _paused(inspector: Inspector, found: Finding) -> ResumeResult | None:
    """A pause holds for a person too; to pass it by would make it worth nothing."""
    pause = pauses.covering_pause(await pauses.current_pauses(inspector.session), found.standing.workflow)
    return ResumeResult("paused", f"{pause}; it is not resumed before `resumed unpause`") if pause is not None else None


async def _made_due(inspector: Inspector, found: Finding, claimant: str, actor: str) -> bool:
    """Make the case due, and write down who took it out of quarantine."""
    pinned = found.case is not None and found.case.pinned
    async with inspector.session.transaction():
        made = await cases.make_due(inspector.session, found.standing, claimant, known=found.case, pinned=pinned)
        if made and found.standing.placement.state is State.QUARANTINED:
            await audit.write(inspector.session, [Entry(actor, Act.RESUME, found.standing.thread_id)])
    return made


async def _judged(inspector: Inspector, thread_id: str) -> Finding:
    found = await inspector.judge([thread_id])
    if not found and thread_id in inspector.unjudged:
        message = f"the thread cannot be judged: {inspector.unjudged[thread_id]}"
        raise ResumedError(message)
    if not found:
        message = "there is no thread of this name in the database"
        raise ResumedError(message)
    return found[0]


def _refusal(found: Finding, *, force: bool) -> str | None:
    """Say why not; None where a person's word is enough."""
    judgement = found.standing.judgement
    if judgement.verdict in _PERSONS:
        return f"it is {judgement.verdict.value}: {judgement.reason}; that is for a person to decide"
    if judgement.verdict in (Verdict.FINISHED, Verdict.UNCLAIMED, Verdict.INCOMPATIBLE):
        return f"it is {judgement.verdict.value}: {judgement.reason}"
    if found.standing.placement.state is State.QUARANTINED and not force:
        reason = found.standing.placement.quarantine_reason
        return f"it is in quarantine: {reason}; --force releases it"
    if judgement.until is not None and not force:
        return f"it may still be running: {judgement.reason}; --force does not wait"
    return None


async def _handed_out(service: Service, found: Finding) -> None:
    thread_id, workflow = found.standing.thread_id, found.standing.workflow
    if workflow is None or not service.pool.submit(thread_id, workflow, asked=True):
        why = service.monitor.unavailable.get(workflow or "", "run this where its code is installed")
        message = f"no worker here has the workflow {workflow!r}: {why}"
        raise ResumedError(message)
    while thread_id in service.pool.inflight():
        await asyncio.sleep(_PAUSE)
    await service.rounds.close()


async def _result(service: Service, inspector: Inspector, thread_id: str) -> ResumeResult:
    made = [one for one in service.monitor.endings if one.thread_id == thread_id]
    if made and made[-1].outcome is not None:
        return ResumeResult(made[-1].outcome.value, made[-1].error or "", made[-1])
    if service.monitor.handed.get("busy"):
        return ResumeResult("busy", "somebody took the thread's lock first")
    after = await _judged(inspector, thread_id)
    if paused := await _paused(inspector, after):
        return paused
    return ResumeResult(after.standing.judgement.verdict.value, after.standing.judgement.reason)
