"""The command `audit`: who did what to which thread or workflow, when and why."""

from typing import Annotated, Any

import typer

from resumed.cli import arguments
from resumed.cli.context import prepare, run
from resumed.cli.inspect import Json
from resumed.cli.output import format_time, print_json, print_table
from resumed.store import audit as store
from resumed.store import schema
from resumed.store.audit import Entry
from resumed.store.connection import Target, open_session

_MOST = 10_000
_COLUMNS = ("at", "actor", "action", "thread_id", "workflow", "reason")


def audit(
    since: Annotated[str, typer.Option(help="How far to look back, such as 7d.")] = "7d",
    as_json: Json = False,
) -> None:
    """List who did what and why, the newest first; at most 10 000 entries.

    Reasons are the words of whoever acted: they are shown here and never logged.
    """
    found = run(_entries(since))
    if as_json:
        print_json({"audit": [_fields(one) for one in found]})
        return
    rows = [(format_time(one.at), *(getattr(one, name) for name in _COLUMNS[1:])) for one in found]
    print_table(_COLUMNS, rows, f"nobody did anything within {since}")


async def _entries(since: str) -> list[Entry]:
    length = arguments.duration_option(since, "--since")
    settings, _ = prepare(quiet=True)
    async with open_session(Target(settings.dsn, settings.checkpoint_schema), "resumed audit") as session:
        await schema.check(session, writing=False)
        return await store.since(session, length, _MOST)


def _fields(one: Entry) -> dict[str, Any]:
    return {
        "at": one.at.isoformat() if one.at is not None else None,
        "actor": one.actor,
        "action": one.action.value,
        "thread_id": one.thread_id,
        "workflow": one.workflow,
        "reason": one.reason,
    }
