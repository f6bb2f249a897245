"""The reading commands `workflows`, `scan`, `threads` and `show`."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import typer

from resumed import durations
from resumed.admin import inspect
from resumed.admin.inspect import Finding, open_inspector
from resumed.cli import arguments
from resumed.cli.context import open_command_session, prepare, run
from resumed.cli.options import Graphs, Json, Thread
from resumed.cli.output import escape_text, format_time, print_json, print_line, print_table
from resumed.daemon.service import Service
from resumed.daemon.worker_plan import registered_workflows
from resumed.errors import ResumedError
from resumed.model import State, Verdict
from resumed.operations.step_durations import LongestStep, longest_steps
from resumed.store import cases, pauses
from resumed.store.pauses import Pause

_LONGEST_EVIDENCE = 1300
_INSTANTS = frozenset({"last_activity", "due_at", "started_at", "finished_at"})


def workflows(as_json: Json = False, _: Graphs = None) -> None:
    """List the registered workflows, and for one that did not load the reason."""
    found = run(_load_workflows())
    if as_json:
        print_json({"workflows": found})
        return
    rows = [(one["name"], one["version"], "yes" if one["loaded"] else "no", one["reason"]) for one in found]
    empty = "no workflows are registered: declare them as entry points of the group resumed.workflows, or use --graphs"
    print_table(("workflow", "version", "loaded", "why not"), rows, empty)


def scan(
    workflow: Annotated[str | None, typer.Option(help="Only threads of this workflow.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only threads with this verdict.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many threads.")] = None,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Judge every unfinished thread that a sweep would see and show what the daemon would do. Changes nothing."""
    found, steps, paused, unjudged = run(_scan(workflow, verdict, limit))
    fields = [one.as_fields() for one in found]
    if as_json:
        print_json({"threads": fields})
        _require_judged(unjudged)
        return
    empty = "no unfinished threads" if not unjudged else "no other unfinished threads"
    _print_columns(fields, "thread_id workflow verdict action last_activity reason", empty)
    _warn_of_pauses(paused)
    for step in steps:
        if step.too_close:
            typer.echo(
                f"resumed: the longest step of {step.workflow} took {step.took.total_seconds():.1f} s: "
                f"raise its min_age ({durations.duration_text(step.min_age)}) to at least twice that",
                err=True,
            )
    _require_judged(unjudged)


def threads(
    state: Annotated[State | None, typer.Option(help="Only cases in this state.")] = None,
    as_json: Json = False,
) -> None:
    """List the open cases."""
    found, paused = run(_read_cases(state))
    if as_json:
        print_json({"threads": found})
        return
    _print_columns(found, "thread_id workflow verdict state attempts due_at reason", "no open cases")
    _warn_of_pauses(paused)


def show(
    thread: Thread,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Show one thread: verdict with reason and evidence, attempts with errors, checkpoints."""
    fields, checkpoints = run(_judge_thread(arguments.thread_argument(thread)))
    if as_json:
        print_json(fields)
        return
    for name in ("thread_id", "workflow", "verdict", "reason", "state", "action", "head", "last_activity", "due_at"):
        print_line(f"{name + ':':15}{escape_text(_cell(name, fields[name]))}")
    if fields["paused"]:
        print_line(f"{'paused:':15}{escape_text(fields['paused'], _LONGEST_EVIDENCE)}")
    print_line("evidence:")
    for line in fields["evidence"]:
        print_line(f"  {escape_text(line, _LONGEST_EVIDENCE)}")
    for entry in fields["audit"]:
        why = f": {entry['reason']}" if entry["reason"] else ""
        request = f"{entry['action']} by {entry['actor']}, {entry['at']}{why}"
        print_line(f"asked for: {escape_text(request, _LONGEST_EVIDENCE)}")
    _print_columns(fields["attempts"], "attempt started_at outcome error_type error before after", "no attempts")
    _print_columns(checkpoints, "checkpoint_ns checkpoint_id source step", "no checkpoints")


def _warn_of_pauses(paused: Sequence[Pause]) -> None:
    for pause in paused:
        sentence = f"{escape_text(pause, _LONGEST_EVIDENCE)}; no attempt starts before `resumed unpause`"
        typer.echo(f"resumed: {sentence}", err=True)


def _print_columns(rows: Sequence[Mapping[str, Any]], names: str, empty: str) -> None:
    print_table(names.split(), [[_cell(name, row[name]) for name in names.split()] for row in rows], empty)


def _cell(name: str, value: object) -> object:
    """Return instants as people read them and every other value unchanged."""
    is_instant = name in _INSTANTS and isinstance(value, str)
    return format_time(datetime.fromisoformat(str(value))) if is_instant else value


async def _load_workflows() -> list[dict[str, Any]]:
    settings, events = prepare(quiet=True)
    available = await registered_workflows(settings, events)
    left_open = "its context did not close within a second when the worker ended"
    loaded: list[dict[str, Any]] = [
        {
            "name": one.name,
            "version": one.version or None,
            "accepts": list(one.accepts),
            "loaded": True,
            "reason": left_open if one.name in available.unclosed else None,
        }
        for one in available.registrations.values()
    ]
    missing: list[dict[str, Any]] = [
        {"name": name, "version": None, "accepts": [], "loaded": False, "reason": reason}
        for name, reason in available.unavailable.items()
    ]
    return sorted(loaded + missing, key=lambda one: str(one["name"]))


def _require_judged(unjudged: Mapping[str, str]) -> None:
    """Raise ResumedError if a thread was seen and could not be judged."""
    if unjudged:
        thread, reason = next(iter(unjudged.items()))
        message = (
            f"{len(unjudged)} threads could not be judged, the first {escape_text(thread, 80)!r}: "
            f"{escape_text(reason)}; try again when the database and the workers are less busy"
        )
        raise ResumedError(message)


async def _scan(
    workflow: str | None, verdict: Verdict | None, limit: int | None
) -> tuple[list[Finding], list[LongestStep], Sequence[Pause], Mapping[str, str]]:
    async with open_inspector(Service(*prepare(quiet=True))) as inspector:
        steps = await longest_steps(inspector.session, inspector.sweep_context)
        chosen: list[Finding] = []
        async with aclosing(inspector.find_unfinished(workflow)) as found:
            async for one in found:
                if verdict in (None, one.update.judgement.verdict):
                    chosen.append(one)
                if len(chosen) == limit:
                    break
        return chosen, steps, inspector.paused, inspector.unjudged


async def _judge_thread(thread_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with open_inspector(Service(*prepare(quiet=True))) as inspector:
        found = await inspector.judge_one(thread_id)
        _require_judged(inspector.unjudged)
        attempts, checkpoints = await inspect.thread_history(inspector.session, thread_id)
        state = found.case.state.value if found.case is not None else None
        fields = {"state": state, "evidence": list(found.evidence), "attempts": attempts}
        pause = pauses.covering_pause(inspector.paused, found.update.workflow)
        fields |= {"paused": str(pause) if pause is not None else None}
        fields |= {"audit": await inspect.thread_audit(inspector.session, thread_id)}
        return {**found.as_fields(), **fields}, checkpoints


async def _read_cases(state: State | None) -> tuple[list[dict[str, Any]], list[Pause]]:
    settings, _ = prepare(quiet=True)
    async with open_command_session(settings, "resumed threads", writing=False) as session:
        found = [inspect.case_fields(one) for one in await cases.list_open(session, state)]
        return found, await pauses.current_pauses(session)
