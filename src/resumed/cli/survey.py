"""The command `survey`: what lies dead in a database, before anything of ours is installed in it."""

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
from resumed.cli.inspect import Json
from resumed.cli.output import escape_text, format_bytes, print_json, print_line, print_table
from resumed.judge.survey import NO_NAME, NUMBERS, OTHERS, UUIDS, Status, suggested_min_age
from resumed.operations import survey as operation
from resumed.operations.survey import By, Progress, Question, Report, Survey
from resumed.store.connection import Target

_COLUMNS = "group threads finished stopped failed waiting undecidable recent longest_step_s oldest newest"
_MOST_SHOWN = 5
_LEAST_MIN_AGE = timedelta(minutes=5)
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NO_WORD = re.compile(r"[.-]")
_NO_NAMES = (NO_NAME, UUIDS, NUMBERS, OTHERS)


def survey(
    since: Annotated[str, typer.Option(help="Threads that saved within this time.")] = "90d",
    by: Annotated[By, typer.Option(help="Group by id prefix or by workflow.")] = By.PREFIX,
    as_json: Json = False,
) -> None:
    """Count what lies dead in this database; reads only.

    Needs SELECT on LangGraph's tables and nothing else: no schema of ours, no index, no graphs. Beyond 200 000 threads
    it reads a sample and says so.
    """
    settings, _ = prepare(quiet=True)
    question = Question(arguments.duration_option(since, "--since"), by, settings.min_age)
    with _reporting(quiet=as_json) as report:
        target = Target(settings.dsn, settings.checkpoint_schema)
        found = run(operation.survey(target, question, report))
    if as_json:
        print_json(found.as_fields())
        return
    _print(found, question)


@contextmanager
def _reporting(*, quiet: bool) -> Iterator[Report]:
    """Show the forecast and a bar on stderr; on no terminal the forecast alone, and nothing for a program."""
    said: list[str] = []
    if quiet or not sys.stderr.isatty():

        def once(progress: Progress) -> None:
            if not quiet and progress.forecast not in said:
                said.append(progress.forecast)
                typer.echo(f"resumed: {progress.forecast}", err=True)

        yield once
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("threads")

        def shown(progress: Progress) -> None:
            if progress.forecast not in said:
                said.append(progress.forecast)
                bar.console.print(f"resumed: {progress.forecast}")
            bar.update(task, completed=progress.read, total=max(progress.expected, progress.read, 1))

        yield shown


def _print(found: Survey, question: Question) -> None:
    fields = found.as_fields()
    groups = fields["groups"]
    rows = [[one[name] for name in _COLUMNS.split()] for one in groups]
    print_table(tuple(_COLUMNS.split()), rows, f"no thread saved within {durations.duration_text(question.since)}")
    for one in groups:
        _print_group(one)
    sizes = ", ".join(f"{one.name} {format_bytes(one.bytes)}" for one in found.relations)
    print_line(
        f"tables: {sizes}; about {found.threads_a_day:.0f} new threads and "
        f"{format_bytes(found.bytes_a_day)} a day (last week)"
    )
    if found.older:
        print_line(
            f"left out: {round(found.older / found.fraction)} threads that last saved before that; --since takes more"
        )
    if found.fraction < 1.0:
        print_line(f"estimated from a sample of {found.fraction:.2%} of the threads")
    if dead := sum(one["stopped"] + one["failed"] for one in groups):
        _print_advice(found, groups, dead)


def _print_group(one: Mapping[str, Any]) -> None:
    for name, words in (("stopped_at", "stopped at"), ("errors", "raised")):
        if one[name]:
            most = list(one[name].items())[:_MOST_SHOWN]
            rest = len(one[name]) - len(most)
            listed = ", ".join(f"{escape_text(what)} ({number})" for what, number in most)
            print_line(f"{escape_text(one['group'])}: {words} {listed}" + (f" and {rest} more" if rest else ""))


def _print_advice(found: Survey, groups: list[dict[str, Any]], dead: int) -> None:
    """Say what it would take to have these threads resumed."""
    print_line("")
    print_line(f"{dead} threads stopped or failed with work left. To have them resumed, register their graphs:")
    print_line("")
    print_line('    [project.entry-points."resumed.workflows"]')
    dying = [one["group"] for one in groups if one[Status.STOPPED] + one[Status.FAILED]]
    named = [name for name in dying if name not in _NO_NAMES and _ENTRY.fullmatch(name)]
    for name in named[:_MOST_SHOWN] or ["my_workflow"]:
        key = f'"{name}"' if "." in name else name  # as TOML has it
        print_line(f'    {key} = "your_package.graphs:{_NO_WORD.sub("_", name)}"')
    print_line("")
    if any(one["group"] in _NO_NAMES for one in groups):
        print_line(
            "Threads whose id or metadata names no workflow: RESUMED_DEFAULT_WORKFLOW names the one that takes them."
        )
    age = suggested_min_age(found.groups, _LEAST_MIN_AGE)
    begin_with = durations.duration_text(age)
    print_line(f"Begin with RESUMED_MIN_AGE={begin_with}, twice the longest step seen. Then `resumed migrate`.")
