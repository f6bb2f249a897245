"""Sessions that go from attempt to attempt: as good as new, never two users, nothing of an attempt left on them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypedDict

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from resumed import AsyncWorkflowExecutor
from resumed.errors import LockLostError
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store import locks
from resumed.store.connection import Session, Target, open_session
from support.attempting import Place, chain, place_at, workflow_of

MOMENT = timedelta(milliseconds=50)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AttemptSessions]:
    it = AttemptSessions(Target(database), "resumed attempt")
    yield it
    await it.close()


async def used(pool: AttemptSessions) -> int:
    async with pool.session("t") as session:
        return session.info.backend_pid


async def test_a_session_is_used_again_and_never_by_two_at_once(pool: AttemptSessions) -> None:
    first = await used(pool)
    assert await used(pool) == first
    async with pool.session("t") as one, pool.session("t") as other:
        assert first in (one.info.backend_pid, other.info.backend_pid)
        assert one.info.backend_pid != other.info.backend_pid


async def test_a_session_without_work_is_closed(database: str) -> None:
    pool = AttemptSessions(Target(database), "resumed attempt", idle=MOMENT)
    first = await used(pool)
    async with open_session(Target(database)) as watcher:
        query = "select count(*) as living from pg_stat_activity where pid = %s"
        async with asyncio.timeout(10):
            while (await (await watcher.execute(query, [first])).fetchone() or {})["living"]:
                await asyncio.sleep(0.02)
    assert await used(pool) != first
    await pool.close()


async def test_one_whose_backend_was_ended_while_it_waited_is_dropped(pool: AttemptSessions, database: str) -> None:
    first = await used(pool)
    async with open_session(Target(database)) as killer:
        await killer.execute("select pg_terminate_backend(%s)", [first])
    assert await used(pool) != first


async def left_in_a_transaction(session: Session) -> None:
    await session.execute("begin")


async def left_in_a_failed_transaction(session: Session) -> None:
    await session.execute("begin")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await session.execute("select 1 / 0")


@pytest.mark.parametrize("leave", [left_in_a_transaction, left_in_a_failed_transaction])
async def test_one_that_is_left_inside_of_something_is_closed(pool: AttemptSessions, leave: Any) -> None:
    async with pool.session("t") as session:
        first = session.info.backend_pid
        await leave(session)
    assert await used(pool) != first


async def test_one_on_which_a_statement_failed_is_used_again_but_not_after_a_failed_pipeline(
    pool: AttemptSessions,
) -> None:
    first = await used(pool)
    async with pool.session("t") as session:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await session.execute("select 1 / 0")
    assert await used(pool) == first
    async with pool.session("t") as session:
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with session.pipeline():
                await session.execute("select 1 / 0")
    assert await used(pool) != first


async def test_one_that_an_error_passed_through_is_closed(pool: AttemptSessions) -> None:
    seen: list[int] = []

    async def stumble() -> None:
        async with pool.session("t") as session:
            seen.append(session.info.backend_pid)
            raise ValueError("whatever")

    with pytest.raises(ValueError, match="whatever"):
        await stumble()
    assert await used(pool) not in seen


async def test_locks_and_settings_that_an_attempt_left_are_gone(pool: AttemptSessions, database: str) -> None:
    async with pool.session("t") as session:
        first = session.info.backend_pid
        assert (await locks.try_lock(session, "t"))[0]
        assert (await locks.try_lock(session, "t"))[0]
        await session.execute("set search_path = pg_catalog")
        await session.execute("set statement_timeout = 5000")
        await session.execute("set timezone = 'Asia/Tokyo'")
    async with pool.session("t") as session, open_session(Target(database)) as other:
        assert session.info.backend_pid == first
        assert (await locks.try_lock(other, "t"))[0]
        settings = "select current_setting(n) as it from unnest(%s::text[]) n"
        found = [
            row["it"]
            async for row in await session.execute(settings, [["search_path", "statement_timeout", "timezone"]])
        ]
        assert found == ["public", "1min", "UTC"]


class State(TypedDict):
    steps: list[str]


def two_steps() -> Any:
    async def step(state: State) -> State:
        return {"steps": [*state["steps"], "x"]}

    return chain(State, ("a", step), ("b", step))


async def test_attempts_follow_each_other_on_one_session(database: str, saver: AsyncPostgresSaver) -> None:
    graph = two_steps()
    waiting = graph.compile(checkpointer=saver, interrupt_before=["b"])
    for number in range(5):
        await waiting.ainvoke({"steps": []}, {"configurable": {"thread_id": f"t{number}"}})
    async with place_at(database) as place:
        workflow = workflow_of("steps", graph)
        for number in range(5):
            assert await place.attempt(workflow, f"t{number}") == "tried"
            assert [one.outcome for one in await place.attempts(f"t{number}")] == ["finished"]
        async with open_session(Target(database)) as watcher:
            query = "select count(*) as opened from pg_stat_activity where application_name = 'resumed attempt'"
            assert await (await watcher.execute(query)).fetchone() == {"opened": 1}


CHANGES = [
    "alter table checkpoints alter column thread_id type varchar(300)",
    "alter table checkpoint_blobs alter column version type varchar(300)",
    "alter table resumed.cases alter column reason type varchar(5000)",
    "alter table resumed.attempts alter column worker type varchar(300)",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_statement_prepared_before_a_table_was_changed_charges_nobody(
    place: Place, saver: AsyncPostgresSaver, database: str, change: str
) -> None:
    graph = two_steps()
    for number in range(5):
        config: RunnableConfig = {"configurable": {"thread_id": f"t{number}"}}
        await graph.compile(checkpointer=saver, interrupt_before=["b"]).ainvoke({"steps": []}, config)
    workflow = workflow_of("steps", graph)
    for number in range(3):
        assert await place.attempt(workflow, f"t{number}") == "tried"
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(change)
    async with asyncio.timeout(30):
        while await place.attempt(workflow, "t3") != "tried":
            assert await place.attempts("t3") == []
    assert [one.outcome for one in await place.attempts("t3")] == ["finished"]
    assert await place.attempt(workflow, "t4") == "tried"


async def test_a_registered_run_goes_on_after_a_table_was_changed(database: str) -> None:
    graph = two_steps().compile()
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        for change in ("select 1", "select 1", *CHANGES):
            with psycopg.connect(database, autocommit=True) as owner:
                owner.execute(change)
            assert await executor.run("steps", graph, {"steps": []}, thread_id="t") == {"steps": ["x", "x"]}


async def test_what_an_attempt_leaves_running_saves_and_loads_no_more(
    place: Place, saver: AsyncPostgresSaver, database: str
) -> None:
    """A node that outlives its attempt keeps the saver; the session holds another thread's lock by then."""
    kept: list[Any] = []

    async def step(state: State, config: RunnableConfig) -> State:
        kept.append(config)
        return {"steps": [*state["steps"], "x"]}

    graph = chain(State, ("a", step), ("b", step))
    config = {"configurable": {"thread_id": "t"}}
    await graph.compile(checkpointer=saver, interrupt_before=["b"]).ainvoke({"steps": []}, config)
    assert await place.attempt(workflow_of("steps", graph), "t") == "tried"
    late = next(value for value in kept[-1]["configurable"].values() if isinstance(value, FencedSaver))
    async with place.worker.sessions.session("another") as session:
        assert session is late.session
        assert (await locks.try_lock(session, "another"))[0]
        with pytest.raises(LockLostError):
            await late.aput(config, empty_checkpoint(), {}, {})
        with pytest.raises(LockLostError):
            await late.aput_writes(
                {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "x"}}, [("a", 1)], "t"
            )
        with pytest.raises(LockLostError):
            await late.aget_tuple(config)
