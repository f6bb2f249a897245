"""Owns the table of pauses, the kill switch that every replica obeys. Stops nothing itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

EVERYTHING = ""

_SQL = load_sql("pauses")


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause in force: of one workflow, or of all where the name is empty; who asked for it, and why."""

    workflow: str
    actor: str
    reason: str
    since: datetime

    def __str__(self) -> str:
        """Return what is paused, since when, by whom and why."""
        since = f"{self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"{subject(self.workflow)} is paused since {since} by {self.actor}: {self.reason}"


def subject(workflow: str) -> str:
    """Return in words what a pause of this name is about."""
    return f"the workflow {workflow!r}" if workflow != EVERYTHING else "everything"


async def pause(session: Session, workflow: str, actor: str, reason: str) -> bool:
    """Pause a workflow, or all; return whether it was paused before."""
    parameters = {"workflow": workflow, "actor": actor, "reason": reason}
    return bool((await one_row(session, _SQL["pause"], parameters))["stood"])


async def unpause(session: Session, workflow: str, actor: str) -> bool:
    """End a pause; return whether there was one."""
    cursor = await session.execute(_SQL["unpause"], {"workflow": workflow, "actor": actor})
    return await cursor.fetchone() is not None


async def current_pauses(session: Session) -> list[Pause]:
    """Read the pauses in force, the one of everything first."""
    return [Pause(**row) async for row in await session.execute(_SQL["in_force"])]


def covering_pause(pauses: Iterable[Pause], workflow: str | None) -> Pause | None:
    """Return the pause that stops attempts on a workflow's threads, the one of everything before its own."""
    found = {pause.workflow: pause for pause in pauses if pause.workflow in (EVERYTHING, workflow)}
    return found.get(EVERYTHING) or found.get(workflow or EVERYTHING)
