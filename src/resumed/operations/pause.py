"""Pauses and unpauses because a person says so, each in one transaction with its audit entry."""

from dataclasses import dataclass

from resumed.model import Act, Via
from resumed.store import audit, pauses, workflow_versions
from resumed.store.audit import Entry
from resumed.store.connection import Session
from resumed.store.pauses import EVERYTHING


@dataclass(frozen=True, slots=True)
class PauseResult:
    """What became of it: a sentence, whether it was done, whether the workflow is paused now."""

    workflow: str
    said: str
    done: bool = True
    paused: bool = True
    warning: str | None = None


async def pause_workflow(session: Session, workflow: str, actor: str, reason: str, *, via: Via) -> PauseResult:
    """Pause a workflow, or everything where the name is empty."""
    async with session.transaction():
        was_paused = await pauses.pause(session, workflow, actor, reason)
        await audit.write(session, [Entry(actor, Act.PAUSE, workflow=workflow or None, reason=reason, via=via)])
        pause = pauses.covering_pause(await pauses.current_pauses(session), workflow)
        warning = await _warn_unknown(session, workflow)
    what = pauses.subject(workflow)
    said = f"{what} was paused before; the reason is now yours" if was_paused else f"{what} is paused"
    if pause is not None and pause.workflow != workflow:
        said = f"{said}; {pause}"
    return PauseResult(workflow, said, warning=warning)


async def unpause_workflow(session: Session, workflow: str, actor: str, *, via: Via) -> PauseResult:
    """End the pause of a workflow, or the one of everything where the name is empty."""
    async with session.transaction():
        done = await pauses.unpause(session, workflow, actor)
        if done:
            await audit.write(session, [Entry(actor, Act.UNPAUSE, workflow=workflow or None, via=via)])
        current = await pauses.current_pauses(session)
    said = f"{pauses.subject(workflow)} is {'paused no longer' if done else 'not paused by itself'}"
    said += "".join(f"; but {pause}" for pause in current if EVERYTHING in (workflow, pause.workflow))
    paused = pauses.covering_pause(current, workflow) is not None
    return PauseResult(workflow, said, done=done, paused=paused)


async def _warn_unknown(session: Session, workflow: str) -> str | None:
    """Return a warning for a name that no replica has registered: it may be mistyped."""
    if workflow == EVERYTHING or workflow in {one.name for one in await workflow_versions.known_versions(session)}:
        return None
    return f"no replica has registered a workflow {workflow!r} in the last 30 days: check the name"
