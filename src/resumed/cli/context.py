"""What every command shares: loading settings, opening a session, exit codes, errors as one sentence."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from resumed import timings
from resumed.config import settings
from resumed.errors import ResumedError
from resumed.observability import events
from resumed.observability.events import Events
from resumed.store import schema
from resumed.store.connection import Session, Target, open_session
from resumed.store.database_errors import explaining

T = TypeVar("T")
INTERRUPTED = 130


@dataclass(slots=True)
class Globals:
    """The options given before the command."""

    config: Path | None = None
    actor: str | None = None
    flags: dict[str, object] = field(default_factory=dict)


GLOBALS = Globals()


def prepare(*, quiet: bool = False) -> tuple[settings.Settings, Events]:
    """Load the settings and configure logging; a quiet command logs only warnings unless a level is set.

    Raises SettingsError.
    """
    timings.use(timings.from_environment())
    loaded = settings.load_settings(GLOBALS.config, GLOBALS.flags)
    chosen = loaded.settings
    is_default_level = loaded.sources["log_level"] == "default"
    events.configure(chosen.log_format, "warning" if quiet and is_default_level else chosen.log_level)
    log = Events(log_errors=chosen.log_errors)
    log.settings_ignored(loaded.warnings)
    return chosen, log


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; a database error in it becomes one sentence and exit code 3."""
    with explaining():
        return asyncio.run(work)


@asynccontextmanager
async def open_command_session(
    chosen: settings.Settings, name: str = "resumed command", *, writing: bool = True
) -> AsyncIterator[Session]:
    """Open a session on the configured database; `name` is its `application_name` in `pg_stat_activity`.

    Raises DatabaseUnusableError if our schema is missing or too old.
    """
    async with open_session(Target(chosen.dsn, chosen.checkpoint_schema), name) as session:
        await schema.check(session, writing=writing)
        yield session


def run_on_session(
    chosen: settings.Settings,
    work: Callable[[Session], Coroutine[Any, Any, T]],
    name: str = "resumed command",
    *,
    writing: bool = True,
) -> T:
    """Run a command's coroutine on a session of `open_command_session`, as `run` does."""

    async def open_and_work() -> T:
        async with open_command_session(chosen, name, writing=writing) as session:
            return await work(session)

    return run(open_and_work())


def exit_with_error(error: ResumedError) -> int:
    """Print an error as one sentence on stderr and return its exit code."""
    print(f"resumed: {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def exit_with_code(code: int) -> None:
    """End the process immediately, even if threads are still running."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
