"""The commands `pause` and `unpause`: a kill switch that is kept in the database and obeyed by every replica."""

from collections.abc import Callable, Coroutine
from typing import Any

import typer

from resumed.cli import arguments
from resumed.cli.context import prepare, run_on_session
from resumed.cli.options import Json, OptionalWorkflow, Reason
from resumed.cli.output import escape_text, print_json, print_line
from resumed.model import Via
from resumed.operations.pause import PauseResult, pause_workflow, unpause_workflow
from resumed.store.connection import Session


def pause(reason: Reason, workflow: OptionalWorkflow = None, as_json: Json = False) -> None:
    """Start no attempts of a workflow, or of any workflow, on any replica.

    Attempts that are running end at their next superstep; nothing is charged. Runs of the application are not affected.
    """
    name, actor, why = arguments.workflow_argument(workflow), arguments.current_actor(), arguments.reason_option(reason)
    _run(lambda session: pause_workflow(session, name, actor, why, via=Via.CLI), as_json=as_json)


def unpause(workflow: OptionalWorkflow = None, as_json: Json = False) -> None:
    """End a pause. A pause of everything and a pause of one workflow are ended separately.

    Exit 1 if nothing was paused.
    """
    name, actor = arguments.workflow_argument(workflow), arguments.current_actor()
    _run(lambda session: unpause_workflow(session, name, actor, via=Via.CLI), as_json=as_json)


def _run(operation: Callable[[Session], Coroutine[Any, Any, PauseResult]], *, as_json: bool) -> None:
    """Run the operation on a session and print what it returns. Exit 1 unless it was done."""
    settings, _ = prepare(quiet=True)
    result = run_on_session(settings, operation)
    if as_json:
        fields: dict[str, Any] = {"workflow": result.workflow or None, "done": result.done}
        print_json({**fields, "paused": result.paused, "said": result.said})
    else:
        print_line(escape_text(result.said, 2 * arguments.LONGEST_REASON))
    if result.warning is not None:
        typer.echo(f"resumed: {escape_text(result.warning)}", err=True)
    if not result.done:
        raise typer.Exit(1)
