"""How runs of the executor end: the lock is kept until nothing works for the run, and the record says what is left."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from postgres.test_executor import State, graph, lock_is_free, rows
from resumed.errors import LockLostError, RunCancelledError, WorkflowAlreadyRunningError
from resumed.library.executor import AsyncWorkflowExecutor
from resumed.library.runs import coordinator, supervision
from resumed.library.sync_executor import WorkflowExecutor
from support.endless import endless_value

ENDED: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_has_ended() -> Iterator[None]:
    ENDED.clear()
    yield
    ENDED.clear()


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_GRACE", timedelta(milliseconds=200))


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


# -- the synchronous executor


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Take Ctrl-C as a program does by default: what loads workflows in this process leaves it to its parent."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_caller() -> None:
    """Send Ctrl-C to the thread that runs the tests, from the event loop's."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("face", ["run", "stream"])
def test_an_interrupted_synchronous_run_keeps_its_lock_until_its_awaited_node_has_ended(
    database: str, face: str
) -> None:
    async def slow(_: State) -> State:
        try:
            interrupt_caller()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            ENDED.append("middle")
        return {}

    with WorkflowExecutor(database) as executor:
        with pytest.raises(KeyboardInterrupt):
            list(getattr(executor, face)("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        assert ENDED == ["middle"]
        assert asyncio.run(lock_is_free(database, "orders-1"))
        assert rows(database)[0]["state"] == "open"


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("face", ["run", "stream"])
def test_a_second_interrupt_returns_at_once_and_leaves_the_lock_to_the_node(database: str, face: str) -> None:
    async def slow(_: State) -> State:
        try:
            interrupt_caller()
            await asyncio.sleep(60)
        finally:
            interrupt_caller()
            await asyncio.sleep(2)
            ENDED.append("middle")
        return {}

    with WorkflowExecutor(database) as executor:
        with pytest.raises(KeyboardInterrupt):
            list(getattr(executor, face)("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        assert ENDED == []
        assert not asyncio.run(lock_is_free(database, "orders-1"))
        asyncio.run(until_free(database, "orders-1"))
        assert ENDED == ["middle"]


# -- nodes that outlive their run


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("face", ["run", "stream"])
async def test_an_awaited_node_that_outlives_its_cancellation_keeps_the_lock(database: str, face: str) -> None:
    async def stubborn(state: State) -> State:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
        ENDED.append("middle")
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(called(executor, face, graph(stubborn), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ENDED == []
        assert not await lock_is_free(database, "orders-1")
        with pytest.raises(WorkflowAlreadyRunningError, match="this process"):
            await executor.run("orders", graph(), None, thread_id="orders-1")
        await until_free(database, "orders-1")
        assert ENDED == ["middle"]
        assert rows(database)[0]["state"] == "open"
        assert (await executor.run("orders", graph(), None, thread_id="orders-1"))["steps"] == ["one", "middle", "two"]


async def test_a_run_that_is_cancelled_twice_keeps_its_lock_until_its_node_has_ended(database: str) -> None:
    async def slow(_: State) -> State:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(2)
            ENDED.append("middle")
        return {}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0.1)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not await lock_is_free(database, "orders-1")
        await until_free(database, "orders-1")
        assert ENDED == ["middle"]


async def test_a_run_that_another_process_cancels_ends_once_its_node_has(database: str) -> None:
    async def slow(_: State) -> State:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(3)  # the session looks every second
            ENDED.append("middle")
        return {}

    async with AsyncWorkflowExecutor(database) as executor, AsyncWorkflowExecutor(database) as other:
        running = asyncio.create_task(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"))
        await asyncio.sleep(0.5)
        assert await other.cancel("orders-1")
        with pytest.raises(RunCancelledError):
            await running
        assert ENDED == ["middle"]


async def test_a_closed_stream_keeps_its_lock_until_the_nodes_beside_have_ended(database: str) -> None:
    async def slow(_: State) -> State:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            ENDED.append("slow")
        return {}

    built = StateGraph(State)
    built.add_node("fast", lambda _: {"said": "fast"})
    built.add_node("slow", slow)
    built.add_edge(START, "fast")
    built.add_edge(START, "slow")
    async with AsyncWorkflowExecutor(database) as executor:
        stream = executor.astream("orders", built.compile(), {"steps": []}, thread_id="orders-1", stream_mode="updates")
        assert await anext(stream) == {"fast": {"said": "fast"}}
        await stream.aclose()
        await until_free(database, "orders-1")
        assert ENDED == ["slow"]


async def test_nothing_is_saved_by_a_run_whose_lock_was_given_back(database: str) -> None:
    savers: list[Any] = []

    def middle(state: State, config: RunnableConfig) -> State:
        savers.append(config["configurable"]["__pregel_checkpointer"])
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("orders", graph(middle), {"steps": []}, thread_id="orders-1")
        before = rows(database, "select count(*) from checkpoint_writes")
        place = {"configurable": {"thread_id": "orders-1", "checkpoint_ns": "", "checkpoint_id": "late"}}
        with pytest.raises(LockLostError):
            await savers[0].aput_writes(place, [("steps", ["late"])], "task")
        assert rows(database, "select count(*) from checkpoint_writes") == before


# -- a run that was cancelled and whose synchronous node still works


class Worker:
    """A synchronous node that takes its time and counts how many of it work at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.working, self.most, self.thread = seconds, 0, 0, ""
        self.begun, self.enough = threading.Event(), threading.Event()

    def __call__(self, state: State) -> State:
        self.working += 1
        self.thread = threading.current_thread().name
        self.begun.set()
        self.most = max(self.most, self.working)
        self.enough.wait(self.seconds)
        self.working -= 1
        return {"steps": [*state["steps"], "middle"]}


async def cancel_at_work(run: Coroutine[Any, Any, Any], begun: threading.Event) -> None:
    """Cancel a run once its synchronous node works."""
    running = asyncio.create_task(run)
    while not begun.is_set():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("before", ["threads of its own", "another executor", "one that was chosen"])
async def test_a_cancelled_run_keeps_its_lock_whatever_its_loop_had_before(database: str, before: str) -> None:
    worker = Worker(60)
    async with AsyncExitStack() as stack:
        if before == "threads of its own":
            await asyncio.to_thread(int)
        elif before == "another executor":
            await stack.enter_async_context(AsyncWorkflowExecutor(database))
        else:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4, "chosen"))
        executor = await stack.enter_async_context(AsyncWorkflowExecutor(database))
        run = executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1")
        await cancel_at_work(run, worker.begun)
        assert not await lock_is_free(database, "orders-1")
        worker.enough.set()
        await until_free(database, "orders-1")
        names = {"threads of its own": "asyncio", "another executor": "resumed", "one that was chosen": "chosen"}
        assert worker.thread.startswith(names[before])


async def test_a_cancelled_run_keeps_its_lock_though_its_loop_was_given_another_executor_meanwhile(
    database: str,
) -> None:
    worker = Worker(60)
    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("orders", graph(), {"steps": []}, thread_id="orders-0")
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4, "chosen"))
        run = executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1")
        await cancel_at_work(run, worker.begun)
        assert not await lock_is_free(database, "orders-1")
        worker.enough.set()
        await until_free(database, "orders-1")
        assert worker.thread.startswith("chosen")


class UntoldLoop(asyncio.SelectorEventLoop):
    """A loop that does not tell its default executor, as uvloop's."""

    _chosen: Any = None
    _closing = False

    def __getattribute__(self, name: str) -> Any:
        if name == "_default_executor" and not self._closing:
            raise AttributeError(name)
        return super().__getattribute__(name)

    def close(self) -> None:
        self._closing = True  # the base class asks for it here
        super().close()

    def set_default_executor(self, executor: Any) -> None:
        self._chosen = executor

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        if executor is None and self._chosen is None:
            self._chosen = ThreadPoolExecutor()
        return super().run_in_executor(executor or self._chosen, func, *args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        if self._chosen is not None:
            self._chosen.shutdown(wait=True)


def test_a_cancelled_run_keeps_its_lock_beside_another_executor_of_a_loop_that_tells_nothing(database: str) -> None:
    worker = Worker(60)

    async def work() -> None:
        async with AsyncWorkflowExecutor(database) as executor, AsyncWorkflowExecutor(database) as other:
            await executor.run("orders", graph(), {"steps": []}, thread_id="orders-0")
            await other.run("orders", graph(), {"steps": []}, thread_id="orders-2")
            run = executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1")
            await cancel_at_work(run, worker.begun)
            assert not await lock_is_free(database, "orders-1")
            worker.enough.set()
            await until_free(database, "orders-1")

    with asyncio.Runner(loop_factory=UntoldLoop) as runner:
        runner.run(work())


async def test_a_thread_is_not_begun_again_while_a_cancelled_run_of_the_same_process_works(database: str) -> None:
    worker = Worker(60)
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        run = executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1")
        await cancel_at_work(run, worker.begun)
        with pytest.raises(WorkflowAlreadyRunningError, match="this process is running the thread already"):
            await executor.run("orders", graph(worker), None, thread_id="orders-1")
        worker.enough.set()
        await until_free(database, "orders-1")
        found = await executor.run("orders", graph(worker), None, thread_id="orders-1")
    assert (found["steps"], worker.most) == (["one", "middle", "two"], 1)


async def test_a_run_whose_node_still_works_can_be_cancelled_for_good(database: str) -> None:
    worker = Worker(1.5)
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        run = executor.run("orders", graph(worker), {"steps": []}, thread_id="orders-1")
        await cancel_at_work(run, worker.begun)
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
    monkeypatch.setattr("resumed.library.runs.coordinator._RELEASE_PATIENCE", timedelta(seconds=2))
    begun, done = threading.Event(), threading.Event()

    def slow(_: State) -> State:
        begun.set()
        done.wait(seconds)
        return {}

    began = time.monotonic()
    async with AsyncWorkflowExecutor(database) as executor:
        await cancel_at_work(executor.run("orders", graph(slow), {"steps": []}, thread_id="orders-1"), begun)
    assert time.monotonic() - began < 10
    done.set()
    assert rows(database)[0]["state"] == "open"
    assert await lock_is_free(database, "orders-1")


# -- what a run that returned has left


def asks_twice(state: State) -> State:
    answers = [str(interrupt("first?")), str(interrupt("second?"))]
    return {"said": " ".join(answers), "steps": [*state["steps"], "middle"]}


def stops_twice() -> Any:
    """A graph below which a subgraph has two breakpoints; passing the first saves nothing at the root."""
    inner = StateGraph(State)
    inner.add_node("first", lambda _: {})
    inner.add_node("second", lambda _: {})
    inner.add_edge(START, "first")
    inner.add_edge("first", "second")
    inner.add_edge("second", END)
    return graph(inner.compile(interrupt_before=["first", "second"]))


async def each(executor: AsyncWorkflowExecutor, face: str, made: Any, *given: Any, **options: Any) -> None:
    for one in given:
        await called(executor, face, made, one, thread_id="orders-1", **options)


def states(dsn: str) -> list[str]:
    return [run["state"] for run in rows(dsn)]


@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("face", ["run", "stream"])
async def test_a_run_that_asks_again_waits_again(database: str, face: str, durability: Any) -> None:
    given = [{"steps": []}, None, Command(resume="a"), Command(resume="b")]
    async with AsyncWorkflowExecutor(database) as executor:
        await each(executor, face, graph(asks_twice), *given, durability=durability)
        saved = await executor.checkpointer.aget_tuple({"configurable": {"thread_id": "orders-1"}})
    assert states(database) == ["waiting"] * 3 + ["finished"]
    assert saved is not None
    assert saved.checkpoint["channel_values"]["said"] == "a b"


@pytest.mark.parametrize("face", ["run", "stream"])
def test_a_synchronous_run_that_asks_again_waits_again(database: str, face: str) -> None:
    with WorkflowExecutor(database) as executor:
        for given in ({"steps": []}, None, Command(resume="a"), Command(resume="b")):
            list(getattr(executor, face)("orders", graph(asks_twice), given, thread_id="orders-1"))
    assert states(database) == ["waiting"] * 3 + ["finished"]


async def test_a_run_that_comes_to_the_next_breakpoint_of_a_subgraph_waits(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        await each(executor, "run", stops_twice(), {"steps": []}, None, None)
    assert states(database) == ["waiting", "waiting", "finished"]


async def test_a_run_that_asks_where_a_person_has_edited_the_thread_waits(database: str) -> None:
    made = graph(asks_twice)
    async with AsyncWorkflowExecutor(database) as executor:
        await each(executor, "run", made, {"steps": []})
        edited = graph(asks_twice, checkpointer=executor.checkpointer)
        config: RunnableConfig = {"configurable": {"thread_id": "orders-1"}}
        await edited.aupdate_state(config, {"steps": ["edited"]}, as_node="one")
        await each(executor, "run", made, None)
    assert states(database) == ["waiting", "waiting"]


async def test_a_run_of_a_finished_thread_is_finished(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        await each(executor, "run", graph(), {"steps": []}, None)
    assert states(database) == ["finished", "finished"]


async def test_a_run_that_replays_a_question_waits(database: str) -> None:
    made = graph(asks_twice)
    async with AsyncWorkflowExecutor(database) as executor:
        await each(executor, "run", made, {"steps": []}, Command(resume="a"), Command(resume="b"))
        with psycopg.connect(database, autocommit=True) as connection:
            query = "select checkpoint_id from checkpoints where checkpoint_ns = '' and metadata->>'step' = '1'"
            (asked,) = connection.execute(query).fetchone() or ("",)
        config = {"configurable": {"thread_id": "orders-1", "checkpoint_id": asked}}
        await executor.run("orders", made, None, config=config)
    assert states(database)[-1] == "waiting"


async def test_a_session_that_is_busy_for_longer_than_a_run_waits_keeps_no_lock(
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
        (lock_session,) = executor._coordinator.lock_sessions  # noqa: SLF001 - nothing else makes its session busy for so long
        async with lock_session.turn:
            run.cancel()
            await asyncio.wait({run})
        await until_free(database, "orders-1")


async def test_a_value_whose_serialisation_never_ends_holds_up_no_other_run(database: str) -> None:
    Endless, inside, end = endless_value()  # noqa: N806 - a class

    async def hang(_: State) -> Any:
        return {"steps": [Endless()]}

    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        hanging = asyncio.create_task(executor.run("orders", graph(hang), {"steps": []}, thread_id="hanging"))
        try:
            await asyncio.to_thread(inside.wait)
            async with asyncio.timeout(30):
                done = await executor.run("orders", graph(), {"steps": []}, thread_id="other")
            assert done["steps"] == ["one", "middle", "two"]
            assert not hanging.done()
        finally:
            end.set()
        await asyncio.wait({hanging})
