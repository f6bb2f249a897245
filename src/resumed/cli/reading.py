"""The commands that only read: `workflows`, `scan`, `threads`, `show`."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from resumed import durations
from resumed.cli.context import Graphs, prepared, run
from resumed.cli.output import document, line, readable, table
from resumed.daemon import survey
from resumed.daemon.service import Service, registered
from resumed.daemon.steps import LongestStep, longest_steps
from resumed.daemon.survey import Finding, surveying
from resumed.errors import ResumedError, SettingsError
from resumed.model import State, Verdict
from resumed.store import cases, schema
from resumed.store.connect import Target, opened

_LONGEST_EVIDENCE = 1000

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def workflows(as_json: Json = False, _: Graphs = None) -> None:
    """List the registered workflows, or why one failed to load."""
    found = run(_workflows())
    if as_json:
        document({"workflows": found})
        return
    rows = [(one["name"], one["version"], "yes" if one["loaded"] else "no", one["reason"]) for one in found]
    empty = "no workflows are registered: declare them under the entry-point group resumed.workflows"
    table(("workflow", "version", "loaded", "why not"), rows, empty)


def scan(
    workflow: Annotated[str | None, typer.Option(help="Only threads of this workflow.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only threads with this verdict.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many threads.")] = None,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Judge every unfinished thread that a sweep would see, and say what would be done; changes nothing."""
    found, steps = run(_scan())
    chosen = [one.as_fields() for one in found if _chosen(one, workflow, verdict)][:limit]
    if as_json:
        document({"threads": chosen})
        return
    _columns(chosen, "thread_id workflow verdict action last_activity reason", "no unfinished threads")
    for step in steps:
        if step.too_close:
            typer.echo(
                f"resumed: the longest step seen of {step.workflow} took {step.took.total_seconds():.1f} s: "
                f"raise its min_age ({durations.text(step.min_age)}) to at least twice that",
                err=True,
            )


def threads(
    state: Annotated[State | None, typer.Option(help="Only cases in this state.")] = None,
    as_json: Json = False,
) -> None:
    """List the open cases."""
    found = run(_threads(state))
    if as_json:
        document({"threads": found})
        return
    _columns(found, "thread_id workflow verdict state attempts due_at reason", "no open cases")


def show(
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="A thread id, or - to read it from stdin.")],
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Show one thread: its verdict and why, its checkpoints, its attempts and their errors."""
    told, checkpoints = run(_show(thread_argument(thread)))
    if as_json:
        document(told)
        return
    for name in ("thread_id", "workflow", "verdict", "reason", "state", "action", "head", "last_activity", "due_at"):
        line(f"{name + ':':15}{readable(told[name])}")
    line("evidence:")
    for one in told["evidence"]:
        line(f"  {readable(one, _LONGEST_EVIDENCE)}")
    _columns(told["attempts"], "attempt started_at outcome error_type error before after", "no attempts")
    _columns(checkpoints, "checkpoint_ns checkpoint_id source step", "no checkpoints")


def _columns(rows: Sequence[Mapping[str, Any]], names: str, empty: str) -> None:
    table(names.split(), [[one[name] for name in names.split()] for one in rows], empty)


async def _workflows() -> list[dict[str, Any]]:
    settings, events = prepared(quiet=True)
    crew = await registered(settings, events)
    loaded: list[dict[str, Any]] = [
        {"name": one.name, "version": one.version or None, "accepts": list(one.accepts), "loaded": True, "reason": None}
        for one in crew.registrations.values()
    ]
    missing: list[dict[str, Any]] = [
        {"name": name, "version": None, "accepts": [], "loaded": False, "reason": reason}
        for name, reason in crew.unavailable.items()
    ]
    return sorted(loaded + missing, key=lambda one: str(one["name"]))


async def _scan() -> tuple[list[Finding], list[LongestStep]]:
    async with surveying(Service(*prepared(quiet=True))) as surveyor:
        return await surveyor.unfinished(), await longest_steps(surveyor.session, surveyor.scene)


async def _show(thread_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with surveying(Service(*prepared(quiet=True))) as surveyor:
        found = await surveyor.judge([thread_id])
        if not found:
            message = f"there is no thread {readable(thread_id, 80)!r} in this database"
            raise ResumedError(message)
        attempts, checkpoints = await survey.account(surveyor.session, thread_id)
        state = found[0].case.state.value if found[0].case is not None else None
        told = {"state": state, "evidence": list(found[0].evidence), "attempts": attempts}
        return {**found[0].as_fields(), **told}, checkpoints


async def _threads(state: State | None) -> list[dict[str, Any]]:
    settings, _ = prepared(quiet=True)
    async with opened(Target(settings.dsn, settings.checkpoint_schema), "resumed threads") as session:
        await schema.check(session, writing=False)
        return [survey.case_fields(one) for one in await cases.listing(session, state)]


def _chosen(one: Finding, workflow: str | None, verdict: Verdict | None) -> bool:
    standing = one.standing
    return (workflow is None or standing.workflow == workflow) and verdict in (None, standing.judgement.verdict)


def thread_argument(given: str) -> str:
    """Read a thread id as it was given, `-` from stdin; raises SettingsError for one that Postgres cannot hold."""
    thread_id = sys.stdin.readline().rstrip("\n") if given == "-" else given
    if "\0" in thread_id:
        message = "a thread id cannot hold a NUL character: Postgres stores none"
        raise SettingsError(message)
    try:
        thread_id.encode()
    except UnicodeEncodeError:
        message = "a thread id must be UTF-8 text"
        raise SettingsError(message) from None
    return thread_id
