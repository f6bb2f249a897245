"""The commands that keep attempts from threads, or let them at them again: `release`, `quarantine`, `cancel`."""

import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from resumed.cli import arguments
from resumed.cli.context import prepare, run
from resumed.cli.inspect import Json
from resumed.cli.output import escape_text, print_json, print_line
from resumed.cli.pause import Reason, acting_session
from resumed.daemon.worker_plan import sweep_rules
from resumed.errors import SettingsError
from resumed.operations import containment
from resumed.operations.containment import CommandResult, OperatorCommand, OperatorContext
from resumed.store.case_commands import in_quarantine

_TELL_EVERY = 2.0

Threads = Annotated[list[str], typer.Argument(metavar="THREAD...", help="Thread ids, or - and one a line on stdin.")]
SomeThreads = Annotated[
    list[str] | None, typer.Argument(metavar="[THREAD]...", help="Thread ids, or - and one a line on stdin.")
]
Deed = Callable[[OperatorContext, str], Coroutine[Any, Any, CommandResult]]


def release(
    threads: SomeThreads = None,
    workflow: Annotated[str | None, typer.Option(help="Every thread of this workflow that is in quarantine.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every thread that is in quarantine.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take threads out of quarantine, with all their tries given back; each is judged again before it is tried.

    Exit 1 where nothing was released.
    """
    if sum((bool(threads), workflow is not None, everything)) != 1:
        message = "name threads, or a workflow with --workflow, or say --all: one of the three"
        raise SettingsError(message)
    word = OperatorCommand(arguments.current_actor())
    if threads:
        answers = run(_release(word, arguments.thread_arguments(threads)))
    else:
        name = arguments.workflow_argument(workflow) or None
        found = run(_count(name))
        _ask(found, name, yes=yes)
        answers = run(_release_all(word, name, found))
    done = sum(one.done for one in answers)
    if as_json:
        print_json({"released": done, "threads": _fields(answers)})
    else:
        _lines(answers if threads else [one for one in answers if not one.done])
        print_line(f"{done} released" if done or not threads else "nothing was released")
    if not done:
        raise typer.Exit(1)


def quarantine(threads: Threads, reason: Reason, as_json: Json = False) -> None:
    """Let no attempt touch these threads before somebody releases them, whatever becomes of heads and versions.

    One that is being tried ends at its next superstep. Exit 1 where it was not done for every thread.
    """
    _each(containment.quarantine_thread, threads, reason, as_json=as_json)


def cancel(threads: Threads, reason: Reason, as_json: Json = False) -> None:
    """Never resume these threads from where they stand; one whose head moves is judged anew.

    One that is being tried ends at its next superstep, at the latest after RESUMED_SHUTDOWN_GRACE. Exit 1 where it was
    not done for every thread.
    """
    _each(containment.cancel_thread, threads, reason, as_json=as_json)


def _each(deed: Deed, threads: Sequence[str], reason: str, *, as_json: bool) -> None:
    word = OperatorCommand(arguments.current_actor(), arguments.reason_option(reason))
    answers = run(_done(deed, word, arguments.thread_arguments(threads)))
    if as_json:
        print_json({"threads": _fields(answers)})
    else:
        _lines(answers)
    if not all(one.done for one in answers):
        raise typer.Exit(1)


async def _done(deed: Deed, word: OperatorCommand, threads: Sequence[str]) -> list[CommandResult]:
    answers, progress = [], _Progress(len(threads))
    async with _office(word) as office:
        for thread in threads:
            answers.append(await deed(office, thread))
            progress.tell(len(answers))
    return answers


async def _release(word: OperatorCommand, threads: Sequence[str]) -> list[CommandResult]:
    answers: list[CommandResult] = []
    progress = _Progress(len(threads))
    async with _office(word) as office:
        for start in range(0, len(threads), containment.PAGE):
            answers += await containment.release_threads(office, threads[start : start + containment.PAGE])
            progress.tell(len(answers))
    return answers


async def _release_all(word: OperatorCommand, workflow: str | None, expected: int) -> list[CommandResult]:
    answers: list[CommandResult] = []
    progress = _Progress(expected)
    async with _office(word) as office:
        async for page in containment.release_all(office, workflow):
            answers += page
            progress.tell(len(answers))
    return answers


async def _count(workflow: str | None) -> int:
    async with acting_session() as session:
        return await in_quarantine(session, workflow)


@asynccontextmanager
async def _office(word: OperatorCommand) -> AsyncIterator[OperatorContext]:
    settings, _ = prepare(quiet=True)
    async with acting_session() as session:
        yield OperatorContext(session, sweep_rules(settings), word)


def _ask(found: int, workflow: str | None, *, yes: bool) -> None:
    """Ask before many are released; where nobody can be asked, `--yes` has to say so."""
    what = f"{found} threads{f' of the workflow {workflow!r}' if workflow else ''}"
    if not found or yes:
        return
    if not sys.stdin.isatty():
        message = f"this releases {what} and nobody can be asked here: say --yes"
        raise SettingsError(message)
    typer.confirm(f"Release {what} from quarantine?", abort=True, err=True)


def _fields(answers: Sequence[CommandResult]) -> list[dict[str, Any]]:
    return [{"thread_id": one.thread_id, "done": one.done, "said": one.said} for one in answers]


def _lines(answers: Sequence[CommandResult]) -> None:
    for one in answers:
        print_line(f"{escape_text(one.thread_id)}: {escape_text(one.said, arguments.LONGEST_REASON)}")


class _Progress:
    """Tells on stderr how far long work is."""

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._told_at = time.monotonic()

    def tell(self, done: int) -> None:
        if done < self._whole and time.monotonic() - self._told_at > _TELL_EVERY:
            self._told_at = time.monotonic()
            typer.echo(f"resumed: {done} of {self._whole}", err=True)
