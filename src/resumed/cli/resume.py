"""The commands by which a person acts on one thread: `resume`."""

from typing import Annotated, Any

import typer

from resumed.admin.resume import ResumeResult, resume_thread
from resumed.cli import arguments
from resumed.cli.context import Graphs, prepare, run
from resumed.cli.inspect import Json
from resumed.cli.output import escape_text, print_json, print_line
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
    thread_id = arguments.thread_argument(thread)
    tried = run(_resume(thread_id, arguments.current_actor(), force=force))
    if as_json:
        print_json(_fields(thread_id, tried))
    else:
        why = f": {escape_text(tried.reason, arguments.LONGEST_REASON)}" if tried.reason else ""
        print_line(f"{escape_text(thread_id)}: {tried.outcome}{why}")
    if tried.attempt is None or tried.attempt.outcome not in _DONE:
        raise typer.Exit(1)


async def _resume(thread_id: str, actor: str, *, force: bool) -> ResumeResult:
    return await resume_thread(Service(*prepare()), thread_id, actor, force=force)


def _fields(thread_id: str, tried: ResumeResult) -> dict[str, Any]:
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
