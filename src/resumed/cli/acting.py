"""The commands by which a person acts on one thread: `resume`."""

from typing import Annotated, Any

import typer

from resumed.cli import given
from resumed.cli.context import Graphs, prepared, run
from resumed.cli.output import document, line, readable
from resumed.cli.reading import Json
from resumed.daemon import by_hand
from resumed.daemon.by_hand import Tried
from resumed.daemon.service import Service
from resumed.model import Outcome

_DONE = (Outcome.FINISHED, Outcome.WAITING)


def resume(
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="A thread id, or - to read it from stdin.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also release a quarantine, and do not wait for silence.")
    ] = False,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Make one attempt now, in the foreground. Never of a thread that waits for a person, with --force or without.

    Exit 0 where the thread finished, or reached a person; 1 where it did not.
    """
    thread_id = given.thread_argument(thread)
    tried = run(_resume(thread_id, given.actor(), force=force))
    if as_json:
        document(_fields(thread_id, tried))
    else:
        why = f": {readable(tried.reason, given.LONGEST_REASON)}" if tried.reason else ""
        line(f"{readable(thread_id)}: {tried.outcome}{why}")
    if tried.attempt is None or tried.attempt.outcome not in _DONE:
        raise typer.Exit(1)


async def _resume(thread_id: str, actor: str, *, force: bool) -> Tried:
    return await by_hand.resume(Service(*prepared()), thread_id, actor, force=force)


def _fields(thread_id: str, tried: Tried) -> dict[str, Any]:
    made = tried.attempt
    return {
        "thread_id": thread_id,
        "outcome": tried.outcome,
        "reason": tried.reason,
        "attempt": made.attempt if made is not None else None,
        "before": made.before if made is not None else None,
        "after": made.after if made is not None else None,
        "error_type": made.error_type if made is not None else None,
    }
