"""Owns the command line as a whole: its global options, its commands, its exit codes."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from resumed.cli import audit, contain, daemon, demo, doctor, inspect, migrate, pause, prune, resume, survey
from resumed.cli.context import GLOBALS, INTERRUPTED, exit_with_code, exit_with_error
from resumed.errors import ResumedError

SEE, LOOK, ACT, OPERATE = "See it work", "Look", "Act", "Operate"


class GroupedCommands(TyperGroup):
    """Lists the commands under headings, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as it is called
        """Write one section a heading, each command with its whole line."""
        shown = [(name, one) for name, one in self.commands.items() if not one.hidden]
        width = max(len(name) for name, _ in shown)
        for heading in (SEE, LOOK, ACT, OPERATE):
            rows = [
                (name.ljust(width), one.short_help or "")
                for name, one in shown
                if getattr(one, "rich_help_panel", None) == heading
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="resumed",
    cls=GroupedCommands,
    help="The resume daemon for LangGraph: finds the threads whose process died, and finishes those that are safe to.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    (SEE, "demo", demo.demo, "Watch a crash and the recovery; needs no server"),
    (SEE, "survey", survey.survey, "Count what lies dead in this database; read-only"),
    (LOOK, "scan", inspect.scan, "Judge every unfinished thread; changes nothing"),
    (LOOK, "threads", inspect.threads, "List open cases"),
    (LOOK, "show", inspect.show, "Show one thread: verdict, evidence, attempts"),
    (LOOK, "workflows", inspect.workflows, "List registered workflows, or why one failed"),
    (LOOK, "audit", audit.audit, "List who did what, and why"),
    (ACT, "resume", resume.resume, "Make one attempt now, in the foreground"),
    (ACT, "release", contain.release, "Take threads out of quarantine"),
    (ACT, "quarantine", contain.quarantine, "Block attempts on threads until released"),
    (ACT, "cancel", contain.cancel, "Never resume threads from their current head"),
    (ACT, "pause", pause.pause, "Stop attempts of one workflow, or of all"),
    (ACT, "unpause", pause.unpause, "End a pause"),
    (OPERATE, "migrate", migrate.migrate, "Create or upgrade the schema; build the index"),
    (OPERATE, "doctor", doctor.doctor, "Check every precondition, with remedies"),
    (OPERATE, "run", daemon.run, "Run the daemon until SIGTERM"),
    (OPERATE, "once", daemon.once, "Sweep once and finish its attempts"),
    (OPERATE, "prune", prune.prune, "Delete what finished threads leave behind"),
    (OPERATE, "config", doctor.config, "Print the effective settings and their sources"),
)
for _heading, _name, _command, _line in _COMMANDS:
    app.command(name=_name, short_help=_line, rich_help_panel=_heading)(_command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"resumed {version('resumed')}")
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings; default resumed.toml when present.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Who acts, for the audit; default OS user@host.")] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Take the options that stand before the command."""
    GLOBALS.config, GLOBALS.actor = config, actor


def main() -> None:
    """Run the command line and end the process with the contract's exit code."""
    code: object = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except ResumedError as error:
        code = exit_with_error(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    exit_with_code(code if isinstance(code, int) else 0)
