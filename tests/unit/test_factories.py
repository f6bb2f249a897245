"""Registrations that are callables: called once, given what they ask for, their contexts open until the end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel

from resumed import Workflow
from resumed.errors import RegistrationError
from resumed.workflows.factories import Factory, opened
from resumed.workflows.loaded import LoadedWorkflow
from resumed.workflows.registry import resolve

PATIENCE = timedelta(seconds=10)


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


def bare() -> Any:
    return builder()


def generous(**given: Any) -> Any:
    return plain(given["checkpointer"])


def with_default(checkpointer: Any = None, color: str = "red") -> Any:
    assert checkpointer is not None
    return plain(checkpointer)


async def made(make: Any, contexts: AsyncExitStack, deadline: timedelta = PATIENCE) -> LoadedWorkflow | str:
    factory = resolve("orders", make)
    assert isinstance(factory, Factory)
    return await opened(factory, contexts, deadline)


@pytest.mark.parametrize("make", [plain, uncompiled, asynchronous, configured, bare, generous, with_default])
async def test_every_form_of_callable_is_called_with_what_it_asks_for(make: Any) -> None:
    async with AsyncExitStack() as contexts:
        workflow = await made(make, contexts)
        assert isinstance(workflow, LoadedWorkflow)
        bound = workflow.bind(InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        assert await bound.ainvoke({"total": 1}, config) == {"total": 2}
        assert (await bound.aget_state(config)).values == {"total": 2}


async def test_a_policy_around_a_callable_is_kept() -> None:
    async with AsyncExitStack() as contexts:
        workflow = await made(Workflow(graph=plain, version="7"), contexts)
    assert isinstance(workflow, LoadedWorkflow)
    assert workflow.policy.version == "7"


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_context_is_open_until_the_worker_ends(kind: str) -> None:
    said: list[str] = []

    @asynccontextmanager
    async def asynchronous(checkpointer: Any) -> AsyncIterator[Any]:
        said.append("entered")
        yield plain(checkpointer)
        said.append("left")

    @contextmanager
    def synchronous(checkpointer: Any) -> Iterator[Any]:
        said.append("entered")
        yield plain(checkpointer)
        said.append("left")

    async with AsyncExitStack() as contexts:
        workflow = await made(asynchronous if kind == "async" else synchronous, contexts)
        assert isinstance(workflow, LoadedWorkflow)
        assert isinstance(workflow.graph, Pregel)
        assert said == ["entered"]
    assert said == ["entered", "left"]


async def test_what_it_is_given_as_checkpointer_is_one_and_cannot_be_used() -> None:
    given: list[BaseCheckpointSaver[Any]] = []

    def make(checkpointer: BaseCheckpointSaver[Any]) -> Any:
        given.append(checkpointer)
        return plain(checkpointer)

    async with AsyncExitStack() as contexts:
        await made(make, contexts)
    with pytest.raises(NotImplementedError):
        given[0].get_tuple({"configurable": {"thread_id": "1"}})


async def test_one_that_does_not_return_is_given_up_and_harms_no_other() -> None:
    waiting = threading.Event()

    async def never(checkpointer: Any) -> Any:
        await asyncio.Event().wait()

    def blocks(checkpointer: Any) -> Any:
        waiting.wait()

    async with AsyncExitStack() as contexts:
        for make in (never, blocks):
            assert "did not return within" in str(await made(make, contexts, timedelta(milliseconds=50)))
        assert isinstance(await made(plain, contexts), LoadedWorkflow)
    waiting.set()


@pytest.mark.parametrize("error", [ValueError("password=hunter2"), SystemExit(3), KeyboardInterrupt()])
async def test_one_that_raises_is_unavailable_without_its_message(error: BaseException) -> None:
    def make(checkpointer: Any) -> Any:
        raise error

    async with AsyncExitStack() as contexts:
        assert await made(make, contexts) == f"its callable raised {type(error).__name__}"


async def test_one_that_makes_no_graph_says_what_it_made() -> None:
    async with AsyncExitStack() as contexts:
        assert await made(lambda **_: 5, contexts) == "its callable gave a int, not a graph"


async def test_a_breakpoint_that_its_graph_does_not_have_is_refused() -> None:
    async with AsyncExitStack() as contexts:
        said = await made(Workflow(graph=plain, interrupt_before=["aprove"]), contexts)
    assert "aprove" in str(said)


def test_one_that_asks_for_more_is_refused_before_it_is_called() -> None:
    with pytest.raises(RegistrationError, match="asks for database"):
        resolve("orders", lambda database: database)
