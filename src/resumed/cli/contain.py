"""The commands `release`, `quarantine` and `cancel`: allow or forbid attempts on single threads."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from resumed.cli import arguments
from resumed.cli.context import open_command_session, prepare, run, run_on_session
from resumed.cli.options import Json, OptionalThreads, Reason, Threads
from resumed.cli.output import escape_text, print_json, print_line
from resumed.cli.prompts import Progress, confirm
from resumed.config.settings import Settings
from resumed.daemon.worker_plan import sweep_rules
from resumed.errors import SettingsError
from resumed.model import Via
from resumed.operations import containment
from resumed.operations.containment import CommandResult, OperatorCommand, OperatorContext
from resumed.store.case_commands import in_quarantine

ThreadOperation = Callable[[OperatorContext, str], Coroutine[Any, Any, CommandResult]]


def release(
    threads: OptionalThreads = None,
    workflow: Annotated[str | None, typer.Option(help="Release all quarantined threads of one workflow.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Release all quarantined threads.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Take threads out of quarantine and reset their attempt counts; each is judged again before it is attempted.

    Exit 1 if nothing was released.
    """
    if sum((bool(threads), workflow is not None, everything)) != 1:
        message = "pass exactly one of: thread ids, --workflow NAME, --all"
        raise SettingsError(message)
    command = OperatorCommand(arguments.current_actor(), via=Via.CLI)
    if threads:
        names = arguments.thread_arguments(threads)
        settings, _ = prepare(quiet=True)
        results = run(_release(settings, command, names))
    else:
        name = arguments.workflow_argument(workflow) or None
        settings, _ = prepare(quiet=True)
        count = run_on_session(settings, lambda session: in_quarantine(session, name))
        _confirm_release(count, name, yes=yes)
        results = run(_release_all(settings, command, name, count))
    released = sum(result.done for result in results)
    if as_json:
        print_json({"released": released, "threads": _result_fields(results)})
    else:
        _print_results(results if threads else [result for result in results if not result.done])
        print_line(f"{released} released" if released or not threads else "nothing was released")
    if not released:
        raise typer.Exit(1)


def quarantine(threads: Threads, reason: Reason, as_json: Json = False) -> None:
    """Block attempts on these threads until they are released, even if the head moves or a new version is deployed.

    An attempt that is running ends at its next superstep. Exit 1 unless every thread was quarantined.
    """
    _run_each(containment.quarantine_thread, threads, reason, as_json=as_json)


def cancel(threads: Threads, reason: Reason, as_json: Json = False) -> None:
    """Never resume these threads from their current head; a thread whose head moves is judged again.

    An attempt that is running ends at its next superstep, or after RESUMED_SHUTDOWN_GRACE at the latest. Exit 1 unless
    every thread was cancelled.
    """
    _run_each(containment.cancel_thread, threads, reason, as_json=as_json)


def _run_each(operation: ThreadOperation, threads: Sequence[str], reason: str, *, as_json: bool) -> None:
    """Run the operation on each thread and print the results. Exit 1 unless all were done."""
    command = OperatorCommand(arguments.current_actor(), arguments.reason_option(reason), via=Via.CLI)
    names = arguments.thread_arguments(threads)
    settings, _ = prepare(quiet=True)
    results = run(_operate(settings, operation, command, names))
    if as_json:
        print_json({"threads": _result_fields(results)})
    else:
        _print_results(results)
    if not all(result.done for result in results):
        raise typer.Exit(1)


async def _operate(
    settings: Settings, operation: ThreadOperation, command: OperatorCommand, threads: Sequence[str]
) -> list[CommandResult]:
    results, progress = [], Progress()
    async with _open_operator(settings, command) as operator:
        for thread in threads:
            results.append(await operation(operator, thread))
            progress.report(f"{len(results)} of {len(threads)}")
    return results


async def _release(settings: Settings, command: OperatorCommand, threads: Sequence[str]) -> list[CommandResult]:
    results: list[CommandResult] = []
    progress = Progress()
    async with _open_operator(settings, command) as operator:
        for start in range(0, len(threads), containment.PAGE):
            results += await containment.release_threads(operator, threads[start : start + containment.PAGE])
            progress.report(f"{len(results)} of {len(threads)}")
    return results


async def _release_all(
    settings: Settings, command: OperatorCommand, workflow: str | None, expected: int
) -> list[CommandResult]:
    results: list[CommandResult] = []
    progress = Progress()
    async with _open_operator(settings, command) as operator:
        async for page in containment.release_all(operator, workflow):
            results += page
            progress.report(f"{len(results)} of {expected}")
    return results


@asynccontextmanager
async def _open_operator(settings: Settings, command: OperatorCommand) -> AsyncIterator[OperatorContext]:
    async with open_command_session(settings) as session:
        yield OperatorContext(session, sweep_rules(settings), command)


def _confirm_release(count: int, workflow: str | None, *, yes: bool) -> None:
    """Ask before many threads are released. Raises SettingsError without a terminal unless `--yes` was given."""
    what = f"{count} threads{f' of the workflow {workflow!r}' if workflow else ''}"
    if count and not yes:
        confirm(f"releases {what}", f"Release {what} from quarantine?")


def _result_fields(results: Sequence[CommandResult]) -> list[dict[str, Any]]:
    return [{"thread_id": result.thread_id, "done": result.done, "said": result.said} for result in results]


def _print_results(results: Sequence[CommandResult]) -> None:
    for result in results:
        print_line(f"{escape_text(result.thread_id)}: {escape_text(result.said, arguments.LONGEST_REASON)}")
