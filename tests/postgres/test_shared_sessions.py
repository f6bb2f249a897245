"""Attempts that share lock sessions: none disturbs what another asks, and a lost session ends its own only."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypedDict

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from resumed.runtime import attempt as attempt_module
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.store import locks
from resumed.store.connection import Session, Target, is_usable, open_session
from support.attempting import chain, place_at, workflow_of
from support.endless import endless_value

MOST = 2
CONTEND = 12


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AttemptSessions]:
    it = AttemptSessions(Target(database), "resumed attempt", MOST)
    yield it
    await it.close()


async def sessions_of(database: str) -> int:
    async with open_session(Target(database)) as watcher:
        query = "select count(*) as opened from pg_stat_activity where application_name = 'resumed attempt'"
        return int((await (await watcher.execute(query)).fetchone() or {})["opened"])


async def test_there_are_never_more_than_asked_for(pool: AttemptSessions, database: str) -> None:
    seen: list[tuple[int, int]] = []
    arrived = asyncio.Barrier(CONTEND)

    async def use(number: int) -> None:
        async with pool.session(f"t{number}") as session:
            await arrived.wait()
            seen.append((session.info.backend_pid, await sessions_of(database)))

    await asyncio.gather(*(use(number) for number in range(CONTEND)))
    pids = [pid for pid, _ in seen]
    assert {count for _, count in seen} == {MOST}
    assert {pids.count(pid) for pid in pids} == {CONTEND // MOST}


async def test_blocks_of_one_are_closed_to_the_statements_of_others(pool: AttemptSessions) -> None:
    """Transactions, pipelines and bare statements of twelve tasks, in every order that they come in."""

    async def transaction(session: Session) -> None:
        async with session.transaction():
            first = await transaction_of(session)
            await asyncio.sleep(0)
            assert first is not None
            assert await transaction_of(session) == first

    async def pipeline(session: Session) -> None:
        async with session.pipeline():
            asked = [await session.execute("select %s::int as it", [number]) for number in range(3)]
            await asyncio.sleep(0)
        assert [(await one.fetchone() or {})["it"] for one in asked] == [0, 1, 2]

    async def fail(session: Session) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with session.transaction():
                await session.execute("select 1 / 0")

    async def bare(session: Session) -> None:
        await session.execute("select 1")
        assert await is_usable(session)

    async def transaction_of(session: Session) -> str | None:
        row = await (await session.execute("select pg_current_xact_id()::text as it")).fetchone()
        return row and row["it"]

    async def use(number: int) -> None:
        async with pool.session(f"t{number}") as session:
            for turn in range(40):
                await (transaction, pipeline, fail, bare)[(number + turn) % 4](session)

    await asyncio.gather(*(use(number) for number in range(CONTEND)))


async def test_whom_an_error_passes_through_leaves_no_lock_and_harms_no_neighbour(
    pool: AttemptSessions, database: str
) -> None:
    entered, leave = asyncio.Barrier(2 * MOST), asyncio.Event()

    async def neighbour(number: int) -> bool:
        async with pool.session(f"n{number}") as session:
            await locks.try_lock(session, f"n{number}")
            await entered.wait()
            await leave.wait()
            return await locks.unlock(session, f"n{number}")

    async def stumble(number: int) -> None:
        async with pool.session(f"s{number}") as session:
            await locks.try_lock(session, f"s{number}")
            await entered.wait()
            raise ValueError("whatever")

    neighbours = [asyncio.create_task(neighbour(number)) for number in range(MOST)]
    await asyncio.sleep(0)
    for one in asyncio.as_completed([stumble(number) for number in range(MOST)]):
        with pytest.raises(ValueError, match="whatever"):
            await one
    names = [f"{who}{number}" for who in "ns" for number in range(MOST)]
    async with open_session(Target(database)) as watcher:
        assert await locks.held_threads(watcher, names) == {"n0", "n1"}
    leave.set()
    assert await asyncio.gather(*neighbours) == [True] * MOST


async def test_one_that_is_left_inside_of_something_is_closed_for_all(pool: AttemptSessions) -> None:
    async with pool.session("a"), pool.session("b") as one, pool.session("c") as other:
        assert one is other
        await one.execute("begin")
        assert not await is_usable(other)
    async with pool.session("a") as one:
        assert await is_usable(one)


class State(TypedDict):
    steps: list[str]


async def left_before_b(saver: AsyncPostgresSaver, graph: Any, count: int) -> list[str]:
    names = [f"t{number}" for number in range(count)]
    waiting = graph.compile(checkpointer=saver, interrupt_before=["b"])
    for name in names:
        await waiting.ainvoke({"steps": []}, {"configurable": {"thread_id": name}})
    return names


async def test_twenty_attempts_at_once_on_two_sessions_hold_their_locks_and_finish(
    database: str, saver: AsyncPostgresSaver
) -> None:
    held: list[frozenset[str]] = []
    arrived = asyncio.Barrier(20)

    async def step(state: State) -> State:
        if state["steps"]:
            await arrived.wait()
            async with open_session(Target(database)) as watcher:
                held.append(await locks.held_threads(watcher, names))
        return {"steps": [*state["steps"], "x"]}

    graph = chain(State, ("a", step), ("b", step), ("c", lambda state: {"steps": [*state["steps"], "end"]}))
    names = await left_before_b(saver, graph, 20)
    async with place_at(database, most=MOST) as place:
        workflow = workflow_of("steps", graph)
        tried = await asyncio.gather(*(place.attempt(workflow, name) for name in names))
        assert set(tried) == {"tried"}
        assert held[0] == set(names)
        assert await sessions_of(database) == MOST
        for name in names:
            assert [one.outcome for one in await place.attempts(name)] == ["finished"]
        async with open_session(Target(database)) as watcher:
            assert await locks.held_threads(watcher, names) == set()


async def test_a_lost_session_ends_the_attempts_on_it_and_no_other(database: str, saver: AsyncPostgresSaver) -> None:
    arrived, done = asyncio.Barrier(11), asyncio.Event()

    async def step(state: State) -> State:
        if state["steps"]:
            await arrived.wait()
            await done.wait()
        return {"steps": [*state["steps"], "x"]}

    graph = chain(State, ("a", step), ("b", step))
    names = await left_before_b(saver, graph, 10)
    async with place_at(database, most=MOST) as place:
        workflow = workflow_of("steps", graph)
        attempts = [asyncio.create_task(place.attempt(workflow, name)) for name in names]
        await arrived.wait()
        async with open_session(Target(database)) as killer:
            query = (
                "select count(pg_terminate_backend(pid)) as it from (select pid from pg_stat_activity"
                " where application_name = 'resumed attempt' limit 1) one"
            )
            assert await (await killer.execute(query)).fetchone() == {"it": 1}
        done.set()
        await asyncio.gather(*attempts)
        ended = [one.outcome for name in names for one in await place.attempts(name)]
        assert sorted(ended) == ["finished"] * 5 + ["lock_lost"] * 5
        async with open_session(Target(database)) as watcher:
            assert await (await watcher.execute("select from resumed.attempts where charged")).fetchall() == []
        assert await sessions_of(database) <= MOST


@pytest.mark.parametrize("face", ["async", "sync"])
async def test_a_value_whose_serialisation_never_ends_holds_up_no_neighbour(
    database: str, saver: AsyncPostgresSaver, face: str
) -> None:
    Endless, inside, end = endless_value()  # noqa: N806 - a class

    def step(state: State, config: RunnableConfig) -> Any:
        if not state["steps"]:
            return {"steps": ["x"]}
        if config["configurable"]["thread_id"] == "t0":
            return {"steps": [Endless()]}
        inside.wait()
        return {"steps": [*state["steps"], "x"]}

    async def astep(state: State, config: RunnableConfig) -> Any:
        return await asyncio.to_thread(step, state, config)

    node = astep if face == "async" else step
    graph = chain(State, ("a", node), ("b", node), ("c", lambda _: {"steps": ["end"]}))
    names = await left_before_b(saver, graph, 3)
    async with place_at(database, most=1) as place:
        workflow = workflow_of("steps", graph)
        slow, *others = (asyncio.create_task(place.attempt(workflow, name)) for name in names)
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*others)
            assert inside.is_set()
            assert not slow.done()
        finally:
            end.set()
        await slow
        for name in names[1:]:
            assert [one.outcome for one in await place.attempts(name)] == ["finished"]


async def test_after_a_pipeline_that_failed_what_it_held_can_be_asked_again(pool: AttemptSessions) -> None:
    """psycopg takes for prepared what the server has skipped."""
    async with pool.session("a") as session, pool.session("b"), pool.session("c") as other:
        assert session is not other

        async def fail() -> None:
            async with session.pipeline():
                await session.execute("select 1 / 0 from pg_sleep(0.1)")
                await session.execute("select 2 as it")

        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await fail()
        for _ in range(2):
            assert await (await session.execute("select 2 as it")).fetchone() == {"it": 2}


async def test_an_attempt_that_is_cancelled_while_it_gives_up_its_lock_keeps_none(
    database: str,
) -> None:
    pool = AttemptSessions(Target(database), "resumed attempt", 1)
    locked, go, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stumble() -> None:
        async with pool.session("t") as session:
            await locks.try_lock(session, "t")
            locked.set()
            await go.wait()
            left.set()
            raise ValueError("whatever")

    async with pool.session("keep") as session:
        await locks.try_lock(session, "keep")
        stumbling = asyncio.create_task(stumble())
        await locked.wait()
        async with session.transaction():  # the other waits for its turn
            go.set()
            await left.wait()
            await asyncio.sleep(0)
            stumbling.cancel()
            await asyncio.sleep(0)
        with pytest.raises((ValueError, asyncio.CancelledError)):
            await stumbling
        async with open_session(Target(database)) as watcher:
            assert await locks.held_threads(watcher, ["t", "keep"]) == {"keep"}
    await pool.close()


async def test_every_attempt_has_the_settings_of_a_session_of_its_own(database: str) -> None:
    names = ["plan_cache_mode", "enable_seqscan", "jit", "search_path", "statement_timeout", "row_security"]
    query = "select current_setting(n) as it from unnest(%s::text[]) n"
    found: list[list[str]] = []
    for most in (None, 1):
        pool = AttemptSessions(Target(database), "resumed attempt", most)
        async with pool.session("first"):
            pass
        async with pool.session("a"), pool.session("b") as session:
            found.append([row["it"] async for row in await session.execute(query, [names])])
        await pool.close()
    own, shared = found
    assert shared[2:] == own[2:]
    assert shared[:2] == ["force_generic_plan", "off"]
    pool = AttemptSessions(Target(database), "resumed attempt", 1)
    async with pool.session("a"), pool.session("b") as session:
        assert [row["it"] async for row in await session.execute(query, [names[:2]])] == shared[:2]
    await pool.close()


async def test_an_attempt_that_breaks_in_the_product_keeps_no_lock(
    database: str, saver: AsyncPostgresSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = chain(State, ("a", lambda _: {"steps": ["x"]}), ("b", lambda _: {"steps": ["x"]}))
    names = await left_before_b(saver, graph, 4)
    begun, leave = asyncio.Barrier(5), asyncio.Event()

    async def wait_or_break(context: Any, *_: Any) -> Any:
        await begun.wait()
        if context.thread_id == "t3":
            raise RuntimeError("ours")
        await leave.wait()
        raise attempt_module.AttemptEndedError(attempt_module.RequestResult.LOOKED)

    monkeypatch.setattr(attempt_module, "_approve", wait_or_break)
    async with place_at(database, most=MOST) as place, open_session(Target(database)) as watcher:
        attempts = {name: asyncio.create_task(place.attempt(workflow_of("steps", graph), name)) for name in names}
        await begun.wait()
        with pytest.raises(RuntimeError, match="ours"):
            await attempts["t3"]
        assert await locks.held_threads(watcher, names) == {"t0", "t1", "t2"}
        leave.set()
        assert {await attempts[name] for name in names[:3]} == {"looked"}
        assert await locks.held_threads(watcher, names) == set()
