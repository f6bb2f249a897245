"""One pass: what it finds, where it goes on, what it passes over. Driven by hand, on a clock of the test's own."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.pq import TransactionStatus

from resumed.daemon import sweep
from resumed.daemon.sweep import PAGE_ROWS, QuarantinedGroup, run_sweep
from resumed.daemon.sweep_memory import SweepMemory
from resumed.judge.checkpoint_id import first_at
from resumed.model import Case, PolicyLimits, Registration, State, Verdict
from resumed.observability.redaction import ErrorReport
from resumed.operations.assess import SweepRules
from resumed.store import cases, workflow_versions
from resumed.store.connection import Session, Target, open_session

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)
NUMBERS = PolicyLimits(
    min_age=5 * MINUTE,
    max_age=timedelta(days=1),
    max_attempts=5,
    max_total_attempts=50,
    retry_base=timedelta(seconds=30),
    retry_cap=timedelta(hours=1),
    timeout=15 * MINUTE,
    concurrency=16,
)
RULES = SweepRules(NUMBERS, "orders", 15 * MINUTE)
INSERT = (
    "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
    " values (%(thread)s, '', %(id)s, %(checkpoint)s::text::jsonb, %(metadata)s::text::jsonb)"
)


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        await it.execute("select resumed.lock_key('x')")
        yield it


async def saved(
    session: Session, thread: str, at: datetime, channels: Any = ("branch:to:pay",), **metadata: Any
) -> None:
    row = {
        "thread": thread,
        "id": first_at(at),
        "checkpoint": json.dumps({"v": 4, "updated_channels": channels}),
        "metadata": json.dumps({"source": "loop", "step": 1, **metadata}),
    }
    await session.execute(INSERT, row)


async def registered(session: Session, **numbers: Any) -> None:
    one = Registration("orders", "1", (), (), replace(NUMBERS, **numbers), NOW)
    await workflow_versions.announce_versions(session, [one])
    await session.execute("update resumed.workflows set seen_at = %s", [NOW + timedelta(days=1)])


async def case(session: Session, thread: str) -> Case | None:
    return (await cases.of_threads(session, [thread])).get(thread)


async def test_a_thread_is_found_when_it_has_been_quiet_for_min_age_and_not_before(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", NOW)
    await run_sweep(session, RULES, NOW + 4 * MINUTE)
    assert await case(session, "orders_1") is None
    await run_sweep(session, RULES, NOW + 6 * MINUTE)
    found = await case(session, "orders_1")
    assert found is not None
    assert (found.verdict, found.state, found.due_at) == (Verdict.STOPPED, State.DUE, NOW + 6 * MINUTE)


async def test_a_finished_thread_is_no_case(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", NOW, channels=["messages"])
    await run_sweep(session, RULES, NOW + 6 * MINUTE)
    assert await case(session, "orders_1") is None


async def test_after_an_hour_of_nobody_sweeping_it_goes_on_where_it_was(session: Session) -> None:
    await registered(session)
    await run_sweep(session, RULES, NOW)
    for number in range(60):
        await saved(session, f"orders_{number}", NOW + number * MINUTE)
    report = await run_sweep(session, RULES, NOW + 70 * MINUTE)
    assert report is not None
    assert report.written == 60


async def test_the_first_sweep_of_all_looks_back_for_max_age(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_old", NOW - timedelta(hours=30))
    await saved(session, "orders_new", NOW - timedelta(hours=20))
    await run_sweep(session, RULES, NOW)
    assert await case(session, "orders_old") is None
    assert (await case(session, "orders_new")) is not None


async def test_an_id_that_appears_late_is_found_within_the_tolerance(session: Session) -> None:
    await registered(session)
    await run_sweep(session, RULES, NOW)
    await run_sweep(session, RULES, NOW + 10 * MINUTE)
    await saved(session, "orders_late", NOW - 4 * MINUTE)
    await run_sweep(session, RULES, NOW + 12 * MINUTE)
    assert (await case(session, "orders_late")) is not None


async def test_threads_that_share_a_checkpoint_id_are_all_found_where_a_page_ends(session: Session) -> None:
    await registered(session)
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_id, checkpoint, metadata)"
        " select 'orders_' || n, %(id)s, '{\"updated_channels\": [\"branch:to:pay\"]}', '{}'"
        " from generate_series(1, %(many)s) n",
        {"id": first_at(NOW), "many": PAGE_ROWS + 200},
    )
    await run_sweep(session, RULES, NOW + 10 * MINUTE)
    row = await (await session.execute("select count(*) as n from resumed.cases")).fetchone()
    assert row == {"n": PAGE_ROWS + 200}


@pytest.mark.parametrize(
    "channels", [[None], [None, "branch:to:pay"], {"a": 1}, 5, "branch:to:pay", [["x"]], [{"a": None}], []]
)
async def test_a_row_of_any_shape_hides_no_other_thread(session: Session, channels: Any) -> None:
    await registered(session)
    told: list[str] = []
    await saved(session, "orders_a", NOW)
    await saved(session, "orders_odd", NOW, channels=channels, workflow={"not": "text"}, version=[1])
    await saved(session, "orders_z", NOW)

    def tell(thread: str, _: ErrorReport) -> None:
        told.append(thread)

    await run_sweep(session, RULES, NOW + 10 * MINUTE, tell)
    assert (await case(session, "orders_a")) is not None
    assert (await case(session, "orders_z")) is not None
    assert set(told) <= {"orders_odd"}


async def test_two_sweeps_at_once_are_one(database: str, session: Session) -> None:
    await registered(session)
    await run_sweep(session, RULES, NOW)
    async with open_session(Target(database)) as other, other.transaction():
        await other.execute("select from resumed.watermarks for update")
        assert await run_sweep(session, RULES, NOW + MINUTE) is None


async def test_a_thread_that_is_deleted_closes_its_case(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", NOW, workflow="nobodys")
    await run_sweep(session, RULES, NOW + 6 * MINUTE)
    await session.execute("delete from checkpoints")
    await run_sweep(session, RULES, NOW + 20 * MINUTE)
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.CLOSED


async def test_an_id_that_tells_no_time_counts_from_first_sight(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", NOW)
    await session.execute("update checkpoints set checkpoint_id = 'zzz-1'")
    await run_sweep(session, RULES, NOW)
    first = await case(session, "orders_1")
    assert first is not None
    assert first.verdict is Verdict.RUNNING
    await run_sweep(session, RULES, NOW + 4 * MINUTE)
    await run_sweep(session, RULES, NOW + 6 * MINUTE)
    later = await case(session, "orders_1")
    assert later is not None
    assert later.verdict is Verdict.STOPPED


async def test_a_case_that_waits_does_not_expire(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", NOW)
    await run_sweep(session, RULES, NOW + 6 * MINUTE)
    await run_sweep(session, RULES, NOW + timedelta(days=9))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.verdict is Verdict.STOPPED


async def test_all_submitted_runs_become_cases_in_one_sweep_however_many_pages_they_fill(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(session)
    await session.execute(
        "insert into resumed.runs (run_id, thread_id, workflow, state, submitted, input_type, input, owner)"
        " select 'run ' || n, 'orders_' || n, 'orders', 'submitted', true, 'msgpack', '\\x80', 'app'"
        " from generate_series(1, 250) n"
    )
    monkeypatch.setattr(sweep, "PAGE_ROWS", 100)
    report = await run_sweep(session, RULES, NOW)
    assert report is not None
    assert report.written == 250
    assert len(await cases.list_open(session, State.DUE.value)) == 250
    again = await run_sweep(session, RULES, NOW + MINUTE)
    assert again is not None
    assert again.threads == 0


async def test_an_answer_is_noticed_although_the_look_at_its_thread_is_far_off(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(session)
    row = (
        "insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)"
        " select thread_id, '', checkpoint_id, %s, %s, %s, 'msgpack', '\\x80' from checkpoints"
        " where thread_id = any (%s)"
    )
    threads = [f"orders_{number}" for number in range(7)]
    for thread in threads:
        await saved(session, thread, NOW - 10 * MINUTE)
    await session.execute(row, ["task", -3, "__interrupt__", threads])
    await run_sweep(session, RULES, NOW)
    assert {one.verdict for one in await cases.list_open(session)} == {Verdict.WAITING}
    await session.execute("update resumed.cases set next_look_at = %s", [NOW + timedelta(hours=1)])
    await session.execute(row, ["00000000-0000-0000-0000-000000000000", -4, "__resume__", ["orders_2", "orders_6"]])
    monkeypatch.setattr(sweep, "PAGE_ROWS", 3)
    monkeypatch.setattr(sweep, "LOOK_ROWS", 1)  # of a full page nothing is lost, and the next sweep continues behind it
    memory = SweepMemory()
    noticed = []
    for number in range(3):
        await run_sweep(session, RULES, NOW + number * MINUTE, memory=memory)
        noticed.append({one.thread_id for one in await cases.list_open(session) if one.verdict is not Verdict.WAITING})
    assert noticed == [{"orders_2"}, {"orders_2", "orders_6"}, {"orders_2", "orders_6"}]
    await run_sweep(session, RULES, NOW + 7 * MINUTE)  # quiet for min_age since
    assert {one.thread_id for one in await cases.list_open(session, State.DUE.value)} == {"orders_2", "orders_6"}


async def test_what_goes_into_quarantine_is_reported_once_and_only_when_it_is_committed(session: Session) -> None:
    told: list[tuple[str, int, str, bool]] = []

    def tell(group: QuarantinedGroup) -> None:
        idle = session.info.transaction_status is TransactionStatus.IDLE
        told.append((group.workflow, group.threads, group.reason, idle))

    await registered(session)
    for number in range(3):
        await saved(session, f"orders_{number}", NOW - 10 * MINUTE, version="2")
    await saved(session, "orders_fine", NOW - 10 * MINUTE, version="1")
    await run_sweep(session, RULES, NOW, on_quarantined=tell)
    found = await case(session, "orders_0")
    assert found is not None
    assert found.state is State.QUARANTINED
    assert told == [("orders", 3, found.quarantine_reason, True)]
    for minutes in (1, 30):
        await run_sweep(session, RULES, NOW + minutes * MINUTE, on_quarantined=tell)
    assert len(told) == 1
