"""A thread's lock: one key in every language, one holder on the server, seen without being tried."""

import asyncio
import gc
import hashlib
import re
import struct
import time
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from resumed.store import locks, schema
from resumed.store.connection import Session, Target, connect, is_alive, open_session
from support.databases import in_database

ODD = {
    "empty": "",
    "plain": "orders_1",
    "one space": " ",
    "unicode": "заказ-№-9-🧾-é",
    "composed and decomposed": "e\u0301 \u00e9",
    "ten kilobytes": "x" * 10_240,
    "ten kilobytes of unicode": "ж" * 5_120,
    "quotes": 'it\'s "quoted" `here` $$there$$',
    "newlines": "line\nline\r\nline\ttab",
    "backslashes and percents": "\\x41 %s %(x)s \\",
    "a lock's own prefix": "resume_resume_",
    "highest code point": "\U0010ffff",
}
DEADLINE = 10.0
OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


@pytest.fixture
def dsn(shared_database: str) -> str:
    """The shared database, once the sessions of the test before are gone, and their locks with them."""
    with psycopg.connect(shared_database, autocommit=True) as connection:
        end = time.monotonic() + DEADLINE
        while connection.execute(OTHERS).fetchone() != (0,):
            assert time.monotonic() < end
            time.sleep(0.01)
    return shared_database


@asynccontextmanager
async def _sessions(dsn: str, count: int) -> AsyncIterator[list[Session]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_session(Target(dsn))) for _ in range(count)]


