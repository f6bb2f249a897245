"""The commands `doctor` and `config`: what the daemon needs, and what it is configured to do."""

import typer

from resumed.admin import doctor as examination
from resumed.admin.doctor import Level
from resumed.cli.context import GLOBALS, prepare, run
from resumed.cli.options import Graphs, Json
from resumed.cli.output import print_json, print_table
from resumed.config import settings

_DATABASE_CHECKS = ("database", "schema", "row security", "locks")


def doctor(as_json: Json = False, _: Graphs = None) -> None:
    """Check every precondition: each is ok, a warning or an error, with the remedy.

    Exit 0 without errors, 3 if the database cannot be reached or used, 1 for any other error.
    """
    findings = run(examination.run_checks(*prepare(quiet=True)))
    if as_json:
        fields = ("check", "level", "finding", "remedy")
        print_json({"findings": [{name: getattr(finding, name) for name in fields} for finding in findings]})
    else:
        rows = [(finding.check, finding.level, finding.finding, finding.remedy) for finding in findings]
        print_table(("check", "level", "finding", "what to do"), rows, "no check was made")
    failed = [finding.check for finding in findings if finding.level is Level.ERROR]
    if failed:
        raise typer.Exit(3 if any(check in _DATABASE_CHECKS for check in failed) else 1)


def config(as_json: Json = False) -> None:
    """Print the effective settings with the source of each, secrets masked."""
    loaded = settings.load_settings(GLOBALS.config, GLOBALS.flags)
    rows = [
        (name, settings.setting_text(getattr(loaded.settings, name)), loaded.sources[name])
        for name in type(loaded.settings).model_fields
    ]
    if as_json:
        fields = ("name", "value", "source")
        print_json({"settings": [dict(zip(fields, row, strict=True)) for row in rows]})
    else:
        print_table(("setting", "value", "source"), rows, "")
    for warning in loaded.warnings:
        typer.echo(f"resumed: {warning}", err=True)
