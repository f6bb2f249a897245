"""What overlapping windows read again, and what of it is judged again: nothing but what has changed."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from postgres.test_sweep import MINUTE, NOW, RULES, case, registered, saved
from resumed.daemon import sweep
from resumed.daemon.sweep import SweepReport, run_sweep
from resumed.daemon.sweep_memory import SweepMemory
from resumed.judge.case import CasePlacement, CaseUpdate
from resumed.judge.checkpoint_id import first_at
from resumed.model import Judgement, State, Verdict
from resumed.operations import assess
from resumed.operations.assess import SweepContext, build_sweep_context
from resumed.store import cases, workflow_versions
from resumed.store.checkpoints import JudgedRange
from resumed.store.connection import Session, Target, open_session

NULL_TASK = "00000000-0000-0000-0000-000000000000"
QUIET = NOW + 5 * MINUTE + timedelta(seconds=1)


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        await registered(it)
        yield it


@pytest.fixture
async def application(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        yield it


async def swept(session: Session, memory: SweepMemory, now: datetime) -> SweepReport:
    report = await run_sweep(session, RULES, now, memory=memory)
    assert report is not None
    return report


async def write(session: Session, thread: str, channel: str, task: str = NULL_TASK, namespace: str = "") -> None:
    await session.execute(
        "insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)"
        " select thread_id, checkpoint_ns, max(checkpoint_id), %s, 0, %s, 'msgpack', '\\x80' from checkpoints"
        " where thread_id = %s and checkpoint_ns = %s group by thread_id, checkpoint_ns",
        [task, channel, thread, namespace],
    )


async def child(session: Session, thread: str, source: str) -> None:
    row = {"thread": thread, "id": first_at(NOW), "metadata": json.dumps({"source": source, "step": 1})}
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
        """ values (%(thread)s, 'sub', %(id)s, '{"updated_channels": []}', %(metadata)s::text::jsonb)""",
        row,
    )


async def test_a_finished_thread_is_judged_once_however_often_its_rows_are_read(session: Session) -> None:
    for number in range(5):
        await saved(session, f"orders_{number}", NOW, channels=["total"])
    memory = SweepMemory()
    reports = [await swept(session, memory, NOW + 5 * MINUTE + timedelta(seconds=5 * n)) for n in range(1, 40)]
    assert [report.threads for report in reports] == [5] + [0] * 38
    assert sum(report.rows for report in reports) >= 5 * 8  # two minutes: the narrow windows, and three wide ones


async def test_each_row_is_judged_about_once_where_applications_write_all_the_time(session: Session) -> None:
    memory, judged, read = SweepMemory(), 0, 0
    for number in range(120 + 62):  # ten minutes, and until the last is quiet
        now = NOW + timedelta(seconds=5 * number)
        if number < 120:
            await saved(session, f"orders_{number}", now, channels=["total"])
        report = await swept(session, memory, now + timedelta(seconds=1))
        judged, read = judged + report.threads, read + report.rows
    assert 120 <= judged <= 180  # what a wide window has is judged as a whole every seven and a half minutes
    assert read > 1000


async def test_what_a_transaction_commits_late_is_judged(session: Session, application: Session) -> None:
    memory = SweepMemory()
    async with application.transaction():
        await saved(application, "orders_late", NOW)
        async with application.transaction():  # its rows have an id of their own, which no snapshot lists
            await saved(application, "orders_later", NOW)
        for seconds in (1, 6):
            assert (await swept(session, memory, NOW + 5 * MINUTE + timedelta(seconds=seconds))).threads == 0
    await swept(session, memory, NOW + 5 * MINUTE + timedelta(seconds=11))
    for thread in ("orders_late", "orders_later"):
        found = await case(session, thread)
        assert found is not None, thread
        assert found.state is State.DUE


async def test_a_row_with_an_id_of_long_ago_is_found_by_the_next_wide_window(session: Session) -> None:
    memory = SweepMemory()
    for seconds in range(0, 50, 5):
        await swept(session, memory, NOW + 10 * MINUTE + timedelta(seconds=seconds))
    await saved(session, "orders_late", NOW - 4 * MINUTE)
    await swept(session, memory, NOW + 10 * MINUTE + timedelta(seconds=50))
    assert await case(session, "orders_late") is None
    await swept(session, memory, NOW + 11 * MINUTE)
    assert await case(session, "orders_late") is not None


async def test_what_is_saved_on_the_head_of_a_finished_thread_is_noticed(session: Session) -> None:
    await saved(session, "orders_1", NOW, channels=["total"])
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    assert await case(session, "orders_1") is None
    await write(session, "orders_1", "branch:to:pay")
    await swept(session, memory, QUIET + timedelta(seconds=5))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.verdict is Verdict.STOPPED


async def test_a_checkpoint_that_is_written_over_is_judged_again(session: Session) -> None:
    await saved(session, "orders_1", NOW, channels=["total"])
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    await session.execute("""update checkpoints set checkpoint = '{"updated_channels": ["branch:to:pay"]}'""")
    await swept(session, memory, QUIET + timedelta(seconds=5))
    assert await case(session, "orders_1") is not None


async def test_a_thread_that_could_not_be_judged_is_tried_at_every_sweep(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved(session, "orders_1", NOW)
    memory = SweepMemory()
    with monkeypatch.context() as patched:
        patched.setattr("resumed.operations.assess.decide_case", lambda *_: 1 / 0)
        for seconds in (0, 5):
            assert (await swept(session, memory, QUIET + timedelta(seconds=seconds))).threads == 1
    await swept(session, memory, QUIET + timedelta(seconds=10))
    assert await case(session, "orders_1") is not None


async def test_a_sweep_that_fails_in_a_later_page_is_not_remembered(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await saved(session, f"orders_{number}", NOW - timedelta(seconds=number), channels=["total"])
    monkeypatch.setattr(sweep, "PAGE_ROWS", 2)
    memory, pages = SweepMemory(), []
    move = sweep.watermark.move_watermark

    async def fail(*given: object) -> None:
        pages.append(1)
        if len(pages) == 2:
            raise ConnectionError
        await move(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(sweep.watermark, "move_watermark", fail)
    with pytest.raises(ConnectionError):
        await run_sweep(session, RULES, QUIET, memory=memory)
    context = await build_sweep_context(session, RULES, QUIET + timedelta(seconds=5))
    assert memory.judged(session, context, wide=False) == ()
    assert (await swept(session, memory, QUIET + timedelta(seconds=5))).threads == 6


async def test_another_session_begins_with_nothing(session: Session, application: Session) -> None:
    await saved(session, "orders_1", NOW, channels=["total"])
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    assert [(await swept(application, memory, QUIET)).threads for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("earlier", [(), ("custom",)])
async def test_a_registration_that_changes_or_comes_back_to_life_has_all_judged(
    session: Session, earlier: tuple[str, ...]
) -> None:
    (known,) = await workflow_versions.known_versions(session)
    await workflow_versions.announce_versions(session, [replace(known, triggers=earlier)])
    await session.execute("update resumed.workflows set seen_at = %s", [QUIET - 10 * MINUTE])
    await saved(session, "orders_1", NOW, channels=["custom"])
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    await workflow_versions.announce_versions(session, [replace(known, triggers=("custom", "*"))])
    await session.execute("update resumed.workflows set seen_at = %s", [QUIET + MINUTE])
    await swept(session, memory, QUIET + timedelta(seconds=5))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.DUE


async def test_a_sweep_that_judged_by_other_registrations_and_failed_leaves_nothing_remembered(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    (known,) = await workflow_versions.known_versions(session)
    await workflow_versions.announce_versions(session, [replace(known, triggers=("*",))])
    start = QUIET + 12 * MINUTE
    await saved(session, "orders_1", NOW, channels=["custom"])  # of a factory, as far as its version lives
    memory, decide = SweepMemory(), assess.decide_case

    async def state_at(now: datetime, seen_at: datetime) -> State:
        await session.execute("update resumed.workflows set seen_at = %s", [seen_at])
        await swept(session, memory, now)
        found = await case(session, "orders_1")
        assert found is not None
        return found.state

    def fail_for_one(snapshot: Any, circumstances: Any) -> CaseUpdate:
        return decide(None if snapshot.head.thread_id == "orders_bad" else snapshot, circumstances)

    assert await state_at(start, start) is State.DUE
    await saved(session, "orders_bad", start - 6 * MINUTE)
    with monkeypatch.context() as patched:
        patched.setattr(assess, "decide_case", fail_for_one)
        assert await state_at(start + timedelta(seconds=61), start) is State.CLOSED
    later = [start + timedelta(seconds=seconds) for seconds in range(65, 130, 5)]
    assert [await state_at(now, now) for now in later][-1] is State.DUE


async def test_a_replica_that_was_suspended_remembers_nothing(session: Session, application: Session) -> None:
    (known,) = await workflow_versions.known_versions(session)
    await workflow_versions.announce_versions(session, [replace(known, triggers=("*",))])
    await saved(session, "orders_1", NOW, channels=["custom"])
    suspended, other, start = SweepMemory(), SweepMemory(), QUIET + 8 * MINUTE
    await session.execute("update resumed.workflows set seen_at = %s", [start])
    await swept(session, suspended, start)
    await swept(application, other, start + timedelta(seconds=65))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.CLOSED
    for seconds in range(80, 200, 5):
        await session.execute("update resumed.workflows set seen_at = %s", [start + timedelta(seconds=seconds)])
        await swept(application, other, start + timedelta(seconds=seconds - 1))
        await swept(session, suspended, start + timedelta(seconds=seconds))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.DUE


async def test_a_version_that_dies_leaves_its_threads_incompatible(session: Session) -> None:
    (known,) = await workflow_versions.known_versions(session)
    await workflow_versions.announce_versions(session, [replace(known, version="2")])
    await session.execute("update resumed.workflows set seen_at = %s where version = '1'", [QUIET])
    await session.execute("update resumed.workflows set seen_at = %s where version = '2'", [QUIET + 10 * MINUTE])
    await saved(session, "orders_1", NOW, version="1")
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.DUE
    for seconds in range(5, 125, 5):
        await swept(session, memory, QUIET + timedelta(seconds=seconds))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.verdict is Verdict.INCOMPATIBLE


async def test_a_command_on_an_old_head_is_noticed_where_only_a_subgraph_is_in_the_window(session: Session) -> None:
    """LangGraph saves an edit of a subgraph as a row of it alone, and a command's writes on the root head."""
    await saved(session, "orders_1", NOW - timedelta(hours=1), channels=["total"])
    await child(session, "orders_1", "update")
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    assert await case(session, "orders_1") is None
    await write(session, "orders_1", "branch:to:pay")
    await swept(session, memory, QUIET + timedelta(seconds=5))
    assert await case(session, "orders_1") is not None


