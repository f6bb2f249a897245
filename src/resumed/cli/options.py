"""The options and arguments that several commands share, each with its help line."""

from pathlib import Path
from typing import Annotated

import typer

from resumed.cli.context import GLOBALS


def _register_graphs(path: Path | None) -> Path | None:
    if path is not None:
        GLOBALS.flags["graphs"] = str(path)
    return path


Graphs = Annotated[
    Path | None,
    typer.Option("--graphs", callback=_register_graphs, help="Also register the graphs of this langgraph.json."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit, never logged.")]
Thread = Annotated[str, typer.Argument(metavar="THREAD", help="Thread id, or - to read it from stdin.")]
Threads = Annotated[list[str], typer.Argument(metavar="THREAD", help="Thread ids; - reads one a line from stdin.")]
OptionalThreads = Annotated[
    list[str] | None, typer.Argument(metavar="THREAD", help="Thread ids; - reads one a line from stdin.")
]
OptionalWorkflow = Annotated[
    str | None, typer.Argument(metavar="WORKFLOW", help="A workflow; all workflows if omitted.")
]
