"""The lock manager: names to keys, one holder at a time, nothing left behind whatever dies."""

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from resumed import (
    AsyncPostgresLockManager,
    DatabaseUnreachableError,
    PostgresLockManager,
    WorkflowAlreadyRunningError,
    WorkflowExecutor,
    with_workflow_lock,
)

NAMES = [f"resume_orders-{number}" for number in range(300)]


def key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def advisory_locks(dsn: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()
        return int(row[0]) if row else -1


def is_awaited(dsn: str) -> bool:
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        return connection.execute(query).fetchone() != (0,)


def kill(dsn: str, name: str = "resumed locks") -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
        return connection.execute(query, [name]).rowcount


def test_a_name_is_the_contracts_key_and_is_seen_by_everybody(database: str) -> None:
    with PostgresLockManager(database) as manager, PostgresLockManager(database) as other:
        for name in NAMES[:20]:
            assert not manager.is_locked(name)
            with manager.acquire_workflow_lock(name) as got:
                assert got
                assert manager.is_locked(name)
                assert other.is_locked(name)
                assert manager.verify_lock_still_held(name)
                assert not other.verify_lock_still_held(name)
                with psycopg.connect(database, autocommit=True) as connection:
                    row = connection.execute("select pg_try_advisory_lock(%s)", [key(name)]).fetchone()
                assert row == (False,)
                with other.acquire_workflow_lock(name, blocking=False) as second:
                    assert not second
            assert not other.is_locked(name)
        assert (manager.get_active_locks_count(), advisory_locks(database)) == (0, 0)


@pytest.mark.parametrize("fate", ["left alone", "sessions killed"])
def test_fifty_threads_on_three_hundred_names_never_meet_and_leak_nothing(database: str, fate: str) -> None:
    """Where sessions are killed the next holder may come before the last one has noticed: then only leaks count."""
    killed = fate == "sessions killed"
    dice, inside, worst = random.Random(1), dict.fromkeys(NAMES, 0), []
    guard, stop = threading.Lock(), threading.Event()
    with PostgresLockManager(database, max_conn=25) as manager:

        def work(seed: int) -> int:
            own, got = random.Random(seed), 0
            for _ in range(20):
                name = own.choice(NAMES)
                try:
                    with manager.acquire_workflow_lock(name, timeout_seconds=2) as locked:
                        if not locked:
                            continue
                        got += 1
                        with guard:
                            inside[name] += 1
                            worst.append(inside[name])
                        time.sleep(own.random() / 50)
                        with guard:
                            inside[name] -= 1
                except DatabaseUnreachableError:
                    pass  # its session was killed while it was opened or waited
            return got

        def killing() -> None:
            while killed and not stop.wait(0.3):
                with psycopg.connect(database, autocommit=True) as connection:
                    query = "select pid from pg_stat_activity where application_name = 'resumed locks'"
                    found = [row[0] for row in connection.execute(query)]
                    if found:
                        connection.execute("select pg_terminate_backend(%s)", [dice.choice(found)])

        killer = threading.Thread(target=killing)
        killer.start()
        with ThreadPoolExecutor(50) as threads:
            got = sum(threads.map(work, range(50)))
        stop.set()
        killer.join()
        assert got > 500
        assert killed or max(worst) == 1
        assert manager.get_active_locks_count() == 0
        assert advisory_locks(database) == 0
        assert manager.health_check()


def test_who_holds_a_name_may_take_it_again_and_another_thread_may_not(database: str) -> None:
    with PostgresLockManager(database) as manager:
        refused: list[bool] = []

        def other() -> None:
            with manager.acquire_workflow_lock("one", blocking=False) as got:
                refused.append(got)

        with manager.acquire_workflow_lock("one"):
            with manager.acquire_workflow_lock("one") as again:
                assert again
                assert manager.get_active_locks_count() == 1
            assert manager.verify_lock_still_held("one")
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert refused == [False]
        assert not manager.is_locked("one")


def test_a_wait_ends_when_its_time_is_over_and_never_waits_long_in_the_database(database: str) -> None:
    with PostgresLockManager(database) as holder, PostgresLockManager(database) as manager:
        longest = 0.0
        waited: list[bool] = []

        def wait() -> None:
            with manager.acquire_workflow_lock("one", timeout_seconds=3.5) as got:
                waited.append(got)

        with holder.acquire_workflow_lock("one"), psycopg.connect(database, autocommit=True) as connection:
            thread = threading.Thread(target=wait)
            thread.start()
            while thread.is_alive():
                query = "select extract(epoch from max(clock_timestamp() - query_start)) from pg_stat_activity"
                row = connection.execute(f"{query} where wait_event = 'advisory' and state = 'active'").fetchone()
                longest = max(longest, float(row[0] or 0) if row else 0)
                time.sleep(0.05)
        assert waited == [False]
        assert 0.3 < longest < 1.5


def test_a_lost_session_is_told_and_costs_one_lock(database: str) -> None:
    with PostgresLockManager(database) as manager:
        with manager.acquire_workflow_lock("one"):
            assert kill(database) == 1
            assert not manager.verify_lock_still_held("one")
            with manager.acquire_workflow_lock("two"):
                assert manager.verify_lock_still_held("two")
        assert manager.get_active_locks_count() == 0
        with manager.acquire_workflow_lock("one") as again:
            assert again


def test_who_takes_a_name_after_its_holders_session_died_costs_no_room(database: str) -> None:
    with PostgresLockManager(database, max_conn=2, connection_timeout=5) as manager:
        for _ in range(3):
            with manager.acquire_workflow_lock("one") as first:
                kill(database)
                with ThreadPoolExecutor(1) as other:
                    assert other.submit(_held_for_a_moment, manager).result()
                assert first
                assert not manager.verify_lock_still_held("one")
        with manager.acquire_workflow_lock("two"), manager.acquire_workflow_lock("three"):
            assert manager.get_active_locks_count() == 2
        assert advisory_locks(database) == 0


def _held_for_a_moment(manager: PostgresLockManager) -> bool:
    with manager.acquire_workflow_lock("one", timeout_seconds=5) as got:
        return got and manager.verify_lock_still_held("one")


def test_its_own_locks_can_be_given_back_at_once_and_nobody_elses(database: str) -> None:
    manager, other = PostgresLockManager(database), PostgresLockManager(database)
    with other.acquire_workflow_lock("theirs"), manager.acquire_workflow_lock("ours"):
        assert manager.cleanup_all_locks() == 1
        assert not manager.is_locked("ours")
        assert manager.is_locked("theirs")
    manager.close()
    other.close()
    assert advisory_locks(database) == 0


def test_too_many_locks_at_once_say_so(database: str) -> None:
    with (
        PostgresLockManager(database, max_conn=1, connection_timeout=0.2) as manager,
        manager.acquire_workflow_lock("one"),
        pytest.raises(DatabaseUnreachableError, match="max_conn"),
        manager.acquire_workflow_lock("two"),
    ):
        pass


def test_an_unreachable_database_is_told() -> None:
    manager = PostgresLockManager("postgresql://postgres@127.0.0.1:1/none")
    assert not manager.health_check()
    with pytest.raises(DatabaseUnreachableError), manager.acquire_workflow_lock("one"):
        pass


FORK = """
import os, sys
from resumed import PostgresLockManager
manager = PostgresLockManager(sys.argv[1])
with manager.acquire_workflow_lock("one"):
    child = os.fork()
    if not child:
        with manager.acquire_workflow_lock("one", blocking=False) as got:
            sys.exit(int(got))
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert manager.verify_lock_still_held("one")
"""


def test_a_forked_child_has_none_of_its_parents_locks(database: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, database], env={**os.environ}, timeout=60, check=False)
    assert done.returncode == 0


