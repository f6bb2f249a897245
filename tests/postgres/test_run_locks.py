"""No run of the executor leaves its thread locked, whatever goes wrong between its lock and its end."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.state import CompiledStateGraph

from postgres.test_executor import State, graph, lock_is_free, rows
from postgres.test_run_endings import until_free
from resumed.library.executor import AsyncWorkflowExecutor
from resumed.library.runs import coordinator

SESSIONS = "from pg_stat_activity where application_name = 'resumed executor' and datname = current_database()"


async def until(dsn: str, condition: str) -> None:
    async with asyncio.timeout(20):
        while rows(dsn, f"select {condition} as it") != [{"it": True}]:
            await asyncio.sleep(0.02)


async def test_a_run_that_ends_while_its_lock_is_taken_again_leaves_nothing_locked(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "_RELEASE_PATIENCE", timedelta(milliseconds=100))
    begun = asyncio.Event()

    async def slow(_: State) -> State:
        begun.set()
        await asyncio.sleep(60)
        return {}

    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        run = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await begun.wait()
        with psycopg.connect(database) as connection:
            # The statement that takes the lock again has it and waits for the row of the run.
            connection.execute("select from resumed.runs for update")
            rows(database, f"select pg_terminate_backend(pid) {SESSIONS}")
            await until(database, f"exists (select {SESSIONS} and wait_event_type = 'Lock')")
            run.cancel()
            await asyncio.wait({run})
        await until_free(database, "orders-1")
        assert rows(database)[0]["state"] == "open"
        assert (await executor.run("orders", graph(), None, thread_id="orders-1"))["steps"] == ["one", "middle", "two"]


class Uncopyable(CompiledStateGraph[Any, Any, Any, Any]):
    """A graph that cannot be given a run's checkpointer."""

    def __copy__(self) -> "Uncopyable":
        raise NotImplementedError


async def test_a_graph_that_cannot_be_prepared_leaves_its_thread_free(database: str) -> None:
    made = graph()
    made.__class__ = Uncopyable
    async with AsyncWorkflowExecutor(database) as executor:
        with pytest.raises(NotImplementedError):
            await executor.run("orders", made, {"steps": []}, thread_id="orders-1")
        assert await lock_is_free(database, "orders-1")
        assert rows(database)[0]["state"] == "failed"
        assert (await executor.run("orders", graph(), {"steps": []}, thread_id="orders-1"))["steps"][-1] == "two"


class Unreadable(JsonPlusSerializer):
    """A serializer that no longer knows what it wrote."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        raise LookupError


async def test_an_earlier_input_that_cannot_be_read_leaves_its_thread_free_and_its_run_as_it_was(database: str) -> None:
    async with AsyncWorkflowExecutor(database, serde=Unreadable()) as executor:
        await executor.submit("orders", {"steps": []}, thread_id="orders-1")
        with pytest.raises(LookupError):
            await executor.run("orders", graph(), None, thread_id="orders-1")
        assert await lock_is_free(database, "orders-1")
        assert rows(database)[0]["state"] == "submitted"
    async with AsyncWorkflowExecutor(database) as executor:
        assert (await executor.run("orders", graph(), None, thread_id="orders-1"))["steps"][-1] == "two"
