"""The command `adopt`: threads that were too old when a sweep first saw them, or older than any sweep looks."""

from typing import Annotated, Any

import typer

from resumed.cli import arguments
from resumed.cli.context import open_command_session, prepare, run
from resumed.cli.options import Json
from resumed.cli.output import escape_text, format_time, print_json, print_line, print_table
from resumed.cli.prompts import Progress, confirm
from resumed.config.settings import Settings
from resumed.daemon.worker_plan import sweep_rules
from resumed.judge.adoption import Hindrance
from resumed.model import Via
from resumed.operations.adoption import Adoption, AdoptionReport, AdoptionRequest
from resumed.operations.containment import OperatorCommand

_REASONS = {
    Hindrance.PAUSED: "it is paused: unpause it, and run the same command again",
    Hindrance.CIRCUIT_OPEN: "most of its last attempts failed: see what raised, and run the same command again",
    Hindrance.NOT_ATTEMPTED: "its cases are due and no replica attempts any: see whether RESUMED_DRY_RUN is set",
    Hindrance.NO_REPLICA: "no running replica has it: start one, and run the same command again",
}


def adopt(
    *,
    since: Annotated[str, typer.Option(help="Threads that last saved within this time, such as 90d.")],
    workflow: Annotated[str | None, typer.Option(help="Only threads of this workflow.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many threads, the longest quiet first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be adopted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Adopt threads that were quiet for longer than max_age when first seen, so that the daemon resumes them.

    At most a hundred of a workflow are due at once: the next ones follow as attempts end. It stops at a workflow whose
    attempts fail; what has been adopted stays so. Exit 1 if nothing was adopted, or a workflow was stopped.
    """
    request = AdoptionRequest(
        arguments.length_option(since, "--since"), arguments.workflow_argument(workflow) or None, limit
    )
    command = OperatorCommand(arguments.current_actor(), via=Via.CLI)
    settings, _ = prepare(quiet=True)
    report = run(_adopt(settings, command, request, dry_run=dry_run, yes=yes))
    if as_json:
        print_json(_fields(report, dry_run=dry_run))
    else:
        _print_report(report, dry_run=dry_run)
    if report.unjudged or report.stopped or not (dry_run or report.threads):
        raise typer.Exit(1)


async def _adopt(
    settings: Settings, command: OperatorCommand, request: AdoptionRequest, *, dry_run: bool, yes: bool
) -> AdoptionReport:
    async with open_command_session(settings, "resumed adopt", writing=not dry_run) as session:
        progress = Progress()

        def tell(report: AdoptionReport) -> None:
            found = sum(one.threads for one in report.found.values())
            progress.report(f"{found} found, {report.threads} adopted")

        adoption = Adoption(session, sweep_rules(settings), command, request, tell)
        await adoption.find()
        if adoption.report.found and not dry_run:
            _confirm(adoption.report, request, yes=yes)
            await adoption.adopt()
        return adoption.report


def _confirm(report: AdoptionReport, request: AdoptionRequest, *, yes: bool) -> None:
    """Ask before threads are adopted. Raises SettingsError without a terminal unless `--yes` was given."""
    if yes:
        return
    found = ", ".join(f"{one.threads} of {escape_text(name)}" for name, one in sorted(report.found.items()))
    what = f"at most {request.limit} threads of {found}" if request.limit else f"{found} threads"
    confirm(f"adopts {what}", f"Adopt {what}, so that the daemon resumes them?", "say --yes, or --dry-run")


def _fields(report: AdoptionReport, *, dry_run: bool) -> dict[str, Any]:
    workflows = [
        {
            "workflow": name,
            "found": found.threads,
            "adopted": report.adopted.get(name, 0),
            "oldest": found.oldest.isoformat(),
            "newest": found.newest.isoformat(),
            "stopped_by": report.stopped.get(name),
        }
        for name, found in sorted(report.found.items())
    ]
    return {
        "dry_run": dry_run,
        "adopted": report.threads,
        "unjudged": len(report.unjudged),
        "workflows": workflows,
    }


def _print_report(report: AdoptionReport, *, dry_run: bool) -> None:
    rows = [
        (name, found.threads, report.adopted.get(name, 0), format_time(found.oldest), format_time(found.newest))
        for name, found in sorted(report.found.items())
    ]
    print_table(("workflow", "found", "adopted", "oldest", "newest"), rows, "nothing to adopt")
    for name, why in report.stopped.items():
        print_line(f"stopped at {escape_text(name)}: {_REASONS[why]}")
    if report.unjudged:
        print_line(f"{len(report.unjudged)} threads could not be judged: `resumed show` says why")
    if dry_run:
        print_line("a dry run: nothing was adopted")
