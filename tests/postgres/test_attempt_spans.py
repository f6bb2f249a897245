"""How the spans of closed attempts reach the exporter while the database, or the collector, is away."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from postgres.test_origins import attempt
from postgres.test_sweep import NUMBERS, RULES
from resumed import timings
from resumed.daemon.attempt_spans import SpanTask
from resumed.daemon.control_session import ControlSession
from resumed.daemon.readiness import Readiness
from resumed.daemon.task_context import TaskContext
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.observability.events import Events
from resumed.observability.traces import AttemptSpan, Traces
from resumed.rows import AttemptOrigin
from resumed.store.connection import Target
from resumed.timings import Timings
from resumed.workers.pool import WorkerPlan, WorkerPool
from resumed.workers.protocol import WorkerSettings

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


class Kept:
    """Keeps spans; its end waits for a collector that does not answer."""

    def __init__(self) -> None:
        self.spans: list[AttemptSpan] = []
        self.released = threading.Event()

    def emit(self, span: AttemptSpan) -> None:
        self.spans.append(span)

    def close(self) -> None:
        self.released.wait(60)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(timings, "_IN_USE", [Timings(trace_close=timedelta(milliseconds=200))])
    made = Kept()
    yield made
    made.released.set()


def task_at(dsn: str, kept: Kept) -> SpanTask:
    events, target = Events(), Target(dsn)
    events.traces = Traces(kept, log_errors=True)
    monitor = WorkerMonitor(events, on_slot_free=lambda: None, on_worker_exit=lambda: None)
    pool = WorkerPool(WorkerPlan(1, WorkerSettings(dsn, "public", None, 1, 25, NUMBERS), None, {}), monitor.listener())
    session, readiness = ControlSession(target, timedelta(0)), Readiness(lambda _, __: None)
    for number in (1, 2):
        events.attempt_finished(attempt(number, "a", None))
    return SpanTask(TaskContext(target, session, pool, monitor, readiness, events, RULES, "test"))


async def test_a_database_that_is_away_delays_spans_and_then_costs_them_their_links(kept: Kept) -> None:
    task = task_at(NOWHERE, kept)
    assert [await task.run_once(), await task.run_once(), kept.spans] == [0, 0, []]
    assert task.context.readiness.is_ready
    assert await task.run_once() == 2
    assert [span.application for span in kept.spans] == [None, None]
    assert await task.run_once() == 0


async def test_each_closed_attempt_is_exported_once_with_its_links(database: str, kept: Kept) -> None:
    task = task_at(database, kept)
    assert [await task.run_once(), await task.run_once()] == [2, 0]
    assert [span.application for span in kept.spans] == [AttemptOrigin(), AttemptOrigin()]
    await task.context.control_session.close()


@pytest.mark.parametrize("away", [True, False])
async def test_the_end_waits_neither_for_the_database_nor_for_the_collector(
    database: str, kept: Kept, *, away: bool
) -> None:
    task = task_at(NOWHERE if away else database, kept)
    await task.close()
    assert not kept.released.is_set()
    assert len(kept.spans) == 2
    await task.context.control_session.close()
