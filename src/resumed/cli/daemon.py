"""The commands `run` and `once`: the daemon, and one sweep of it with its attempts."""

import asyncio
import signal
from importlib.metadata import version
from typing import Annotated

import typer

from resumed.cli.context import INTERRUPTED, Graphs, exit_with_code, prepare
from resumed.cli.context import run as finish
from resumed.cli.output import escape_text, print_json, print_table
from resumed.config.settings import Settings
from resumed.daemon.service import Service
from resumed.http.endpoints import http_application
from resumed.http.server import serve
from resumed.model import Attempt, Outcome
from resumed.observability.events import Events
from resumed.workers.protocol import RequestResult

_STUMBLED = (
    RequestResult.ERROR,
    RequestResult.UNREACHABLE,
    RequestResult.SKEWED,
    RequestResult.UNAVAILABLE,
)
_FAILED = frozenset(set(Outcome) - {Outcome.FINISHED, Outcome.WAITING, Outcome.SUPERSEDED, Outcome.DRAINED})


def run(_: Graphs = None) -> None:
    """Run the daemon: sweep, judge, resume, until SIGTERM. Metrics and health are on RESUMED_HTTP_PORT."""
    settings, events = prepare()
    code = finish(_run(settings, events))
    if code:
        raise typer.Exit(code)


def once(
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until nothing is due now; back-off is not waited for.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    _: Graphs = None,
) -> None:
    """Make one sweep and see its attempts to their end. Exit 1 if any attempt failed."""
    settings, events = prepare()
    attempts, stumbled, unjudged = finish(_once(settings, events, wait=wait))
    if as_json:
        print_json({"attempts": [_fields(one) for one in attempts]})
    else:
        rows = [(one.thread_id, one.workflow, one.attempt, one.outcome, one.error_type) for one in attempts]
        print_table(("thread", "workflow", "attempt", "outcome", "error"), rows, "nothing was due")
    if unjudged:
        typer.echo(f"resumed: {unjudged} threads could not be judged: the log names each with its error", err=True)
    if stumbled or unjudged or any(one.outcome in _FAILED for one in attempts):
        raise typer.Exit(1)


async def _run(settings: Settings, events: Events) -> int:
    service = Service(settings, events)
    stop, received = asyncio.Event(), [0]
    _on_signals(service, stop, received)
    async with serve(http_application(events, service.readiness), settings.http_host, settings.http_port) as port:
        events.service_started(version("resumed"), dry_run=settings.dry_run)
        events.http_opened(settings.http_host, port)
        await service.run(stop)
    return INTERRUPTED if received[0] == signal.SIGINT else 0


def _on_signals(service: Service, stop: asyncio.Event, received: list[int]) -> None:
    """The first signal drains; a second one ends everything at once."""

    def heard(number: int) -> None:
        if stop.is_set():
            service.pool.kill()
            exit_with_code(INTERRUPTED)
        received[0] = number
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heard, number)


async def _once(settings: Settings, events: Events, *, wait: bool) -> tuple[list[Attempt], int, int]:
    service = Service(settings, events)
    attempts = await service.once(wait=wait)
    stumbled = sum(service.monitor.results[result] for result in _STUMBLED)
    return attempts, stumbled, len(service.sweep.unjudged)


def _fields(one: Attempt) -> dict[str, object]:
    return {
        "thread_id": one.thread_id,
        "workflow": one.workflow,
        "attempt": one.attempt,
        "outcome": one.outcome,
        "advanced": one.advanced,
        "before": one.before,
        "after": one.after,
        "error_type": one.error_type,
        "error": escape_text(one.error) if one.error is not None else None,
    }
