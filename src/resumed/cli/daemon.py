"""The commands `run` (the daemon) and `once` (one sweep and its attempts)."""

import asyncio
import signal
from importlib.metadata import version
from typing import Annotated

import typer

from resumed.cli.context import INTERRUPTED, exit_with_code, prepare
from resumed.cli.context import run as run_coroutine
from resumed.cli.options import Graphs, Json
from resumed.cli.output import escape_text, print_json, print_table
from resumed.config.settings import Settings
from resumed.daemon.service import Service
from resumed.http.endpoints import http_application
from resumed.http.server import serve
from resumed.model import Attempt
from resumed.observability.events import Events
from resumed.outcomes import meaning_of
from resumed.workers.protocol import RequestResult

_TROUBLE = (
    RequestResult.ERROR,
    RequestResult.UNREACHABLE,
    RequestResult.SKEWED,
    RequestResult.UNAVAILABLE,
)


def run(_: Graphs = None) -> None:
    """Run the daemon until SIGTERM: sweep, judge, resume.

    Metrics and health are served on RESUMED_HTTP_PORT. The first signal drains attempts, a second one ends at once.
    """
    settings, events = prepare()
    code = run_coroutine(_run(settings, events))
    if code:
        raise typer.Exit(code)


def once(
    wait: Annotated[bool, typer.Option("--wait", help="Repeat until nothing is due, not awaiting back-off.")] = False,
    as_json: Json = False,
    _: Graphs = None,
) -> None:
    """Run one sweep and its attempts to their end. Exit 1 if any attempt failed."""
    settings, events = prepare()
    attempts, troubles, unjudged = run_coroutine(_once(settings, events, wait=wait))
    if as_json:
        print_json({"attempts": [_attempt_fields(attempt) for attempt in attempts]})
    else:
        columns = ("thread_id", "workflow", "attempt", "outcome", "error_type")
        rows = [[getattr(attempt, name) for name in columns] for attempt in attempts]
        print_table(("thread", "workflow", "attempt", "outcome", "error"), rows, "nothing was due")
    if unjudged:
        message = f"{unjudged} threads could not be judged: the log names each with its error, mend those and run again"
        typer.echo(f"resumed: {message}", err=True)
    if troubles or unjudged or any(meaning_of(attempt.outcome).fails_once for attempt in attempts):
        raise typer.Exit(1)


async def _run(settings: Settings, events: Events) -> int:
    service = Service(settings, events)
    stop, received = asyncio.Event(), [0]
    _handle_signals(service, stop, received)
    async with serve(http_application(events, service.readiness), settings.http_host, settings.http_port) as port:
        events.service_started(version("resumed"), dry_run=settings.dry_run)
        events.http_opened(settings.http_host, port)
        await service.run(stop)
    return INTERRUPTED if received[0] == signal.SIGINT else 0


def _handle_signals(service: Service, stop: asyncio.Event, received: list[int]) -> None:
    """Drain at the first signal; kill the workers and exit at the second."""

    def on_signal(number: int) -> None:
        if stop.is_set():
            service.pool.kill()
            exit_with_code(INTERRUPTED)
        received[0] = number
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)


async def _once(settings: Settings, events: Events, *, wait: bool) -> tuple[list[Attempt], int, int]:
    service = Service(settings, events)
    attempts = await service.once(wait=wait)
    troubles = sum(service.monitor.results[result] for result in _TROUBLE)
    return attempts, troubles, len(service.sweep.unjudged)


def _attempt_fields(attempt: Attempt) -> dict[str, object]:
    return {
        "thread_id": attempt.thread_id,
        "workflow": attempt.workflow,
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "advanced": attempt.advanced,
        "before": attempt.before,
        "after": attempt.after,
        "error_type": attempt.error_type,
        "error": escape_text(attempt.error) if attempt.error is not None else None,
    }
