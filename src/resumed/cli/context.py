"""Owns what every command shares: its settings, its exit codes, and how an error becomes one sentence."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from resumed.config import settings
from resumed.errors import ResumedError
from resumed.observability import events
from resumed.observability.events import Events
from resumed.store.database_errors import explaining

T = TypeVar("T")
INTERRUPTED = 130


@dataclass(slots=True)
class Globals:
    """The options that stand before the command."""

    config: Path | None = None
    actor: str | None = None
    flags: dict[str, object] = field(default_factory=dict)


GLOBALS = Globals()


def _take_graphs(path: Path | None) -> Path | None:
    if path is not None:
        GLOBALS.flags["graphs"] = str(path)
    return path


Graphs = Annotated[
    Path | None,
    typer.Option("--graphs", callback=_take_graphs, help="A langgraph.json whose graphs are registered too."),
]


def prepare(*, quiet: bool = False) -> tuple[settings.Settings, Events]:
    """Load the settings and open the log; a quiet command logs warnings only, unless a level is set.

    Raises SettingsError.
    """
    loaded = settings.load_settings(GLOBALS.config, GLOBALS.flags)
    chosen = loaded.settings
    unset = loaded.sources["log_level"] == "default"
    events.configure(chosen.log_format, "warning" if quiet and unset else chosen.log_level)
    told = Events(log_errors=chosen.log_errors)
    told.settings_ignored(loaded.warnings)
    return chosen, told


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end; whatever the database refuses in it becomes one sentence and exit 3."""
    with explaining():
        return asyncio.run(work)


def exit_with_error(error: ResumedError) -> int:
    """Say an error in one sentence on stderr; gives the exit code."""
    print(f"resumed: {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def exit_with_code(code: int) -> None:
    """End the process at once, whatever threads still run."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
