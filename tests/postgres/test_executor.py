"""The executor on a real Postgres: what it registers, what it refuses, how its runs end."""

import asyncio
import random
from collections import Counter
from typing import Any, TypedDict

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from psycopg.rows import dict_row

from resumed.errors import (
    DatabaseUnusableError,
    ExecutorClosedError,
    RunCancelledError,
    RunTakenOverError,
    WorkflowAlreadyRunningError,
    WrongDatabaseError,
)
from resumed.library.executor import AsyncWorkflowExecutor
from resumed.store import locks
from resumed.store.connection import Target, open_session


class State(TypedDict, total=False):
    steps: list[str]
    wait: float
    said: str


def graph(middle: Any = None, **compiled: Any) -> Any:
    def one(state: State) -> State:
        return {"steps": [*state.get("steps", []), "one"]}

    def two(state: State) -> State:
        return {"steps": [*state["steps"], "two"]}

    built = StateGraph(State)
    built.add_node("one", one)
    built.add_node("middle", middle or (lambda state: {"steps": [*state["steps"], "middle"]}))
    built.add_node("two", two)
    built.add_edge(START, "one")
    built.add_edge("one", "middle")
    built.add_edge("middle", "two")
    built.add_edge("two", END)
    return built.compile(**compiled)


def rows(dsn: str, query: str = "select * from resumed.runs order by begun_at") -> list[dict[str, Any]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


async def lock_is_free(dsn: str, thread: str) -> bool:
    async with open_session(Target(dsn)) as session:
        return thread not in await locks.held_threads(session, [thread])


async def test_a_run_gives_what_the_graph_gives_and_is_on_record_as_finished(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        found = await executor.run("orders", graph(), {"steps": []}, thread_id="orders-1")
        assert found["steps"] == ["one", "middle", "two"]
        saved = await executor.checkpointer.aget_tuple({"configurable": {"thread_id": "orders-1"}})
    assert saved is not None
    assert saved.metadata["workflow"] == "orders"
    (run,) = rows(database)
    assert (run["state"], run["head_before"], run["input"]) == ("finished", "", None)
    assert await lock_is_free(database, "orders-1")


async def test_a_thread_may_have_many_runs_one_after_another(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        for _ in range(3):
            await executor.run("orders", graph(), {"steps": []}, thread_id="orders-1")
    assert [run["state"] for run in rows(database)] == ["finished"] * 3


async def test_a_run_that_raises_has_failed_and_says_why(database: str) -> None:
    def broken(_: State) -> State:
        raise RuntimeError("no")

    async with AsyncWorkflowExecutor(database) as executor:
        with pytest.raises(RuntimeError, match="no"):
            await executor.run("orders", graph(broken), {"steps": []}, thread_id="orders-1")
        assert rows(database)[0]["state"] == "failed"
        found = await executor.run("orders", graph(), None, thread_id="orders-1")
        assert found["steps"] == ["one", "middle", "two"]


async def test_a_run_that_asks_waits_and_its_answer_is_a_run_of_its_own(database: str) -> None:
    asks = graph(lambda state: {"said": interrupt("well?"), "steps": [*state["steps"], "middle"]})
    async with AsyncWorkflowExecutor(database) as executor:
        asked = await executor.run("orders", asks, {"steps": []}, thread_id="orders-1")
        assert asked["__interrupt__"][0].value == "well?"
        assert rows(database)[0]["state"] == "waiting"
        found = await executor.run("orders", asks, Command(resume="yes"), thread_id="orders-1")
        assert (found["said"], found["steps"][-1]) == ("yes", "two")
    assert [run["state"] for run in rows(database)] == ["waiting", "finished"]


async def test_a_run_that_stops_at_a_breakpoint_waits(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("orders", graph(interrupt_before=["two"]), {"steps": []}, thread_id="orders-1")
    assert rows(database)[0]["state"] == "waiting"


async def test_while_it_runs_the_thread_is_locked_and_its_input_is_stored(database: str) -> None:
    begun, enough = asyncio.Event(), asyncio.Event()

    async def slow(state: State) -> State:
        begun.set()
        await enough.wait()
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database) as executor, AsyncWorkflowExecutor(database) as other:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await begun.wait()
        (run,) = rows(database)
        assert (run["state"], run["workflow"], run["input_type"]) == ("open", "orders", "msgpack")
        assert not await lock_is_free(database, "orders-1")
        for one in (executor, other):
            with pytest.raises(WorkflowAlreadyRunningError):
                await one.run("orders", graph(), {"steps": []}, thread_id="orders-1")
        enough.set()
        assert (await running)["steps"][-1] == "two"


async def test_a_cancelled_task_leaves_the_run_open_and_its_lock_free(database: str) -> None:
    async def slow(_: State) -> State:
        await asyncio.sleep(60)
        return {}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert rows(database)[0]["state"] == "open"
        assert await lock_is_free(database, "orders-1")
        with pytest.raises(WorkflowAlreadyRunningError, match="has not ended"):
            await executor.run("orders", graph(), {"steps": ["again"]}, thread_id="orders-1")
        assert (await executor.run("orders", graph(), None, thread_id="orders-1"))["steps"] == ["one", "middle", "two"]
    assert [run["state"] for run in rows(database)] == ["finished"]


async def test_a_cancelled_run_keeps_its_lock_while_a_synchronous_node_works(database: str) -> None:
    import time  # noqa: PLC0415

    def slow(_: State) -> State:
        time.sleep(2)
        return {}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not await lock_is_free(database, "orders-1")
        await asyncio.sleep(2)
        assert await lock_is_free(database, "orders-1")


async def test_a_cancelled_run_is_never_resumed_where_it_stopped(database: str) -> None:
    async def slow(_: State) -> State:
        await asyncio.sleep(60)
        return {}

    async with AsyncWorkflowExecutor(database) as executor, AsyncWorkflowExecutor(database) as other:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        assert await other.cancel("orders-1", "not wanted any more")
        with pytest.raises(RunCancelledError):
            await running
        head = (await executor.checkpointer.aget_tuple({"configurable": {"thread_id": "orders-1"}})).checkpoint["id"]
    assert rows(database)[0]["state"] == "cancelled"
    (case,) = rows(database, "select * from resumed.cases")
    assert (case["cancelled_head"], case["state"]) == (head, "held")
    assert rows(database, "select action, reason from resumed.audit") == [
        {"action": "cancel", "reason": "not wanted any more"}
    ]


async def test_a_graph_with_another_databases_checkpointer_is_refused(database: str, langgraph_database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        with PostgresSaver.from_conn_string(langgraph_database) as elsewhere:
            for saver in (elsewhere, InMemorySaver()):
                with pytest.raises(WrongDatabaseError):
                    await executor.run("orders", graph(checkpointer=saver), {"steps": []})
        with PostgresSaver.from_conn_string(database) as own:
            await executor.run("orders", graph(checkpointer=own), {"steps": []})
        await executor.run("orders", graph(checkpointer=executor.checkpointer), {"steps": []})


async def test_a_stream_is_a_run_too(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        parts = [one async for one in executor.astream("orders", graph(), {"steps": []}, stream_mode="updates")]
        assert [next(iter(part)) for part in parts] == ["one", "middle", "two"]
        stream = executor.astream("orders", graph(), {"steps": []}, thread_id="orders-2", stream_mode="updates")
        await anext(stream)
        await stream.aclose()
        assert await lock_is_free(database, "orders-2")
    assert [run["state"] for run in rows(database)] == ["finished", "open"]


async def test_an_input_is_submitted_once(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        thread = await executor.submit("orders", {"steps": []}, thread_id="orders-1")
        assert thread == "orders-1"
        assert await executor.submit("orders", {"steps": ["other"]}, thread_id="orders-1") == "orders-1"
        (run,) = rows(database)
        assert (run["state"], run["submitted"]) == ("submitted", True)
        assert (await executor.run("orders", graph(), None, thread_id="orders-1"))["steps"] == ["one", "middle", "two"]
        assert await executor.submit("orders", {"steps": ["other"]}, thread_id="orders-1") == "orders-1"
        assert [run["state"] for run in rows(database)] == ["finished"]


async def test_the_lost_session_of_a_run_is_replaced_and_the_run_goes_on(database: str) -> None:
    async def slow(state: State) -> State:
        await asyncio.sleep(3)
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        end_sessions(database)
        assert (await running)["steps"] == ["one", "middle", "two"]
        assert rows(database)[0]["state"] == "finished"
        assert await lock_is_free(database, "orders-1")


async def test_a_run_whose_thread_somebody_moved_meanwhile_is_taken_over(database: str) -> None:
    async def slow(state: State) -> State:
        await asyncio.sleep(3)
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        with psycopg.connect(database, autocommit=True) as connection:
            end_sessions(database)
            connection.execute("update resumed.runs set state = 'taken'")
        before = rows(database, "select max(checkpoint_id) from checkpoints")
        with pytest.raises(RunTakenOverError):
            await running
        assert rows(database, "select max(checkpoint_id) from checkpoints") == before


def end_sessions(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed executor'"
        )


async def test_more_runs_than_there_is_room_for_wait_their_turn(database: str) -> None:
    running, most = 0, 0

    async def counted(state: State) -> State:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database, max_runs=3) as executor:
        await asyncio.gather(*(executor.run("orders", graph(counted), {"steps": []}) for _ in range(12)))
    assert most == 3
    assert [run["state"] for run in rows(database)] == ["finished"] * 12


async def test_a_closed_executor_leaves_its_runs_open_and_says_so(database: str) -> None:
    async def slow(_: State) -> State:
        await asyncio.sleep(60)
        return {}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
    with pytest.raises(ExecutorClosedError):
        await running
    assert rows(database)[0]["state"] == "open"
    assert await lock_is_free(database, "orders-1")
    with pytest.raises(RuntimeError, match="not open"):
        await executor.run("orders", graph(), {"steps": []})


async def test_a_database_without_our_schema_is_refused_with_the_remedy(bare_database: str) -> None:
    with pytest.raises(DatabaseUnusableError, match="resumed migrate"):
        async with AsyncWorkflowExecutor(bare_database):
            pass


async def test_a_call_that_contradicts_itself_is_refused(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        with pytest.raises(ValueError, match="two different threads"):
            await executor.run("orders", graph(), {}, thread_id="a", config={"configurable": {"thread_id": "b"}})
        for name in ("", "x" * 201):
            with pytest.raises(ValueError, match="200 characters"):
                await executor.run(name, graph(), {})
        with pytest.raises(ValueError, match="input"):
            await executor.submit("orders", None)
        with pytest.raises(TypeError, match="compile"):
            await executor.run("orders", StateGraph(State), {})


async def test_the_scalars_of_the_call_are_on_record_and_nothing_else(database: str) -> None:
    given = {"tenant": "acme", "big": {"a": 1}, "odd": "a\0b", "__private": 1, "checkpoint_ns": ""}
    config = {"configurable": given, "metadata": {"version": "7", "workflow": "not this"}}

    async def fails(_: State) -> State:
        raise RuntimeError

    async with AsyncWorkflowExecutor(database) as executor:
        with pytest.raises(RuntimeError):
            await executor.run("orders", graph(fails), {"steps": []}, thread_id="orders-1", config=config)
        saved = await executor.checkpointer.aget_tuple({"configurable": {"thread_id": "orders-1"}})
    (run,) = rows(database)
    assert (run["call"], run["version"]) == ({"tenant": "acme", "__options": {"face": "async"}}, "7")
    assert saved is not None
    assert (saved.metadata["workflow"], saved.metadata["version"]) == ("orders", "7")


async def test_runs_that_are_cancelled_at_any_moment_harm_no_neighbour_and_leak_no_lock(database: str) -> None:
    dice = random.Random(7)

    async def slow(state: State) -> State:
        await asyncio.sleep(dice.random() / 20)
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database, sessions=2) as executor:
        tasks = [
            asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id=f"orders-{number}"))
            for number in range(120)
        ]
        for task in dice.sample(tasks, 60):
            await asyncio.sleep(dice.random() / 50)
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = Counter(type(one).__name__ for one in ended)
        assert set(kinds) <= {"dict", "CancelledError"}
        assert kinds["dict"] >= 60
        assert kinds["CancelledError"] > 20
        states = {run["thread_id"]: run["state"] for run in rows(database)}
        returned = {f"orders-{number}" for number, one in enumerate(ended) if isinstance(one, dict)}
        finished = {thread for thread, state in states.items() if state == "finished"}
        assert set(states.values()) <= {"open", "finished"}
        assert returned <= finished  # the others were cancelled when they had ended
        locks_held = "select count(*) from pg_locks where locktype = 'advisory'"
        async with asyncio.timeout(20):  # a synchronous node that was at work keeps its lock until it has ended
            while rows(database, locks_held) != [{"count": 0}]:
                await asyncio.sleep(0.05)
        sessions = rows(database, "select pid from pg_stat_activity where application_name = 'resumed executor'")
        assert len(sessions) == 2
        again = await executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-new")
        assert again["steps"] == ["one", "middle", "two"]
