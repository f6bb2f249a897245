"""The command `demo`: a crash and the recovery from it, on a private Postgres."""

from typing import Annotated

import typer

from resumed.demo import story


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running, with commands to try.")] = False,
) -> None:
    """Kill an application in mid-work and watch the daemon finish its threads. Needs no server, Docker or key.

    Exit 1 unless every thread that can be finished is, with the final state of an undisturbed run.
    """
    code = story.run_demo(keep=keep)
    if code:
        raise typer.Exit(code)