async def test_a_question_that_comes_late_in_a_subgraph_is_noticed(session: Session) -> None:
    await saved(session, "x_1", NOW - timedelta(seconds=10), channels=["total"])
    await child(session, "x_1", "loop")
    memory, rules = SweepMemory(), replace(RULES, default_workflow=None)
    await run_sweep(session, rules, QUIET, memory=memory)
    assert await case(session, "x_1") is None
    await write(session, "x_1", "__interrupt__", task="task", namespace="sub")
    await run_sweep(session, rules, QUIET + timedelta(seconds=5), memory=memory)
    assert await case(session, "x_1") is not None


async def test_a_case_that_another_replica_wrote_meanwhile_is_judged_again(
    session: Session, application: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved(session, "orders_1", NOW)
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    await session.execute("""update checkpoints set checkpoint = '{"updated_channels": ["total"]}'""")
    known = await case(session, "orders_1")
    finished = Judgement(Verdict.FINISHED, "no channel of the head has work waiting")
    stale = CaseUpdate("orders_1", "orders", None, first_at(NOW), "", QUIET, finished, CasePlacement(State.CLOSED))
    await write(session, "orders_1", "branch:to:pay")
    record = cases.record

    async def lose(*given: Any) -> set[str]:
        monkeypatch.setattr(cases, "record", record)
        assert await record(application, [(stale, known)], QUIET) == {"orders_1"}
        return set(await record(*given))

    monkeypatch.setattr(cases, "record", lose)
    await swept(session, memory, QUIET + timedelta(seconds=5))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.CLOSED
    await swept(session, memory, QUIET + timedelta(seconds=10))
    found = await case(session, "orders_1")
    assert found is not None
    assert found.state is State.RUNNING  # not yet quiet: the row is of now


async def test_what_leaves_no_new_row_is_found_within_half_the_tolerance(session: Session) -> None:
    await saved(session, "orders_1", NOW - timedelta(seconds=2))
    await saved(session, "orders_1", NOW, channels=["total"])
    memory = SweepMemory()
    await swept(session, memory, QUIET)
    assert await case(session, "orders_1") is None
    await session.execute("delete from checkpoints where checkpoint_id = %s", [first_at(NOW)])
    looked_after = timedelta(0)
    while await case(session, "orders_1") is None:
        looked_after += timedelta(seconds=5)
        await swept(session, memory, QUIET + looked_after)
        assert looked_after <= 9 * MINUTE
    assert looked_after > MINUTE  # it was remembered


async def test_transaction_ids_are_compared_in_full(session: Session) -> None:
    """The counter passes 2^32 after four thousand million transactions; a row has only the lower half of its id."""
    await saved(session, "orders_1", NOW, channels=["total"])
    cursor = await session.execute(
        "select pg_current_xact_id()::text::bigint as next, xmin::text::bigint from checkpoints"
    )
    row = await cursor.fetchone()
    assert row is not None
    epoch = row["next"] - row["next"] % 2**32
    window = JudgedRange(first_at(NOW - MINUTE), first_at(NOW + MINUTE), epoch + row["xmin"])
    for judged, threads in ((window, 1), (replace(window, horizon=window.horizon + 1), 0)):
        page = await sweep.checkpoints.window_news(session, (window.after, window.upper), 10, [judged])
        assert len(page.threads) == threads


def test_a_gap_between_two_sweeps_ends_what_the_wide_one_covers() -> None:
    memory, session, context = SweepMemory(), cast("Session", object()), SweepContext(NOW, (), RULES)
    assert memory.judged(session, context, wide=True) == ()
    for found, wide, judged in (
        (JudgedRange("1", "5", 10), True, (JudgedRange("1", "5", 10),) * 2),
        (JudgedRange("4", "6", 20), False, (JudgedRange("4", "6", 20), JudgedRange("1", "6", 10))),
        (JudgedRange("7", "8", 30), False, (JudgedRange("7", "8", 30), JudgedRange("1", "6", 10))),
    ):
        memory.remember(session, context, found, wide=wide, whole=wide)
        assert memory.judged(session, context, wide=False) == judged
