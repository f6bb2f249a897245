"""Pauses and unpauses because a person says so, each in one transaction with its audit entry."""

from dataclasses import dataclass

from resumed.store import audit, pauses, workflow_versions
from resumed.store.audit import Act, Entry
from resumed.store.connection import Session
from resumed.store.pauses import EVERYTHING, Pause


@dataclass(frozen=True, slots=True)
class PauseResult:
    """What became of it: the sentence that says so, whether it was done, whether the workflow is paused now."""

    workflow: str
    said: str
    done: bool = True
    paused: bool = True
    warning: str | None = None


async def pause_workflow(session: Session, workflow: str, actor: str, reason: str) -> PauseResult:
    """Pause a workflow, or everything where the name is empty."""
    async with session.transaction():
        stood = await pauses.pause(session, workflow, actor, reason)
        await audit.write(session, [Entry(actor, Act.PAUSE, workflow=workflow or None, reason=reason)])
        now = pauses.covering_pause(await pauses.current_pauses(session), workflow)
        warning = await _doubt(session, workflow)
    what = pauses.subject(workflow)
    said = f"{what} was paused before; the reason is now yours" if stood else f"{what} is paused"
    if now is not None and now.workflow != workflow:
        said = f"{said}; {now}"
    return PauseResult(workflow, said, warning=warning)


async def unpause_workflow(session: Session, workflow: str, actor: str) -> PauseResult:
    """End the pause of a workflow, or the one of everything where the name is empty."""
    async with session.transaction():
        done = await pauses.unpause(session, workflow, actor)
        if done:
            await audit.write(session, [Entry(actor, Act.UNPAUSE, workflow=workflow or None)])
        standing = await pauses.current_pauses(session)
    said = f"{pauses.subject(workflow)} is {'paused no longer' if done else 'not paused by itself'}"
    still = [one for one in standing if EVERYTHING in (workflow, one.workflow)]
    paused = pauses.covering_pause(standing, workflow) is not None
    return PauseResult(workflow, f"{said}{_still(still)}", done=done, paused=paused)


def _still(standing: list[Pause]) -> str:
    return "".join(f"; but {one}" for one in standing)


async def _doubt(session: Session, workflow: str) -> str | None:
    """A name that nobody has registered may live elsewhere, or be mistyped."""
    if workflow == EVERYTHING or workflow in {one.name for one in await workflow_versions.known_versions(session)}:
        return None
    return f"no replica has told of a workflow {workflow!r} in the last thirty days: is the name right?"
