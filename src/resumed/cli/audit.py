"""The command `audit`: which actor did what to which thread or workflow, when, why and through what."""

from typing import Annotated, Any

import typer

from resumed.cli import arguments
from resumed.cli.context import prepare, run_on_session
from resumed.cli.options import Json
from resumed.cli.output import format_time, print_json, print_table
from resumed.store import audit as store
from resumed.store.audit import Entry

_LIMIT = 10_000
_COLUMNS = ("at", "actor", "action", "thread_id", "workflow", "via", "reason")


def audit(
    since: Annotated[str, typer.Option(help="How far back to look, such as 7d.")] = "7d",
    as_json: Json = False,
) -> None:
    """List who did what, why and through what, newest first; at most 10 000 entries.

    Reasons are shown here exactly as the operators wrote them; they are never logged.
    """
    period = arguments.duration_option(since, "--since")
    settings, _ = prepare(quiet=True)
    entries = run_on_session(
        settings, lambda session: store.since(session, period, _LIMIT), "resumed audit", writing=False
    )
    if as_json:
        print_json({"audit": [_entry_fields(entry) for entry in entries]})
        return
    rows = [(format_time(entry.at), *(getattr(entry, name) for name in _COLUMNS[1:])) for entry in entries]
    print_table(_COLUMNS, rows, f"no entries within {since}: --since looks further back")


def _entry_fields(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat() if entry.at is not None else None,
        "actor": entry.actor,
        "action": entry.action,
        "thread_id": entry.thread_id,
        "workflow": entry.workflow,
        "reason": entry.reason,
        "via": entry.via,
    }