async def test_tasks_exclude_each_other(database: str) -> None:
    async with AsyncPostgresLockManager(database) as manager:

        async def other() -> bool:
            async with manager.acquire_workflow_lock("one", blocking=False) as got:
                return got

        async with manager.acquire_workflow_lock("one"):
            assert not await asyncio.create_task(other())
            async with manager.acquire_workflow_lock("one") as again:
                assert again
            assert await manager.verify_lock_still_held("one")
        assert await asyncio.create_task(other())
        waiting = asyncio.create_task(_hold_for(manager, 60))
        await asyncio.sleep(0.2)
        stuck = asyncio.create_task(_hold_for(manager, 0))
        await asyncio.sleep(0.2)
        stuck.cancel()
        waiting.cancel()
        await asyncio.gather(stuck, waiting, return_exceptions=True)
        assert manager.get_active_locks_count() == 0
        assert not await manager.is_locked("one")


async def test_a_wait_that_is_cancelled_as_the_lock_comes_leaves_nothing_locked(database: str) -> None:
    with PostgresLockManager(database) as outside:
        async with AsyncPostgresLockManager(database) as manager:
            for _ in range(20):
                with outside.acquire_workflow_lock("one"):
                    waiting = asyncio.create_task(_hold_for(manager, 60))
                    while not is_awaited(database):
                        await asyncio.sleep(0.01)
                while not outside.is_locked("one"):  # it is the waiter's, whose loop has not heard of it
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                assert not outside.is_locked("one")


async def _hold_for(manager: AsyncPostgresLockManager, seconds: float) -> None:
    async with manager.acquire_workflow_lock("one"):
        await asyncio.sleep(seconds)


def test_any_function_runs_under_a_lock(database: str) -> None:
    with PostgresLockManager(database) as manager, WorkflowExecutor(database) as executor:
        calls: list[str] = []

        @with_workflow_lock(manager, lambda order: f"resume_{order}", on_locked="return_none")
        def ship(order: str) -> str:
            calls.append(order)
            return f"shipped {order}"

        assert ship("7") == "shipped 7"
        assert executor.execute("resume_7", ship, ("7",), on_locked="return_dict") is None
        with manager.acquire_workflow_lock("resume_8"):
            with pytest.raises(WorkflowAlreadyRunningError):
                executor.execute("resume_8", calls.append, ("no",))
            said = executor.execute("resume_8", calls.append, ("no",), on_locked="return_dict")
            assert said == {"status": "already_running", "workflow_id": "resume_8"}
        assert executor.execute("any name", lambda *, one: one + 1, kwargs={"one": 1}) == 2
        assert calls == ["7"]
        with pytest.raises(TypeError, match="AsyncPostgresLockManager"):
            with_workflow_lock(manager)(_coroutine)


async def _coroutine() -> None:
    """Stand for an asynchronous function."""
