"""The command `prune`: what finished threads leave in LangGraph's tables is deleted, where a person asks for it."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from resumed import durations
from resumed.admin.prune import MARK_WAIT, PruneRequest, prune_threads
from resumed.cli import arguments
from resumed.cli.context import prepare, run
from resumed.cli.options import Graphs, Json
from resumed.cli.output import escape_text, format_bytes, print_json, print_line, print_table
from resumed.cli.prompts import confirm
from resumed.daemon.prune_rounds import PruneReport
from resumed.daemon.service import Service
from resumed.errors import SettingsError
from resumed.judge.retention import PrunePolicy
from resumed.model import PruneStrategy

_DONE = ("pruned", "marked", "deleted")


@dataclass(slots=True)
class Totals:
    """What became of the threads of one workflow."""

    strategy: PruneStrategy
    retain: timedelta
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    bytes: int = 0

    def add(self, report: PruneReport) -> None:
        """Count a batch."""
        self.outcomes += report.counts()
        self.refused += Counter({reason.value: len(threads) for reason, threads in report.refusals().items()})
        self.rows += report.rows
        self.bytes += report.bytes

    def as_fields(self, workflow: str) -> dict[str, Any]:
        """Return what `--json` prints of the workflow."""
        done = {name: self.outcomes[name] for name in _DONE}
        policy = {"strategy": self.strategy.value, "older_than": durations.duration_text(self.retain)}
        counts = {"rows": self.rows, "bytes": self.bytes, "refused": dict(self.refused)}
        return {"workflow": workflow, **policy, **done, **counts}


def prune(
    *,
    older_than: Annotated[
        str | None, typer.Option(help="Threads quiet for so long; default: what each workflow keeps.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(help="Only threads of this workflow.")] = None,
    keep_latest: Annotated[bool, typer.Option("--keep-latest", help="Keep the newest checkpoints (default).")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete whole threads, an hour after marking them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it and take it back; print counts and bytes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Prune finished threads: delete their old checkpoints, or with --delete whole threads.

    Only finished threads without an open case or run are pruned. --delete marks threads first; run it again after an
    hour, or leave it to the daemon. Exit 1 where nothing can be pruned.
    """
    if keep_latest and delete:
        message = "--keep-latest and --delete exclude each other: give one of them"
        raise SettingsError(message)
    settings, events = prepare(quiet=True)
    request = PruneRequest(
        strategy=PruneStrategy.DELETE if delete else PruneStrategy.KEEP_LATEST,
        older_than=arguments.length_option(older_than, "--older-than") if older_than is not None else None,
        workflow=arguments.workflow_argument(workflow) or None,
        dry_run=dry_run,
        default_age=settings.prune_older_than,
    )
    actor, totals = arguments.current_actor(), dict[str, Totals]()
    with _progress(quiet=as_json) as tell:

        def ask(policies: list[PrunePolicy]) -> None:
            totals.update({one.workflow: Totals(one.strategy, one.retain) for one in policies})
            if not dry_run and not yes:
                _ask(policies)

        def add(report: PruneReport) -> None:
            totals[report.workflow].add(report)
            tell(sum(sum(one.outcomes.values()) for one in totals.values()))

        run(prune_threads(Service(settings, events), request, actor, ask, add))
    _print(totals, request, as_json=as_json)


def _ask(policies: list[PrunePolicy]) -> None:
    """Ask before anything is deleted; where nobody can be asked, `--yes` has to say so."""
    lines = "; ".join(
        f"{escape_text(one.workflow)} quiet for {durations.duration_text(one.retain)} ({one.strategy})"
        for one in policies
    )
    what = f"finished threads of {lines}"
    confirm(f"prunes {what}", f"Prune {what}?", "say --yes, or --dry-run")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many threads have been dealt with."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed} threads"), TimeElapsedColumn())
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("threads", total=None)

    def tell(threads: int) -> None:
        bar.start()  # after the question
        bar.update(task, completed=threads)

    try:
        yield tell
    finally:
        bar.stop()


def _print(totals: dict[str, Totals], request: PruneRequest, *, as_json: bool) -> None:
    found = [one.as_fields(name) for name, one in sorted(totals.items())]
    if as_json:
        sums = {name: sum(one[name] for one in found) for name in (*_DONE, "rows", "bytes")}
        print_json({"dry_run": request.dry_run, "strategy": request.strategy.value, **sums, "workflows": found})
        return
    columns = ("workflow", "older_than", "strategy", *_DONE, "rows", "bytes", "refused")
    rows = [
        [
            *(one[name] for name in columns[:-2]),
            format_bytes(one["bytes"]),
            ", ".join(f"{count} {reason}" for reason, count in sorted(one["refused"].items())),
        ]
        for one in found
    ]
    print_table(columns, rows, "nothing to prune")
    if request.dry_run:
        print_line("a dry run: nothing was deleted")
    if any(one["marked"] for one in found):
        wait = durations.duration_text(MARK_WAIT)
        print_line(f"marked threads are deleted after {wait} or more: by the daemon, or by the same command then")
