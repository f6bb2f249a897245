"""Judging every unfinished thread for a person: in order, each once, and no more than somebody wants to see."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from postgres.test_sweep import MINUTE, NOW, NUMBERS, RULES, registered, saved
from resumed import AsyncWorkflowExecutor
from resumed.admin import inspect
from resumed.admin.inspect import Inspector
from resumed.daemon.sweep import run_sweep
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.model import Registration
from resumed.observability.events import Events
from resumed.operations.assess import SweepContext, assess, build_sweep_context, with_own_registrations
from resumed.store.connection import Session, Target, open_session
from resumed.workers.pool import WorkerPlan, WorkerPool
from resumed.workers.protocol import WorkerSettings

DAY = timedelta(days=1)


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        await it.execute("select resumed.lock_key('x')")
        await registered(it)
        yield it


@pytest.fixture(params=[1, 3, 5000])
def page_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(inspect, "PAGE_ROWS", request.param)
    return int(request.param)


async def inspector(session: Session) -> Inspector:
    """A surveyor whose workers have not been started: it judges by rows."""
    monitor = WorkerMonitor(Events(log_errors=True), on_slot_free=lambda: None, on_worker_exit=lambda: None)
    pool = WorkerPool(WorkerPlan(1, WorkerSettings("", "public", None, 1, 25, NUMBERS), None, {}), monitor.listener())
    return Inspector(session, await build_sweep_context(session, RULES, NOW), monitor, pool)


async def named(session: Session, limit: int | None = None, **options: Any) -> list[str]:
    found: list[str] = []
    async with aclosing((await inspector(session)).find_unfinished(**options)) as all_of_them:
        async for one in all_of_them:
            found.append(one.update.thread_id)
            if len(found) == limit:
                break
    return found


async def test_the_longest_quiet_comes_first_and_each_thread_once(session: Session, page_rows: int) -> None:
    ages = {number: 60 - number for number in range(12)}
    for number, age in ages.items():
        for step in range(3):  # every other thread goes on long after its neighbours have become quiet
            ages[number] = age - step * (14 if number % 2 else 0) - step / 60
            await saved(session, f"orders_{number}", NOW - ages[number] * MINUTE)
    assert await named(session) == [f"orders_{number}" for number in sorted(ages, key=lambda one: -ages[one])]


async def test_finished_threads_are_left_out(session: Session, page_rows: int) -> None:
    for number in range(6):
        channels = ["messages"] if number % 2 else ["branch:to:pay"]
        await saved(session, f"orders_{number}", NOW - (30 - number) * MINUTE, channels)
    assert await named(session) == ["orders_0", "orders_2", "orders_4"]


async def test_open_cases_from_before_the_window_come_before_it(session: Session) -> None:
    survey_rows = 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "PAGE_ROWS", survey_rows)
        for number in range(5):
            await saved(session, f"orders_{number}", NOW - 20 * DAY + number * MINUTE)
        await run_sweep(session, RULES, NOW - 20 * DAY + 30 * MINUTE)
        await run_sweep(session, RULES, NOW - MINUTE)
        await saved(session, "orders_2", NOW - 10 * MINUTE)  # it went on, unseen by the next sweep
        await saved(session, "orders_new", NOW - 20 * MINUTE)
        assert await named(session) == ["orders_0", "orders_1", "orders_3", "orders_4", "orders_new", "orders_2"]
        assert await named(session, limit=4) == ["orders_0", "orders_1", "orders_3", "orders_4"]


async def test_threads_whose_ids_tell_no_time_are_among_them_once(session: Session, page_rows: int) -> None:
    await saved(session, "orders_1", NOW - 20 * MINUTE)
    for name in ("orders_odd", "orders_old"):
        await session.execute(
            "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata) values"
            """ (%s, '', 'zz-1', '{"updated_channels": ["branch:to:pay"]}', '{"step": 1, "source": "loop"}')""",
            [name],
        )
    assert sorted(await named(session)) == ["orders_1", "orders_odd", "orders_old"]
    await run_sweep(session, RULES, NOW)
    assert sorted(await named(session)) == ["orders_1", "orders_odd", "orders_old"]


async def test_runs_that_were_only_submitted_are_among_them_once(
    session: Session, database: str, page_rows: int
) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        for number in range(4):
            await executor.submit("orders", {"seen": []}, thread_id=f"orders_{number}")
    assert sorted(await named(session)) == [f"orders_{number}" for number in range(4)]


async def test_only_threads_of_the_workflow_are_judged_to_the_end(
    session: Session, page_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        name = "orders" if number % 2 else "parcels"
        await saved(session, f"{name}_{number}", NOW - (30 - number) * MINUTE, workflow=name)
    assert await named(session, workflow="orders") == ["orders_1", "orders_3", "orders_5"]
    assert await named(session, limit=1, workflow="orders") == ["orders_1"]


async def test_whoever_has_enough_has_no_more_judged_than_a_page(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "PAGE_ROWS", 4)
    assessed: list[str] = []

    async def counted(session: Session, sweep_context: SweepContext, threads: Any, known: Any) -> Any:
        assessed.extend(threads)
        return await assess(session, sweep_context, threads, known)

    monkeypatch.setattr(inspect, "assess", counted)
    for number in range(40):
        await saved(session, f"orders_{number:02}", NOW - (60 - number) * MINUTE)
    assert await named(session, limit=3) == ["orders_00", "orders_01", "orders_02"]
    assert len(assessed) <= 4
    assert len(await named(session)) == 40


async def test_what_the_workers_have_replaces_the_same_version_and_no_other(session: Session) -> None:
    sweep_context = await build_sweep_context(session, RULES, NOW)
    others = (Registration("orders", "2", (), (), NUMBERS, NOW), Registration("orders", "3", (), (), NUMBERS, NOW))
    own = Registration("orders", "2", ("1",), (), NUMBERS, NOW - DAY)
    served = with_own_registrations(SweepContext(NOW, others, sweep_context.rules), [own])
    assert {(one.version, one.accepts) for one in served.registrations} == {("2", ("1",)), ("3", ())}
    assert next(one for one in served.registrations if one.version == "2").seen_at == NOW
