"""The kill switch: `pause`, `unpause`. It is kept in the database, and every replica obeys it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from resumed.cli import arguments
from resumed.cli.context import prepare, run
from resumed.cli.inspect import Json
from resumed.cli.output import escape_text, print_json, print_line
from resumed.operations.pause import PauseResult, pause_workflow, unpause_workflow
from resumed.store import schema
from resumed.store.connection import Session, Target, open_session

Reason = Annotated[str, typer.Option("--reason", help="Why, in your words; shown to whoever looks, never logged.")]
Workflow = Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="A workflow; without it, everything.")]


def pause(reason: Reason, workflow: Workflow = None, as_json: Json = False) -> None:
    """Begin no attempt on any replica, and end those that run at their next superstep; nothing is charged."""
    name, actor, why = arguments.workflow_argument(workflow), arguments.current_actor(), arguments.reason_option(reason)
    _tell(run(_pause(name, actor, why)), as_json=as_json)


def unpause(workflow: Workflow = None, as_json: Json = False) -> None:
    """End a pause. Exit 1 where there was none; a pause of everything and one of a workflow end each by itself."""
    _tell(run(_unpause(arguments.workflow_argument(workflow), arguments.current_actor())), as_json=as_json)


async def _pause(workflow: str, actor: str, reason: str) -> PauseResult:
    async with acting_session() as session:
        return await pause_workflow(session, workflow, actor, reason)


async def _unpause(workflow: str, actor: str) -> PauseResult:
    async with acting_session() as session:
        return await unpause_workflow(session, workflow, actor)


@asynccontextmanager
async def acting_session() -> AsyncIterator[Session]:
    """Open a session in which a person acts."""
    settings, _ = prepare(quiet=True)
    async with open_session(Target(settings.dsn, settings.checkpoint_schema), "resumed command") as session:
        await schema.check(session)
        yield session


def _tell(switched: PauseResult, *, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {"workflow": switched.workflow or None, "done": switched.done}
        print_json({**told, "paused": switched.paused, "said": switched.said})
    else:
        print_line(escape_text(switched.said, 2 * arguments.LONGEST_REASON))
    if switched.warning is not None:
        typer.echo(f"resumed: {escape_text(switched.warning)}", err=True)
    if not switched.done:
        raise typer.Exit(1)
