"""How runs of the executor end: the lock is kept until nothing works for the run, and the record says what is left."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from postgres.test_executor import State, graph, lock_is_free, rows
from resumed.errors import WorkflowAlreadyRunningError
from resumed.library import keeping
from resumed.library.executor import AsyncWorkflowExecutor

ENDED: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_has_ended() -> Iterator[None]:
    ENDED.clear()
    yield
    ENDED.clear()


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_GRACE", timedelta(milliseconds=200))


async def consumed(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


def called(executor: AsyncWorkflowExecutor, face: str, *given: Any, **options: Any) -> Any:
    if face == "run":
        return executor.run("orders", *given, **options)
    return consumed(executor.astream("orders", *given, **options))


async def until_free(dsn: str, thread: str) -> None:
    async with asyncio.timeout(20):
        while not await lock_is_free(dsn, thread):
            await asyncio.sleep(0.05)


# -- a run that was cancelled and whose synchronous node still works


class Worker:
    """A synchronous node that takes its time and counts how many of it work at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.working, self.most = seconds, 0, 0

    def __call__(self, state: State) -> State:
        self.working += 1
        self.most = max(self.most, self.working)
        time.sleep(self.seconds)
        self.working -= 1
        return {"steps": [*state["steps"], "middle"]}


async def test_a_thread_is_not_begun_again_while_a_cancelled_run_of_the_same_process_works(database: str) -> None:
    worker = Worker(1.5)
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1"), 0.5)
        with pytest.raises(WorkflowAlreadyRunningError, match="this process is at the thread already"):
            await executor.run("orders", graph(worker), None, thread_id="orders-1")
        await until_free(database, "orders-1")
        found = await executor.run("orders", graph(worker), None, thread_id="orders-1")
    assert (found["steps"], worker.most) == (["one", "middle", "two"], 1)


async def test_a_run_whose_node_still_works_can_be_cancelled_for_good(database: str) -> None:
    worker = Worker(1.5)
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1"), 0.5)
        assert await executor.cancel("orders-1", "not wanted")
        await until_free(database, "orders-1")
        head = (await executor.checkpointer.aget_tuple({"configurable": {"thread_id": "orders-1"}})).checkpoint["id"]
    assert rows(database)[0]["state"] == "cancelled"
    assert rows(database, "select cancelled_head, state from resumed.cases") == [
        {"cancelled_head": head, "state": "held"}
    ]


@pytest.mark.parametrize("seconds", [1, 30], ids=["ends soon", "does not end"])
async def test_an_executor_closes_in_bounded_time_whatever_still_works(
    database: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resumed.library.desk._RELEASE_PATIENCE", timedelta(seconds=2))
    done = threading.Event()

    def slow(_: State) -> State:
        done.wait(seconds)
        return {}

    began = time.monotonic()
    async with AsyncWorkflowExecutor(database) as executor:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"), 0.5)
    assert time.monotonic() - began < 10
    done.set()
    assert rows(database)[0]["state"] == "open"
    assert await lock_is_free(database, "orders-1")
