"""What the recovery of a replica makes of attempts whose worker has ended."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from postgres.test_orphans import PATIENT, left_open, version
from postgres.test_sweep import NUMBERS, RULES
from resumed.daemon.control_session import ControlSession
from resumed.daemon.periodic_tasks import RecoveryTask
from resumed.daemon.readiness import Readiness
from resumed.daemon.task_context import TaskContext
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.model import Attempt, Outcome
from resumed.observability.events import Events
from resumed.store import attempts, locks
from resumed.store.connection import Target, open_session
from resumed.workers.pool import WorkerPlan, WorkerPool
from resumed.workers.process import WorkerExit, WorkerProcess
from resumed.workers.protocol import AttemptStarted, WorkerSettings
from support.attempting import Place, chain, workflow_of


def recovery_after(database: str, exited: WorkerExit, inflight: dict[str, str]) -> RecoveryTask:
    """The recovery of a replica, `test`, whose worker has ended like this with these threads in hand."""
    events, target = Events(), Target(database)
    monitor = WorkerMonitor(events, on_slot_free=lambda: None, on_worker_exit=lambda: None)
    worker = SimpleNamespace(name="test-1", alone=False, inflight=inflight)
    monitor.listener().on_exited(cast("WorkerProcess", worker), exited)
    settings = WorkerSettings(database, "public", None, 1, 25, NUMBERS)
    pool = WorkerPool(WorkerPlan(1, settings, None, {}), monitor.listener())
    session = ControlSession(target, timedelta(0))
    return RecoveryTask(
        TaskContext(target, session, pool, monitor, Readiness(lambda _, __: None), events, RULES, "test")
    )


@pytest.mark.parametrize(("retired", "outcome"), [(True, Outcome.DRAINED), (False, Outcome.CRASHED)])
async def test_how_a_worker_ended_counts_also_where_its_session_ends_later(
    database: str, retired: bool, outcome: Outcome
) -> None:
    exited = WorkerExit(-9, registered=True, loading=None, retired=retired, dismissed=False)
    async with open_session(Target(database)) as session, open_session(Target(database)) as lasting:
        await left_open(session, "1", [version("1", PATIENT)], version="1")
        task = recovery_after(database, exited, {"orders_1": "orders"})
        assert (await locks.try_lock(lasting, "orders_1"))[0]
        assert (await task.run_once()).closed == 0
        assert await locks.unlock(lasting, "orders_1")
        assert (await task.run_once()).closed == 1
        await task.context.control_session.close()
        assert [attempt.outcome for attempt in await attempts.of_thread(session, "orders_1")] == [outcome]


@pytest.mark.parametrize(("closer", "told"), [("other-1", 0), ("test-2", 1), ("test", 1)])
async def test_an_attempt_is_reported_only_by_the_replica_whose_worker_closed_it(
    database: str, place: Place, monkeypatch: pytest.MonkeyPatch, closer: str, told: int
) -> None:
    """That worker died before it could report it, or belongs to another replica, which has reported it.

    Or this replica closed it itself, and lost its session before it was told of the commit.
    """
    exited = WorkerExit(-9, registered=True, loading=None, retired=False, dismissed=False)
    async with open_session(Target(database)) as session:
        attempt = await left_open(session, "1", [version("1", PATIENT)], version="1")
        task = recovery_after(database, exited, {})
        monitor = task.context.monitor
        monitor.listener().on_message(cast("WorkerProcess", SimpleNamespace(name="test-1")), AttemptStarted(attempt))
        other = Place(replace(place.worker, name=closer))
        await other.attempt(workflow_of("orders", chain(dict, ("pack", lambda _: {}))), "orders_1")
        (closed,) = await attempts.of_thread(session, "orders_1")
        assert (closed.outcome, closed.closed_by) == (Outcome.CRASHED, closer)
        reported: list[Attempt] = []
        monkeypatch.setattr(task.context.events, "attempt_finished", lambda ended, _: reported.append(ended))
        assert (await task.run_once()).reported == 1
        await task.context.control_session.close()
        assert reported == [closed] * told
        assert not monitor.is_open(attempt)
