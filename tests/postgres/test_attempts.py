"""The table of attempts: numbered, one open at a time, closed once, orphaned only when nobody holds the lock."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postgres.case_writes import start
from resumed.judge.retry_policy import is_charged
from resumed.model import Attempt, Ending, Outcome
from resumed.store import attempts, locks
from resumed.store.connection import Session, Target, open_session

DEADLINE = 10.0
OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
BLANK = Attempt(
    thread_id="t1",
    attempt=0,
    workflow="orders",
    version="1",
    worker="host-1",
    started_at=LONG_AGO,
    finished_at=None,
    outcome=None,
    advanced=False,
    before="head-1",
    after=None,
    error_type=None,
    error_at=None,
    error=None,
)
FINISHED = Ending(Outcome.FINISHED, advanced=True, after="head-2")
FAILED = Ending(Outcome.FAILED, after="head-1", error_type="KeyError", error_at="shop/graphs.py:12", error="'order' 🧾")


@pytest.fixture
def dsn(shared_database: str) -> str:
    """The shared database, once the sessions of the test before are gone, and their locks with them."""
    with psycopg.connect(shared_database, autocommit=True) as connection:
        end = time.monotonic() + DEADLINE
        while connection.execute(OTHERS).fetchone() != (0,):
            assert time.monotonic() < end
            time.sleep(0.01)
        connection.execute("truncate resumed.attempts")
    return shared_database


@pytest.fixture
async def session(dsn: str) -> AsyncIterator[Session]:
    async with open_session(Target(dsn)) as it:
        yield it


async def _now(session: Session) -> datetime:
    row = await (await session.execute("select clock_timestamp() as now")).fetchone()
    assert row is not None
    return datetime.fromisoformat(str(row["now"]))


async def _started(session: Session, thread_id: str = "t1") -> Attempt:
    return await start(session, replace(BLANK, thread_id=thread_id))


async def _closed(session: Session, thread_id: str = "t1", ending: Ending = FINISHED) -> Attempt:
    closed = await attempts.finish(session, await _started(session, thread_id), ending)
    assert closed is not None
    return closed


async def _orphans(session: Session, *excepted: str, rows: int = 100) -> list[str]:
    return [one.thread_id for one in await attempts.find_orphans(session, excepted, rows)]


# Starting


async def test_an_attempt_that_starts_is_recorded_with_its_number_and_the_databases_time(session: Session) -> None:
    before = await _now(session)
    started = await _started(session)
    assert before <= started.started_at <= await _now(session)
    assert started == replace(BLANK, attempt=1, started_at=started.started_at)
    assert await attempts.of_thread(session, "t1") == [started]


async def test_the_attempts_of_a_thread_are_numbered_from_one_without_a_gap(session: Session) -> None:
    numbers = [(await _closed(session)).attempt for _ in range(4)]
    numbers.append((await _started(session)).attempt)
    assert numbers == [1, 2, 3, 4, 5]


async def test_every_thread_counts_its_own_attempts(session: Session) -> None:
    await _closed(session, "t1")
    await _closed(session, "t1")
    assert (await _started(session, "t2")).attempt == 1
    assert (await _started(session, "T1")).attempt == 1
    assert (await _started(session, "t1")).attempt == 3


async def test_a_second_open_attempt_on_a_thread_is_impossible(session: Session) -> None:
    first = await _started(session)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await _started(session)
    assert await attempts.of_thread(session, "t1") == [first]


async def test_of_many_that_start_at_once_on_a_thread_one_succeeds(dsn: str) -> None:
    async def start() -> Attempt:
        async with open_session(Target(dsn)) as one:
            return await _started(one)

    answers = await asyncio.gather(*(start() for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, Attempt) for one in answers) == 1
    assert sum(isinstance(one, psycopg.errors.UniqueViolation) for one in answers) == 7


async def test_an_attempt_that_is_rolled_back_leaves_no_number_behind(session: Session) -> None:
    async with session.transaction(force_rollback=True):
        await _started(session)
    assert (await _started(session)).attempt == 1


# Finishing


@pytest.mark.parametrize("ending", [FINISHED, FAILED], ids=["finished", "failed"])
async def test_an_attempt_that_ends_is_recorded_with_all_that_is_known_of_it(session: Session, ending: Ending) -> None:
    started = await _started(session)
    closed = await attempts.finish(session, started, ending)
    assert closed is not None
    assert closed.finished_at is not None
    assert started.started_at <= closed.finished_at <= await _now(session)
    assert closed == replace(
        started,
        finished_at=closed.finished_at,
        outcome=ending.outcome,
        advanced=ending.advanced,
        after=ending.after,
        error_type=ending.error_type,
        error_at=ending.error_at,
        error=ending.error,
        closed_by="host-1",
    )
    assert await attempts.of_thread(session, "t1") == [closed]


async def test_every_outcome_can_be_recorded_and_whether_it_was_charged(session: Session) -> None:
    for outcome in Outcome:
        assert (await _closed(session, ending=Ending(outcome))).outcome is outcome
    cursor = await session.execute("select outcome, charged from resumed.attempts where thread_id = 't1'")
    recorded = {row["outcome"]: row["charged"] async for row in cursor}
    assert recorded == {outcome.value: is_charged(Ending(outcome)) for outcome in Outcome}
    assert set(recorded.values()) == {True, False}


async def test_an_attempt_ends_once_and_the_first_word_stands(session: Session) -> None:
    started = await _started(session)
    closed = await attempts.finish(session, started, FINISHED)
    assert await attempts.finish(session, started, FAILED) is None
    assert await attempts.of_thread(session, "t1") == [closed]


async def test_of_two_that_close_an_attempt_at_once_one_succeeds(dsn: str, session: Session) -> None:
    started = await _started(session)

    async def close() -> Attempt | None:
        async with open_session(Target(dsn)) as one:
            return await attempts.finish(one, started, FINISHED)

    answers = await asyncio.gather(*(close() for _ in range(6)))
    assert sum(one is not None for one in answers) == 1


async def test_ending_one_attempt_leaves_the_others_of_its_thread_alone(session: Session) -> None:
    first = await _closed(session)
    second = await _started(session)
    assert await attempts.finish(session, first, FAILED) is None
    await attempts.finish(session, second, FAILED)
    assert [one.outcome for one in await attempts.of_thread(session, "t1")] == [Outcome.FINISHED, Outcome.FAILED]


async def test_an_attempt_that_was_never_started_cannot_end(session: Session) -> None:
    assert await attempts.finish(session, replace(BLANK, attempt=1), FINISHED) is None
    assert await attempts.of_thread(session, "t1") == []


async def test_after_an_attempt_has_ended_the_next_may_start(session: Session) -> None:
    await _closed(session)
    assert (await _started(session)).attempt == 2


# Reading


async def test_the_attempt_that_was_left_open_on_a_thread_is_found(session: Session) -> None:
    assert await attempts.fetch_open(await attempts.select_open(session, "t1")) is None
    await _closed(session)
    assert await attempts.fetch_open(await attempts.select_open(session, "t1")) is None
    left = await _started(session)
    await _started(session, "t2")
    assert await attempts.fetch_open(await attempts.select_open(session, "t1")) == left


async def test_the_attempts_of_a_thread_come_in_their_order_beyond_the_ninth(session: Session) -> None:
    for _ in range(12):
        await _closed(session)
    assert [one.attempt for one in await attempts.of_thread(session, "t1")] == list(range(1, 13))


# Orphans


async def test_an_open_attempt_is_an_orphan_only_while_nobody_holds_the_threads_lock(
    dsn: str, session: Session
) -> None:
    async with open_session(Target(dsn)) as holder:
        await locks.try_lock(holder, "t1")
        left = await _started(holder)
        assert await _orphans(session) == []
        await locks.unlock(holder, "t1")
        assert await attempts.find_orphans(session, [], 100) == [left]


async def test_an_attempt_is_an_orphan_as_soon_as_the_session_that_held_its_lock_is_gone(
    dsn: str, session: Session
) -> None:
    async with open_session(Target(dsn)) as holder:
        await locks.try_lock(holder, "t1")
        await _started(holder)
        assert await _orphans(session) == []
        await session.execute("select pg_terminate_backend(%s)", [holder.info.backend_pid])
        async with asyncio.timeout(10):
            while await _orphans(session) != ["t1"]:
                await asyncio.sleep(0.01)


async def test_the_same_threads_lock_in_another_database_saves_no_attempt(
    session: Session, langgraph_database: str
) -> None:
    async with open_session(Target(langgraph_database)) as elsewhere:
        await locks.try_lock(elsewhere, "t1")
        await _started(session)
        assert await _orphans(session) == ["t1"]


async def test_a_lock_on_another_thread_saves_no_attempt(dsn: str, session: Session) -> None:
    async with open_session(Target(dsn)) as holder:
        await locks.try_lock(holder, "t2")
        await _started(session, "t1")
        await _started(session, "t2")
        assert await _orphans(session) == ["t1"]


async def test_an_attempt_that_has_ended_is_no_orphan(session: Session) -> None:
    await _closed(session)
    assert await _orphans(session) == []


async def test_attempts_of_our_own_that_are_in_flight_are_left_out(session: Session) -> None:
    for thread_id in ("t1", "t2", "t3"):
        await _started(session, thread_id)
    assert await _orphans(session, "t1", "t3", "t4") == ["t2"]


async def test_the_oldest_orphans_come_first_and_no_more_than_asked_for(session: Session) -> None:
    for minutes, thread_id in ((1, "t1"), (3, "t2"), (2, "t3")):
        await _started(session, thread_id)
        older = "update resumed.attempts set started_at = started_at - %s where thread_id = %s"
        await session.execute(older, [timedelta(minutes=minutes), thread_id])
    assert await _orphans(session) == ["t2", "t3", "t1"]
    assert await _orphans(session, rows=2) == ["t2", "t3"]


async def test_attempts_whose_lock_is_held_do_not_stand_in_the_way_of_orphans(dsn: str, session: Session) -> None:
    async with open_session(Target(dsn)) as holder:
        for number in range(20):
            await locks.try_lock(holder, f"held{number}")
            await _started(session, f"held{number}")
        await _started(session, "orphan")
        assert await _orphans(session, rows=1) == ["orphan"]


async def test_looking_for_orphans_takes_no_lock(dsn: str, session: Session) -> None:
    await _started(session)
    async with session.transaction(), open_session(Target(dsn)) as application:
        assert await _orphans(session) == ["t1"]
        assert (await locks.try_lock(application, "t1"))[0]


async def test_who_closed_an_attempt_is_recorded_where_it_was_not_its_worker(session: Session) -> None:
    begun = await start(session, BLANK)
    closed = await attempts.finish(session, begun, FAILED, "another")
    assert closed is not None
    assert closed.closed_by == "another"
