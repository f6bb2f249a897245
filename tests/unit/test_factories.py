"""Registrations that are callables: given what they ask for, in a task of their own, their contexts open as long."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, TypedDict

import anyio
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel

from resumed import Workflow
from resumed.errors import RegistrationError
from resumed.workflows.factories import Factory
from resumed.workflows.factory_hosts import FactoryHost, HostPatience
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.loader import resolve

QUICK = HostPatience(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=40), closing=timedelta(seconds=10))
DEADLINE = 30


class Total(TypedDict):
    total: int


def builder() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Total)
    graph.add_node("add", lambda state: {"total": state["total"] + 1})
    graph.add_edge(START, "add")
    graph.add_edge("add", END)
    return graph


def plain(checkpointer: Any) -> Any:
    return builder().compile(checkpointer=checkpointer)


def uncompiled(checkpointer: Any) -> Any:
    return builder()


async def asynchronous(checkpointer: Any) -> Any:
    await asyncio.sleep(0)
    return plain(checkpointer)


def configured(config: Any) -> Any:
    assert config == {"configurable": {}}
    return plain(None)


def annotated(settings: RunnableConfig) -> Any:
    return configured(settings)


def bare() -> Any:
    return builder()


def generous(**given: Any) -> Any:
    return plain(given["checkpointer"])


def with_default(checkpointer: Any = None, color: str = "red") -> Any:
    assert checkpointer is not None
    return plain(checkpointer)


class Hosted:
    """A host, and what it said of its factory, in order; `lost` holds how many contexts ended by themselves."""

    def __init__(self, make: Any, patience: HostPatience = QUICK) -> None:
        factory = resolve("orders", make)
        assert isinstance(factory, Factory)
        self.said: list[LoadedWorkflow | str] = []
        self.lost: list[str] = []
        self._more = asyncio.Event()
        self.host = FactoryHost(factory, self._changed, self.lost.append, patience)
        self.host.start()

    def _changed(self, _: str, outcome: LoadedWorkflow | str) -> None:
        self.said.append(outcome)
        self._more.set()

    async def until(self, count: int) -> list[LoadedWorkflow | str]:
        """Wait until it has said so many things."""
        async with asyncio.timeout(DEADLINE):
            while len(self.said) < count:
                self._more.clear()
                await self._more.wait()
        return self.said


@asynccontextmanager
async def hosted(make: Any, patience: HostPatience = QUICK) -> AsyncIterator[Hosted]:
    made = Hosted(make, patience)
    yield made
    assert await made.host.end()


@pytest.mark.parametrize("make", [plain, uncompiled, asynchronous, configured, annotated, bare, generous, with_default])
async def test_every_form_of_callable_is_called_with_what_it_asks_for(make: Any) -> None:
    async with hosted(make) as made:
        workflow = (await made.until(1))[0]
        assert isinstance(workflow, LoadedWorkflow), workflow
        bound = workflow.bind(InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        assert await bound.ainvoke({"total": 1}, config) == {"total": 2}
        assert (await bound.aget_state(config)).values == {"total": 2}


async def test_a_policy_around_a_callable_is_kept() -> None:
    async with hosted(Workflow(graph=plain, version="7")) as made:
        workflow = (await made.until(1))[0]
    assert isinstance(workflow, LoadedWorkflow)
    assert workflow.policy.version == "7"


async def test_a_context_is_entered_and_left_in_one_task_or_one_thread() -> None:
    seen: dict[str, list[Any]] = {"async": [], "sync": []}
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    @asynccontextmanager
    async def asynchronous_one(checkpointer: Any) -> AsyncIterator[Any]:
        token = variable.set(1)
        seen["async"].append(asyncio.current_task())
        yield plain(checkpointer)
        seen["async"].append(asyncio.current_task())
        variable.reset(token)

    @contextmanager
    def synchronous_one(checkpointer: Any) -> Iterator[Any]:
        token = variable.set(1)
        seen["sync"].append(threading.get_ident())
        yield plain(checkpointer)
        seen["sync"].append(threading.get_ident())
        variable.reset(token)

    for make, name in ((asynchronous_one, "async"), (synchronous_one, "sync")):
        async with hosted(make) as made:
            workflow = (await made.until(1))[0]
            assert isinstance(workflow, LoadedWorkflow)
            assert isinstance(workflow.graph, Pregel)
            assert len(seen[name]) == 1
        assert len(seen[name]) == 2
        assert len(set(seen[name])) == 1
    assert not {asyncio.current_task(), threading.get_ident()} & {*seen["async"], *seen["sync"]}


async def test_a_context_whose_background_task_dies_is_told_before_it_closes_and_entered_again() -> None:
    told: list[str] = []
    gate = asyncio.Event()

    async def listen() -> None:
        await gate.wait()
        gate.clear()
        raise ConnectionError("the broker is gone, password=hunter2")

    @asynccontextmanager
    async def flaky(checkpointer: Any) -> AsyncIterator[Any]:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            try:
                yield plain(checkpointer)
            finally:
                told.append(f"closing, {len(made.lost)} lost")
                group.cancel_scope.cancel()

    async with hosted(flaky) as made:
        await made.until(1)
        gate.set()
        first, why, again = await made.until(3)
        assert isinstance(first, LoadedWorkflow)
        assert isinstance(again, LoadedWorkflow)
        assert str(why).startswith("its context ended by itself: ConnectionError at ")
        assert "test_factories.py" in str(why)
        assert "hunter2" not in str(why)
        assert (told, made.lost) == (["closing, 1 lost"], ["orders"])


async def test_a_context_that_only_closes_is_entered_again() -> None:
    gates: list[asyncio.Event] = []

    @asynccontextmanager
    async def closing(checkpointer: Any) -> AsyncIterator[Any]:
        gates.append(asyncio.Event())
        with anyio.CancelScope() as scope:
            closer = asyncio.ensure_future(gates[-1].wait())
            closer.add_done_callback(lambda _: scope.cancel())
            yield plain(checkpointer)

    async with hosted(closing) as made:
        await made.until(1)
        gates[0].set()
        assert (await made.until(3))[1] == "its context ended by itself: it closed"


async def test_a_server_that_comes_up_later_makes_its_workflow_available() -> None:
    calls: list[int] = []

    def late(checkpointer: Any) -> Any:
        calls.append(1)
        if len(calls) < 4:
            raise ConnectionRefusedError("nobody listens")
        return plain(checkpointer)

    async with hosted(late) as made:
        said = await made.until(4)
    assert [isinstance(one, LoadedWorkflow) for one in said] == [False, False, False, True]
    assert "ConnectionRefusedError at " in str(said[0])
    assert "nobody listens" in str(said[0])


def test_the_pauses_between_tries_double_up_to_a_cap() -> None:
    patience = HostPatience()
    assert [patience.pause(failures) for failures in (1, 2, 3, 6, 7, 900)] == [1, 2, 4, 32, 60, 60]


async def test_what_it_is_given_as_checkpointer_is_one_and_cannot_be_used() -> None:
    given: list[BaseCheckpointSaver[Any]] = []

    def make(checkpointer: BaseCheckpointSaver[Any]) -> Any:
        given.append(checkpointer)
        return plain(checkpointer)

    async with hosted(make) as made:
        await made.until(1)
    with pytest.raises(NotImplementedError):
        given[0].get_tuple({"configurable": {"thread_id": "1"}})


async def test_one_that_is_slow_is_told_and_taken_when_it_is_done() -> None:
    gate, called = threading.Event(), []

    def slow(checkpointer: Any) -> Any:
        called.append(1)
        gate.wait(DEADLINE)
        return plain(checkpointer)

    async with hosted(slow, HostPatience(slow=timedelta(milliseconds=20))) as made:
        assert "did not return within" in str((await made.until(1))[0])
        gate.set()
        assert isinstance((await made.until(2))[1], LoadedWorkflow)
    assert called == [1]


async def test_one_that_never_returns_is_given_up_and_called_again_where_it_can_be() -> None:
    cancelled: list[int] = []

    async def never(checkpointer: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    patience = HostPatience(
        slow=timedelta(milliseconds=5), given_up=timedelta(milliseconds=5), base=timedelta(milliseconds=5)
    )
    async with hosted(never, patience) as made:
        assert "CancelledError" in str((await made.until(4))[3])
        assert len(cancelled) == 2


@pytest.mark.parametrize("error", [ValueError("password=hunter2"), KeyboardInterrupt(), SystemExit(3)])
async def test_one_that_raises_is_unavailable_with_class_place_and_masked_message(error: BaseException) -> None:
    def make(checkpointer: Any) -> Any:
        raise error

    async with hosted(make) as made:
        said = str((await made.until(1))[0])
    assert said.startswith(f"{type(error).__name__} at ")
    assert "test_factories.py:" in said
    assert "hunter2" not in said


async def test_one_that_makes_no_graph_says_what_it_made() -> None:
    async with hosted(lambda **_: 5) as made:
        assert (await made.until(1))[0] == "its callable returned a int, not a graph"


async def test_a_breakpoint_that_its_graph_does_not_have_is_refused() -> None:
    async with hosted(Workflow(graph=plain, interrupt_before=["aprove"])) as made:
        assert "aprove" in str((await made.until(1))[0])


async def test_a_context_that_does_not_close_is_left_and_said_so() -> None:
    gate = asyncio.Event()

    @asynccontextmanager
    async def lasting(checkpointer: Any) -> AsyncIterator[Any]:
        yield plain(checkpointer)
        await gate.wait()

    made = Hosted(lasting, HostPatience(closing=timedelta(milliseconds=20)))
    await made.until(1)
    assert not await made.host.end()
    gate.set()


@pytest.mark.parametrize("make", [lambda database: database, lambda database, **_: database, lambda runtime: runtime])
def test_one_that_asks_for_more_is_refused_before_it_is_called(make: Any) -> None:
    with pytest.raises(RegistrationError, match=r"asks for (database|runtime)"):
        resolve("orders", make)