async def _until_free(session: Session, thread_id: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while thread_id in await locks.held_threads(session, [thread_id]):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("thread_id", ODD.values(), ids=ODD.keys())
def test_the_key_is_the_first_eight_bytes_of_sha256_of_resume_and_the_id(thread_id: str) -> None:
    digest = hashlib.sha256(b"resume_" + thread_id.encode("utf-8")).digest()
    assert locks.thread_key(thread_id) == struct.unpack(">q", digest[:8])[0]


def test_the_key_of_a_known_identifier_never_changes() -> None:
    assert locks.identifier_key("resume_orders_1") == locks.thread_key("orders_1") == 2265214410763672783
    assert locks.identifier_key("") == -2039914840885289964


def test_the_sql_function_and_python_agree_on_every_odd_id(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        for name, thread_id in ODD.items():
            row = connection.execute("select resumed.lock_key(%s::text)", [thread_id]).fetchone()
            assert row == (locks.thread_key(thread_id),), name


def test_the_sql_function_and_python_agree_on_keys_of_both_signs(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select 'thread ' || n, resumed.lock_key('thread ' || n) from generate_series(1, 500) n"
        ).fetchall()
    assert all(key == locks.thread_key(thread_id) for thread_id, key in rows)
    assert {key < 0 for _, key in rows} == {True, False}


async def test_in_a_database_that_is_not_utf8_the_key_is_still_that_of_utf8(server_dsn: str) -> None:
    name = f"test_latin1_{uuid.uuid4().hex[:8]}"
    make = "create database {} template template0 encoding 'LATIN1' locale 'C'"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(make).format(sql.Identifier(name)))
    try:
        await schema.migrate(Target(in_database(server_dsn, name)))
        async with open_session(Target(in_database(server_dsn, name))) as session:
            assert (await locks.try_lock(session, "caf\u00e9"))[0]
            assert await locks.held_threads(session, ["caf\u00e9", "cafe"]) == {"caf\u00e9"}
    finally:
        with psycopg.connect(server_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def test_a_lock_that_is_held_is_refused_to_every_other_session(dsn: str) -> None:
    async with _sessions(dsn, 3) as (holder, second, third):
        assert (await locks.try_lock(holder, "a"))[0]
        assert not (await locks.try_lock(second, "a"))[0]
        assert not (await locks.try_lock(third, "a"))[0]
        assert (await locks.try_lock(second, "b"))[0]


async def test_try_lock_tells_the_databases_time(dsn: str) -> None:
    async with open_session(Target(dsn)) as session:
        before = (await (await session.execute("select clock_timestamp() as now")).fetchone())["now"]
        _, now = await locks.try_lock(session, "a")
        after = (await (await session.execute("select clock_timestamp() as now")).fetchone())["now"]
    assert before <= now <= after


async def test_a_lock_that_was_given_back_can_be_taken_by_another(dsn: str) -> None:
    async with _sessions(dsn, 2) as (first, second):
        await locks.try_lock(first, "a")
        assert await locks.unlock(first, "a")
        assert (await locks.try_lock(second, "a"))[0]


async def test_giving_back_a_lock_of_somebody_else_does_nothing_and_says_so(dsn: str) -> None:
    async with _sessions(dsn, 2) as (holder, second):
        await locks.try_lock(holder, "a")
        assert not await locks.unlock(second, "a")
        assert await locks.held_threads(second, ["a"]) == {"a"}


async def test_of_many_sessions_that_try_at_once_one_gets_the_lock(dsn: str) -> None:
    async with _sessions(dsn, 12) as sessions:
        answers = await asyncio.gather(*(locks.try_lock(session, "a") for session in sessions))
    assert sum(locked for locked, _ in answers) == 1


async def test_looking_sees_which_of_many_threads_are_locked(dsn: str) -> None:
    async with _sessions(dsn, 3) as (first, second, looker):
        for thread_id in list(ODD.values())[::2]:
            assert (await locks.try_lock(first, thread_id))[0]
        assert (await locks.try_lock(second, "orders_2"))[0]
        seen = await locks.held_threads(looker, [*ODD.values(), "orders_2", "orders_3"])
    assert seen == {*list(ODD.values())[::2], "orders_2"}


async def test_looking_at_no_threads_sees_none(dsn: str) -> None:
    async with open_session(Target(dsn)) as session:
        assert await locks.held_threads(session, []) == frozenset()


async def test_looking_takes_no_lock(dsn: str) -> None:
    async with _sessions(dsn, 2) as (looker, other):
        for _ in range(3):
            assert await locks.held_threads(looker, ["a", "b"]) == frozenset()
        assert (await locks.try_lock(other, "a"))[0]
        row = await (
            await looker.execute(
                "select count(*) as locks from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            )
        ).fetchone()
    assert row["locks"] == 0


async def test_looking_sees_a_lock_while_somebody_waits_for_it(dsn: str) -> None:
    async with _sessions(dsn, 3) as (holder, waiter, looker):
        await locks.try_lock(holder, "a")
        waiting = asyncio.create_task(waiter.execute("select pg_advisory_lock(%s)", [locks.thread_key("a")]))
        async with asyncio.timeout(DEADLINE):
            while not await _waiters(looker):
                await asyncio.sleep(0.01)
        assert await locks.held_threads(looker, ["a"]) == {"a"}
        await locks.unlock(holder, "a")
        await waiting
        assert await locks.held_threads(looker, ["a"]) == {"a"}


async def _waiters(session: Session) -> int:
    cursor = await session.execute(
        "select count(*) as waiting from pg_locks where locktype = 'advisory' and not granted"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    return (await cursor.fetchone())["waiting"]


async def test_a_lock_taken_with_two_32_bit_keys_is_not_a_threads_lock(dsn: str) -> None:
    key = locks.thread_key("a")
    high, low = struct.unpack(">ii", key.to_bytes(8, "big", signed=True))
    async with _sessions(dsn, 2) as (holder, looker):
        await holder.execute("select pg_advisory_lock(%s::int, %s::int)", [high, low])
        assert await locks.held_threads(looker, ["a"]) == frozenset()
        assert (await locks.try_lock(looker, "a"))[0]


async def test_a_lock_of_another_database_on_the_same_server_is_not_ours(dsn: str, langgraph_database: str) -> None:
    async with open_session(Target(dsn)) as ours, open_session(Target(langgraph_database)) as theirs:
        assert (await locks.try_lock(theirs, "a"))[0]
        assert await locks.held_threads(ours, ["a"]) == frozenset()
        assert (await locks.try_lock(ours, "a"))[0]
        assert await locks.held_threads(ours, ["a"]) == {"a"}


async def test_a_lock_is_free_as_soon_as_its_backend_is_terminated(dsn: str) -> None:
    async with open_session(Target(dsn)) as looker, open_session(Target(dsn)) as holder:
        await locks.try_lock(holder, "a")
        assert await locks.held_threads(looker, ["a"]) == {"a"}
        await looker.execute("select pg_terminate_backend(%s)", [holder.info.backend_pid])
        await _until_free(looker, "a")
        assert (await locks.try_lock(looker, "a"))[0]
        with pytest.raises(psycopg.OperationalError):
            await holder.execute("select 1")
        assert not is_alive(holder)


async def test_a_lock_is_free_as_soon_as_its_session_is_closed(dsn: str) -> None:
    async with open_session(Target(dsn)) as looker:
        async with open_session(Target(dsn)) as holder:
            await locks.try_lock(holder, "a")
        await _until_free(looker, "a")
        assert (await locks.try_lock(looker, "a"))[0]


async def test_a_lock_for_a_transaction_ends_with_it(dsn: str) -> None:
    async with _sessions(dsn, 2) as (first, second):
        async with first.transaction():
            assert await locks.try_lock_for_transaction(first, "a")
            assert await locks.held_threads(second, ["a"]) == {"a"}
            assert not (await locks.try_lock(second, "a"))[0]
        assert await locks.held_threads(second, ["a"]) == frozenset()


async def test_a_lock_for_a_transaction_is_refused_while_a_session_holds_it(dsn: str) -> None:
    async with _sessions(dsn, 2) as (holder, second):
        await locks.try_lock(holder, "a")
        async with second.transaction():
            assert not await locks.try_lock_for_transaction(second, "a")
        assert await locks.unlock(holder, "a")
        async with second.transaction():
            assert await locks.try_lock_for_transaction(second, "a")


async def test_a_transaction_that_is_rolled_back_gives_its_lock_back(dsn: str) -> None:
    async with _sessions(dsn, 2) as (first, second):
        async with first.transaction(force_rollback=True):
            assert await locks.try_lock_for_transaction(first, "a")
        assert (await locks.try_lock(second, "a"))[0]


def test_a_program_in_any_language_can_hold_the_threads_lock_by_the_formula(dsn: str) -> None:
    formula = (
        "select pg_try_advisory_lock(('x' || left(encode(sha256('resume_orders_1'), 'hex'), 16))::bit(64)::bigint)"
    )

    async def seen() -> frozenset[str]:
        async with open_session(Target(dsn)) as session:
            return await locks.held_threads(session, ["orders_1"])

    with psycopg.connect(dsn, autocommit=True) as foreign:
        assert foreign.execute(formula).fetchone() == (True,)
        assert asyncio.run(seen()) == {"orders_1"}


async def test_the_sessions_settings_keep_a_lock_from_being_lost_to_a_timeout(dsn: str) -> None:
    names = ("idle_session_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "TimeZone")
    async with open_session(Target(dsn), "resumed attempt") as session:
        shown = [next(iter((await (await session.execute(f"show {name}")).fetchone()).values())) for name in names]
        row = await (
            await session.execute("select application_name from pg_stat_activity where pid = pg_backend_pid()")
        ).fetchone()
        assert session.autocommit
    assert shown[:2] == ["0", "0"]
    assert re.fullmatch(r"\d+(ms|s|min)", shown[2])
    assert shown[3] == "UTC"
    assert row["application_name"] == "resumed attempt"


async def test_a_databases_own_idle_timeout_does_not_reach_a_session_that_holds_a_lock(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set idle_session_timeout = '50ms'").format(name))
    async with open_session(Target(database)) as holder, open_session(Target(database)) as looker:
        await locks.try_lock(holder, "a")
        with psycopg.connect(database, autocommit=True) as victim, pytest.raises(psycopg.OperationalError):
            await _until_cut_off(victim)
        assert await locks.held_threads(looker, ["a"]) == {"a"}
        assert await locks.unlock(holder, "a")


async def test_a_session_whose_opening_is_cancelled_is_closed(dsn: str) -> None:
    began = time.perf_counter()
    async with open_session(Target(dsn)):
        took = time.perf_counter() - began
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for part in range(60):
            opening = asyncio.create_task(connect(Target(dsn)))
            await asyncio.sleep(took * part / 50)
            opening.cancel()
            ended = (await asyncio.gather(opening, return_exceptions=True))[0]
            if not isinstance(ended, BaseException):
                await ended.close()
            del opening, ended
        gc.collect()
    assert [str(one.message) for one in heard] == []


async def _until_cut_off(victim: psycopg.Connection[tuple[object, ...]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            await asyncio.sleep(0.1)
            victim.execute("select 1")
