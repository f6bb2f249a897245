"""The command `survey`: counts unfinished threads in a database before anything of ours is installed in it."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from resumed import durations
from resumed.cli import arguments
from resumed.cli.context import prepare, run
from resumed.cli.options import Json
from resumed.cli.output import escape_text, format_bytes, print_json, print_line, print_table
from resumed.judge.survey import NO_NAME, NUMBERS, OTHERS, UUIDS, Status, suggested_min_age
from resumed.operations import survey as operation
from resumed.operations.survey import By, Progress, Question, Report, Survey
from resumed.store.connection import Target

_COLUMNS = "group threads finished stopped failed waiting undecidable recent longest_step_s oldest newest"
_MAX_LISTED = 5
_SMALLEST_MIN_AGE = timedelta(minutes=5)
_ENTRY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NOT_IN_IDENTIFIER = re.compile(r"[.-]")
_UNNAMED_GROUPS = (NO_NAME, UUIDS, NUMBERS, OTHERS)


def survey(
    since: Annotated[str, typer.Option(help="Count threads that saved within this time.")] = "90d",
    by: Annotated[By, typer.Option(help="Group by id prefix or by workflow.")] = By.PREFIX,
    as_json: Json = False,
) -> None:
    """Count the unfinished threads in a database, read-only.

    It needs SELECT on LangGraph's tables and nothing else: no schema of ours, no index, no graphs. Beyond 200 000
    threads it reads a sample and says so.
    """
    settings, _ = prepare(quiet=True)
    question = Question(arguments.duration_option(since, "--since"), by, settings.min_age)
    with _progress_bar(quiet=as_json) as report:
        target = Target(settings.dsn, settings.checkpoint_schema)
        found = run(operation.survey(target, question, report))
    if as_json:
        print_json(found.as_fields())
        return
    _print_survey(found, question)


@contextmanager
def _progress_bar(*, quiet: bool) -> Iterator[Report]:
    """Show the forecast and a progress bar on stderr; without a terminal the forecast alone; nothing if quiet."""
    printed: list[str] = []
    if quiet or not sys.stderr.isatty():

        def print_forecast(progress: Progress) -> None:
            if not quiet and progress.forecast not in printed:
                printed.append(progress.forecast)
                typer.echo(f"resumed: {progress.forecast}", err=True)

        yield print_forecast
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("threads")

        def update_bar(progress: Progress) -> None:
            if progress.forecast not in printed:
                printed.append(progress.forecast)
                bar.console.print(f"resumed: {progress.forecast}")
            bar.update(task, completed=progress.read, total=max(progress.expected, progress.read, 1))

        yield update_bar


def _print_survey(found: Survey, question: Question) -> None:
    fields = found.as_fields()
    groups = fields["groups"]
    rows = [[group[name] for name in _COLUMNS.split()] for group in groups]
    print_table(tuple(_COLUMNS.split()), rows, f"no thread saved within {durations.duration_text(question.since)}")
    for group in groups:
        _print_group(group)
    sizes = ", ".join(f"{table.name} {format_bytes(table.bytes)}" for table in found.relations)
    print_line(
        f"tables: {sizes}; about {found.threads_a_day:.0f} new threads and "
        f"{format_bytes(found.bytes_a_day)} a day (last week)"
    )
    if found.older:
        print_line(f"not counted: {round(found.older / found.fraction)} threads that last saved earlier; raise --since")
    if found.fraction < 1.0:
        print_line(f"estimated from a sample of {found.fraction:.2%} of the threads")
    if dead := sum(group["stopped"] + group["failed"] for group in groups):
        _print_advice(found, groups, dead)


def _print_group(group: Mapping[str, Any]) -> None:
    for name, words in (("stopped_at", "stopped at"), ("errors", "raised")):
        if group[name]:
            most = list(group[name].items())[:_MAX_LISTED]
            rest = len(group[name]) - len(most)
            listed = ", ".join(f"{escape_text(what)} ({number})" for what, number in most)
            print_line(f"{escape_text(group['group'])}: {words} {listed}" + (f" and {rest} more" if rest else ""))


def _print_advice(found: Survey, groups: list[dict[str, Any]], dead: int) -> None:
    """Print the steps that would have these threads resumed."""
    print_line("")
    print_line(f"{dead} threads stopped or failed with work left. To have them resumed, register their graphs:")
    print_line("")
    print_line('    [project.entry-points."resumed.workflows"]')
    groups_left = [group["group"] for group in groups if group[Status.STOPPED] + group[Status.FAILED]]
    named = [name for name in groups_left if name not in _UNNAMED_GROUPS and _ENTRY_NAME.fullmatch(name)]
    for name in named[:_MAX_LISTED] or ["my_workflow"]:
        key = f'"{name}"' if "." in name else name  # as TOML has it
        print_line(f'    {key} = "your_package.graphs:{_NOT_IN_IDENTIFIER.sub("_", name)}"')
    print_line("")
    if any(group["group"] in _UNNAMED_GROUPS for group in groups):
        print_line(
            "Some threads name no workflow in their id or metadata: RESUMED_DEFAULT_WORKFLOW assigns them to one."
        )
    age = suggested_min_age(found.groups, _SMALLEST_MIN_AGE)
    begin_with = durations.duration_text(age)
    print_line(f"Begin with RESUMED_MIN_AGE={begin_with}, twice the longest step seen, then run `resumed migrate`.")
