"""The command line as a whole: global options, the list of commands, exit codes."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from resumed.cli import adopt, audit, contain, daemon, demo, doctor, inspect, migrate, pause, prune, resume, survey
from resumed.cli.context import GLOBALS, INTERRUPTED, exit_with_code, exit_with_error
from resumed.errors import ResumedError

SEE, LOOK, ACT, OPERATE = "See it work", "Look", "Act", "Operate"


class GroupedCommands(TyperGroup):
    """List the commands under headings, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click passes the context
        """Write one section per heading, each command with its full help line."""
        visible = [(name, command) for name, command in self.commands.items() if not command.hidden]
        width = max(len(name) for name, _ in visible)
        for heading in (SEE, LOOK, ACT, OPERATE):
            rows = [
                (name.ljust(width), command.short_help or "")
                for name, command in visible
                if getattr(command, "rich_help_panel", None) == heading
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="resumed",
    cls=GroupedCommands,
    help="The resume daemon for LangGraph: finds threads whose process died and resumes those that are safe to resume.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    (SEE, "demo", demo.demo, "Kill an application, watch its threads recover"),
    (SEE, "survey", survey.survey, "Count unfinished threads in a database; read-only"),
    (LOOK, "scan", inspect.scan, "Judge every unfinished thread; changes nothing"),
    (LOOK, "threads", inspect.threads, "List open cases"),
    (LOOK, "show", inspect.show, "Show one thread: verdict, evidence, attempts"),
    (LOOK, "workflows", inspect.workflows, "List workflows, with the reason if one did not load"),
    (LOOK, "audit", audit.audit, "List who did what, and why"),
    (ACT, "resume", resume.resume, "Attempt one thread now, in the foreground"),
    (ACT, "release", contain.release, "Take threads out of quarantine"),
    (ACT, "quarantine", contain.quarantine, "Block attempts on threads until they are released"),
    (ACT, "cancel", contain.cancel, "Never resume threads from their current head"),
    (ACT, "adopt", adopt.adopt, "Take in threads older than max_age"),
    (ACT, "pause", pause.pause, "Stop attempts of one workflow or of all"),
    (ACT, "unpause", pause.unpause, "End a pause"),
    (OPERATE, "migrate", migrate.migrate, "Create or upgrade our schema and the index"),
    (OPERATE, "doctor", doctor.doctor, "Check every precondition, with a remedy for each"),
    (OPERATE, "run", daemon.run, "Run the daemon until SIGTERM"),
    (OPERATE, "once", daemon.once, "Run one sweep and its attempts, then exit"),
    (OPERATE, "prune", prune.prune, "Delete what finished threads leave behind"),
    (OPERATE, "config", doctor.config, "Print the effective settings and their sources"),
)
for _heading, _name, _command, _line in _COMMANDS:
    app.command(name=_name, short_help=_line, rich_help_panel=_heading)(_command)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"resumed {version('resumed')}")
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default: ./resumed.toml.")] = None,
    actor: Annotated[str | None, typer.Option(help="Name for the audit; default: OS user@host.")] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Store the global options for the command that follows."""
    GLOBALS.config, GLOBALS.actor = config, actor


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of this process, and return the documented exit code."""
    GLOBALS.config, GLOBALS.actor = None, None
    GLOBALS.flags.clear()
    code: object = 0
    try:
        app(arguments)
    except SystemExit as exit_request:
        code = exit_request.code
    except ResumedError as error:
        code = exit_with_error(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run the command line and end the process, without waiting for its threads, such as one that looks up a host."""
    exit_with_code(run_command())
