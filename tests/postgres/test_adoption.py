"""Threads older than `max_age` are taken in because a person asks: those and no others, no faster than they end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from postgres.test_sweep import NOW, NUMBERS, RULES, case, registered, saved
from resumed import operations
from resumed.daemon.sweep import run_sweep
from resumed.errors import ResumedError
from resumed.judge import adoption as pace
from resumed.judge.adoption import BATCH, Hindrance
from resumed.judge.case import CaseUpdate
from resumed.judge.verdict import Circumstances, ThreadSnapshot
from resumed.model import Registration, State, Verdict, Via
from resumed.operations import adoption
from resumed.operations.adoption import Adoption, AdoptionReport, AdoptionRequest
from resumed.operations.containment import OperatorCommand
from resumed.store import audit, workflow_versions
from resumed.store.connection import Session, Target, open_session

DAY = timedelta(days=1)
OLD = NOW - 10 * DAY
CLOSE = "update resumed.cases set state = 'closed', due_at = null where state = 'due'"


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        yield it


@pytest.fixture
async def other(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        yield it


async def adopted(
    session: Session, since: timedelta = 30 * DAY, tell: Callable[[AdoptionReport], None] = lambda _: None, **given: Any
) -> AdoptionReport:
    command = OperatorCommand("ada@desk", via=Via.CLI)
    one = Adoption(session, RULES, command, AdoptionRequest(since, **given), tell)
    await one.find()
    await one.adopt()
    return one.report


async def asked(session: Session) -> list[str]:
    cursor = await session.execute("select thread_id from resumed.audit where action = 'adopt' order by id")
    return [row["thread_id"] async for row in cursor]


async def due(session: Session) -> list[str]:
    cursor = await session.execute("select thread_id from resumed.cases where state = 'due' order by thread_id")
    return [row["thread_id"] async for row in cursor]


@pytest.mark.parametrize("seen", [True, False], ids=["left alone by a sweep", "never looked for"])
async def test_an_old_thread_becomes_due_and_never_expires_again(session: Session, seen: bool) -> None:
    await registered(session, max_age=20 * DAY if seen else DAY)
    await saved(session, "orders_1", OLD)
    if seen:
        await run_sweep(session, RULES)
        await registered(session, max_age=DAY)
    report = await adopted(session)
    assert (report.adopted, await asked(session)) == ({"orders": 1}, ["orders_1"])
    for _ in range(2):
        found = await case(session, "orders_1")
        assert found is not None
        assert (found.verdict, found.state, found.first_seen_at) == (Verdict.STOPPED, State.DUE, OLD)
        await session.execute("update resumed.cases set next_look_at = clock_timestamp()")
        await run_sweep(session, RULES)


async def test_a_thread_that_a_sweep_has_left_alone_is_adopted(session: Session) -> None:
    await registered(session)
    await session.execute(
        "insert into resumed.watermarks (name, position, wide_at, updated_at, checkpoint_schema)"
        " values ('checkpoints', %s, '-infinity', clock_timestamp(), 'public')",
        [OLD - DAY],
    )
    await saved(session, "orders_1", OLD)
    await run_sweep(session, RULES)
    found = await case(session, "orders_1")
    assert found is not None
    assert (found.verdict, found.state) == (Verdict.EXPIRED, State.HELD)
    await adopted(session)
    assert await due(session) == ["orders_1"]


async def test_an_adopted_thread_that_no_version_accepts_for_a_while_does_not_expire(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", OLD, version="1")
    await adopted(session)
    for version, verdict in (("2", Verdict.INCOMPATIBLE), ("1", Verdict.STOPPED)):
        await session.execute("delete from resumed.workflows")
        one = Registration("orders", version, (), (), NUMBERS, NOW)
        await workflow_versions.announce_versions(session, [one])
        await session.execute("update resumed.cases set next_look_at = clock_timestamp()")
        await run_sweep(session, RULES)
        found = await case(session, "orders_1")
        assert found is not None
        assert found.verdict is verdict


async def test_nothing_is_adopted_but_what_age_alone_keeps_from_being_resumed(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_young", NOW - timedelta(hours=1))
    await saved(session, "orders_before", OLD - 40 * DAY)
    await saved(session, "orders_finished", OLD, channels=("answer",))
    await saved(session, "orders_edited", OLD, source="update")
    await saved(session, "stranger_1", OLD, workflow="stranger")
    await saved(session, "orders_2", OLD, workflow="orders")
    await session.execute(
        "insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)"
        " select thread_id, '', checkpoint_id, 'task', -3, '__interrupt__', 'msgpack', '\\x80' from checkpoints"
        " where thread_id = 'orders_2'"
    )
    report = await adopted(session)
    assert (report.found, await due(session), await asked(session)) == ({}, [], [])


async def test_only_so_many_and_only_of_one_workflow(session: Session) -> None:
    await registered(session)
    await workflow_versions.announce_versions(session, [Registration("claims", "1", (), (), NUMBERS, NOW)])
    for number in range(5):
        await saved(session, f"orders_{number}", OLD + number * DAY)
        await saved(session, f"claims_{number}", OLD)
    report = await adopted(session, workflow="orders", limit=2)
    assert report.found["orders"].threads == 5
    assert (report.found.keys(), await due(session)) == ({"orders"}, ["orders_0", "orders_1"])


async def test_nothing_more_is_judged_once_the_limit_is_reached(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "_PAGE_ROWS", 2)
    await registered(session)
    await workflow_versions.announce_versions(session, [Registration("zeta", "1", (), (), NUMBERS, NOW)])
    await saved(session, "zeta_1", OLD)
    await crowd(session, 10)
    judged = []

    async def counting(*given: Any) -> Any:
        judged.append(given[2])
        return await operations.assess.assess(*given)

    one = Adoption(session, RULES, OperatorCommand("ada@desk", via=Via.CLI), AdoptionRequest(30 * DAY, limit=1))
    await one.find()
    monkeypatch.setattr(adoption, "assess", counting)
    await one.adopt()
    assert (one.report.threads, len(judged)) == (1, 2)  # a page, and its batch under the lock


async def test_one_command_adopts_at_a_time(session: Session, other: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "_WAIT", timedelta(milliseconds=10))
    await registered(session)
    await crowd(session, BATCH + 10)
    first = asyncio.create_task(adopted(session))
    while len(await due(other)) < BATCH:
        await asyncio.sleep(0.02)
    with pytest.raises(ResumedError, match="another `resumed adopt` is at work"):
        await adopted(other)
    await other.execute(CLOSE)
    assert (await first).threads == BATCH + 10
    assert len(set(await asked(other))) == BATCH + 10


async def test_a_batch_is_taken_in_whole_or_not_at_all(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    await registered(session)
    await saved(session, "orders_1", OLD)

    async def dies(*_: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(audit, "write", dies)
        with pytest.raises(ConnectionResetError):
            await adopted(session)
    assert await case(session, "orders_1") is None
    assert (await adopted(session)).threads == 1


async def crowd(session: Session, threads: int) -> None:
    for number in range(threads):
        await saved(session, f"orders_{number:04}", OLD + timedelta(seconds=number))


async def test_the_next_batch_waits_until_most_of_the_first_has_ended(
    session: Session, other: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "_WAIT", timedelta(milliseconds=10))
    await registered(session)
    await crowd(session, BATCH + 10)
    looks = []
    running = asyncio.create_task(adopted(session, tell=looks.append))
    while len(looks) < 10:  # the first for what it found, the second for the batch
        await asyncio.sleep(0.02)
    assert len(await due(other)) == BATCH
    assert not running.done()
    await other.execute(CLOSE)
    assert (await running).threads == BATCH + 10


async def test_without_a_replica_one_batch_is_left_for_the_first(session: Session) -> None:
    await registered(session)
    await session.execute("update resumed.workflows set seen_at = clock_timestamp() - interval '1 hour'")
    await crowd(session, BATCH + 10)
    report = await adopted(session)
    assert (report.threads, report.stopped) == (BATCH, {"orders": Hindrance.NO_REPLICA})


async def test_it_stops_where_replicas_attempt_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "_WAIT", timedelta(milliseconds=10))
    monkeypatch.setattr(pace, "IDLE_LIMIT", timedelta(milliseconds=100))
    await registered(session)
    await crowd(session, BATCH + 10)
    report = await adopted(session)
    assert (report.threads, report.stopped) == (BATCH, {"orders": Hindrance.NOT_ATTEMPTED})


async def test_a_paused_workflow_is_left_alone_and_the_next_one_is_not(session: Session) -> None:
    await registered(session)
    await workflow_versions.announce_versions(session, [Registration("zeta", "1", (), (), NUMBERS, NOW)])
    await session.execute(
        "insert into resumed.pauses (workflow, paused, actor, reason, since)"
        " values ('orders', true, 'ada', 'x', clock_timestamp())"
    )
    await saved(session, "orders_1", OLD)
    await saved(session, "zeta_1", OLD)
    report = await adopted(session)
    assert (report.adopted, report.stopped) == ({"zeta": 1}, {"orders": Hindrance.PAUSED})


async def test_it_stops_where_most_attempts_fail(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", OLD)
    await session.execute(
        "insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome,"
        " charged, advanced, before) select 'orders_f' || n, 1, 'orders', '1', 'w', clock_timestamp(),"
        " clock_timestamp(), 'failed', true, false, 'h'"
        " from generate_series(1, 20) n"
    )
    report = await adopted(session)
    assert (report.threads, report.stopped) == (0, {"orders": Hindrance.CIRCUIT_OPEN})


async def test_a_thread_that_cannot_be_judged_is_told_and_hides_no_other(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(session)
    await saved(session, "orders_1", OLD)
    await saved(session, "orders_2", OLD)
    decide = operations.assess.decide_case

    def trips(snapshot: ThreadSnapshot, circumstances: Circumstances) -> CaseUpdate:
        if snapshot.head.thread_id == "orders_2":
            raise RecursionError
        return decide(snapshot, circumstances)

    monkeypatch.setattr(operations.assess, "decide_case", trips)
    report = await adopted(session)
    assert (await due(session), report.unjudged) == (["orders_1"], {"orders_2"})


async def test_no_time_is_too_long_ago(session: Session) -> None:
    await registered(session)
    await saved(session, "orders_1", datetime(2001, 1, 1, tzinfo=NOW.tzinfo))
    assert (await adopted(session, 400_000 * DAY)).threads == 1
