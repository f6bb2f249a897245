"""The commands that keep attempts from threads, or let them at them again: `release`, `quarantine`, `cancel`."""

import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from resumed.cli import given
from resumed.cli.context import prepared, run
from resumed.cli.output import document, line, readable
from resumed.cli.pausing import Reason, acting_session
from resumed.cli.reading import Json
from resumed.daemon import acts
from resumed.daemon.acts import Answer, Office, Word
from resumed.daemon.plans import rules_of
from resumed.errors import SettingsError
from resumed.store.acts import in_quarantine

_TELL_EVERY = 2.0

Threads = Annotated[list[str], typer.Argument(metavar="THREAD...", help="Thread ids, or - and one a line on stdin.")]
SomeThreads = Annotated[
    list[str] | None, typer.Argument(metavar="[THREAD]...", help="Thread ids, or - and one a line on stdin.")
]
Deed = Callable[[Office, str], Coroutine[Any, Any, Answer]]


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
    word = Word(given.actor())
    if threads:
        answers = run(_release(word, given.thread_arguments(threads)))
    else:
        name = given.workflow_argument(workflow) or None
        found = run(_count(name))
        _ask(found, name, yes=yes)
        answers = run(_release_all(word, name, found))
    done = sum(one.done for one in answers)
    if as_json:
        document({"released": done, "threads": _fields(answers)})
    else:
        _lines(answers if threads else [one for one in answers if not one.done])
        line(f"{done} released" if done or not threads else "nothing was released")
    if not done:
        raise typer.Exit(1)


def quarantine(threads: Threads, reason: Reason, as_json: Json = False) -> None:
    """Let no attempt touch these threads before somebody releases them, whatever becomes of heads and versions.

    One that is being tried ends at its next superstep. Exit 1 where it was not done for every thread.
    """
    _each(acts.quarantine, threads, reason, as_json=as_json)


def cancel(threads: Threads, reason: Reason, as_json: Json = False) -> None:
    """Never resume these threads from where they stand; one whose head moves is judged anew.

    One that is being tried ends at its next superstep, at the latest after RESUMED_SHUTDOWN_GRACE. Exit 1 where it was
    not done for every thread.
    """
    _each(acts.cancel, threads, reason, as_json=as_json)


def _each(deed: Deed, threads: Sequence[str], reason: str, *, as_json: bool) -> None:
    word = Word(given.actor(), given.reason(reason))
    answers = run(_done(deed, word, given.thread_arguments(threads)))
    if as_json:
        document({"threads": _fields(answers)})
    else:
        _lines(answers)
    if not all(one.done for one in answers):
        raise typer.Exit(1)


async def _done(deed: Deed, word: Word, threads: Sequence[str]) -> list[Answer]:
    answers, progress = [], _Progress(len(threads))
    async with _office(word) as office:
        for thread in threads:
            answers.append(await deed(office, thread))
            progress.tell(len(answers))
    return answers


async def _release(word: Word, threads: Sequence[str]) -> list[Answer]:
    answers: list[Answer] = []
    progress = _Progress(len(threads))
    async with _office(word) as office:
        for start in range(0, len(threads), acts.PAGE):
            answers += await acts.release(office, threads[start : start + acts.PAGE])
            progress.tell(len(answers))
    return answers


async def _release_all(word: Word, workflow: str | None, expected: int) -> list[Answer]:
    answers: list[Answer] = []
    progress = _Progress(expected)
    async with _office(word) as office:
        async for page in acts.release_all(office, workflow):
            answers += page
            progress.tell(len(answers))
    return answers


async def _count(workflow: str | None) -> int:
    async with acting_session() as session:
        return await in_quarantine(session, workflow)


@asynccontextmanager
async def _office(word: Word) -> AsyncIterator[Office]:
    settings, _ = prepared(quiet=True)
    async with acting_session() as session:
        yield Office(session, rules_of(settings), word)


def _ask(found: int, workflow: str | None, *, yes: bool) -> None:
    """Ask before many are released; where nobody can be asked, `--yes` has to say so."""
    what = f"{found} threads{f' of the workflow {workflow!r}' if workflow else ''}"
    if not found or yes:
        return
    if not sys.stdin.isatty():
        message = f"this releases {what} and nobody can be asked here: say --yes"
        raise SettingsError(message)
    typer.confirm(f"Release {what} from quarantine?", abort=True, err=True)


def _fields(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [{"thread_id": one.thread_id, "done": one.done, "said": one.said} for one in answers]


def _lines(answers: Sequence[Answer]) -> None:
    for one in answers:
        line(f"{readable(one.thread_id)}: {readable(one.said, given.LONGEST_REASON)}")


class _Progress:
    """Tells on stderr how far long work is."""

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._told_at = time.monotonic()

    def tell(self, done: int) -> None:
        if done < self._whole and time.monotonic() - self._told_at > _TELL_EVERY:
            self._told_at = time.monotonic()
            typer.echo(f"resumed: {done} of {self._whole}", err=True)
