"""The kill switch: `pause`, `unpause`. It is kept in the database, and every replica obeys it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from resumed.cli import given
from resumed.cli.context import prepared, run
from resumed.cli.output import document, line, readable
from resumed.cli.reading import Json
from resumed.daemon import pausing
from resumed.daemon.pausing import Switched
from resumed.store import schema
from resumed.store.connect import Session, Target, opened

Reason = Annotated[str, typer.Option("--reason", help="Why, in your words; shown to whoever looks, never logged.")]
Workflow = Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="A workflow; without it, everything.")]


def pause(reason: Reason, workflow: Workflow = None, as_json: Json = False) -> None:
    """Begin no attempt on any replica, and end those that run at their next superstep; nothing is charged."""
    name, actor, why = given.workflow_argument(workflow), given.actor(), given.reason(reason)
    _tell(run(_pause(name, actor, why)), as_json=as_json)


def unpause(workflow: Workflow = None, as_json: Json = False) -> None:
    """End a pause. Exit 1 where there was none; a pause of everything and one of a workflow end each by itself."""
    _tell(run(_unpause(given.workflow_argument(workflow), given.actor())), as_json=as_json)


async def _pause(workflow: str, actor: str, reason: str) -> Switched:
    async with acting_session() as session:
        return await pausing.pause(session, workflow, actor, reason)


async def _unpause(workflow: str, actor: str) -> Switched:
    async with acting_session() as session:
        return await pausing.unpause(session, workflow, actor)


@asynccontextmanager
async def acting_session() -> AsyncIterator[Session]:
    """Open a session in which a person acts."""
    settings, _ = prepared(quiet=True)
    async with opened(Target(settings.dsn, settings.checkpoint_schema), "resumed command") as session:
        await schema.check(session)
        yield session


def _tell(switched: Switched, *, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {"workflow": switched.workflow or None, "done": switched.done}
        document({**told, "paused": switched.paused, "said": switched.said})
    else:
        line(readable(switched.said, 2 * given.LONGEST_REASON))
    if switched.warning is not None:
        typer.echo(f"resumed: {readable(switched.warning)}", err=True)
    if not switched.done:
        raise typer.Exit(1)
