"""The command `resume`: one attempt on one thread, in the foreground."""

from typing import Annotated, Any

import typer

from resumed.admin.resume import ResumeResult, resume_thread
from resumed.cli import arguments
from resumed.cli.context import prepare, run
from resumed.cli.options import Graphs, Json, Thread
from resumed.cli.output import escape_text, print_json, print_line
from resumed.daemon.service import Service
from resumed.outcomes import meaning_of


def resume(
    thread: Thread,
    force: Annotated[bool, typer.Option("--force", help="Release a quarantine; do not wait for min_age.")] = False,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Attempt one thread now, in the foreground. Threads waiting for a person are never resumed, even with --force.

    Exit 0 if the thread finished or now waits for a person, else 1.
    """
    thread_id = arguments.thread_argument(thread)
    result = run(resume_thread(Service(*prepare()), thread_id, arguments.current_actor(), force=force))
    if as_json:
        print_json(_result_fields(thread_id, result))
    else:
        why = f": {escape_text(result.reason, arguments.LONGEST_REASON)}" if result.reason else ""
        print_line(f"{escape_text(thread_id)}: {result.outcome}{why}")
    if result.attempt is None or meaning_of(result.attempt.outcome).fails_resume:
        raise typer.Exit(1)


def _result_fields(thread_id: str, result: ResumeResult) -> dict[str, Any]:
    attempt = result.attempt
    return {
        "thread_id": thread_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "attempt": attempt.attempt if attempt is not None else None,
        "before": attempt.before if attempt is not None else None,
        "after": attempt.after if attempt is not None else None,
        "error_type": attempt.error_type if attempt is not None else None,
    }
