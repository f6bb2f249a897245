"""The commands `pause` and `unpause`: a kill switch that is kept in the database and obeyed by every replica."""

from typing import Any

import typer

from resumed.cli import arguments
from resumed.cli.context import open_command_session, prepare, run
from resumed.cli.options import Json, OptionalWorkflow, Reason
from resumed.cli.output import escape_text, print_json, print_line
from resumed.operations.pause import PauseResult, pause_workflow, unpause_workflow


def pause(reason: Reason, workflow: OptionalWorkflow = None, as_json: Json = False) -> None:
    """Start no attempts of a workflow, or of any workflow, on any replica.

    Attempts that are running end at their next superstep; nothing is charged. Runs of the application are not affected.
    """
    name, actor = arguments.workflow_argument(workflow), arguments.current_actor()
    _print_result(run(_pause(name, actor, arguments.reason_option(reason))), as_json=as_json)


def unpause(workflow: OptionalWorkflow = None, as_json: Json = False) -> None:
    """End a pause. A pause of everything and a pause of one workflow are ended separately.

    Exit 1 if nothing was paused.
    """
    _print_result(run(_unpause(arguments.workflow_argument(workflow), arguments.current_actor())), as_json=as_json)


async def _pause(workflow: str, actor: str, reason: str) -> PauseResult:
    settings, _ = prepare(quiet=True)
    async with open_command_session(settings) as session:
        return await pause_workflow(session, workflow, actor, reason)


async def _unpause(workflow: str, actor: str) -> PauseResult:
    settings, _ = prepare(quiet=True)
    async with open_command_session(settings) as session:
        return await unpause_workflow(session, workflow, actor)


def _print_result(result: PauseResult, *, as_json: bool) -> None:
    if as_json:
        fields: dict[str, Any] = {"workflow": result.workflow or None, "done": result.done}
        print_json({**fields, "paused": result.paused, "said": result.said})
    else:
        print_line(escape_text(result.said, 2 * arguments.LONGEST_REASON))
    if result.warning is not None:
        typer.echo(f"resumed: {escape_text(result.warning)}", err=True)
    if not result.done:
        raise typer.Exit(1)
