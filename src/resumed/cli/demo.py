"""The command `demo`: the whole story on a private Postgres."""

from typing import Annotated

import typer

from resumed.demo import story


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave server and daemon running until Ctrl-C, and say what to try next.")
    ] = False,
) -> None:
    """See it work: an application is killed, and the daemon finishes its threads. Needs no server, no Docker, no key.

    Exit 1 unless every thread that may be finished is, with the right final state.
    """
    code = story.tell(keep=keep)
    if code:
        raise typer.Exit(code)
