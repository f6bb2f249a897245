"""Owns the command line as a whole: its global options, its commands, its exit codes."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from resumed.cli import acting, checking, containing, daemon, demo, pausing, reading, schema, survey
from resumed.cli.context import GLOBALS, INTERRUPTED, end, fail
from resumed.errors import ResumedError

app = typer.Typer(
    name="resumed",
    help="The resume daemon for LangGraph: finds the threads whose process died, and finishes those that are safe to.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="demo")(demo.demo)
app.command(name="migrate")(schema.migrate)
app.command(name="doctor")(checking.doctor)
app.command(name="run")(daemon.run)
app.command(name="once")(daemon.once)
app.command(name="workflows")(reading.workflows)
app.command(name="scan")(reading.scan)
app.command(name="survey")(survey.survey)
app.command(name="threads")(reading.threads)
app.command(name="show")(reading.show)
app.command(name="resume")(acting.resume)
app.command(name="release")(containing.release)
app.command(name="quarantine")(containing.quarantine)
app.command(name="cancel")(containing.cancel)
app.command(name="pause")(pausing.pause)
app.command(name="unpause")(pausing.unpause)
app.command(name="config")(checking.config)


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
        code = fail(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    end(code if isinstance(code, int) else 0)
