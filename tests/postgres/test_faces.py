"""Graphs that can be called only one way are resumed that way, and nothing of them runs twice for it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call, wrap_tool_call
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode

from resumed.model import Outcome
from resumed.runtime.attempt import run_attempt
from resumed.runtime.graph_run import StopReason
from resumed.store import checkpoints, locks
from resumed.store.connection import Target, open_session
from resumed.workflows.loaded_workflow import load_workflow
from resumed.workflows.workflow import Workflow
from support.attempting import place_at, workflow_of

RAN: Counter[str] = Counter()


class Killed(BaseException):
    """What ends an application without a trace in its rows."""


@pytest.fixture(autouse=True)
def _nothing_has_run() -> Iterator[None]:
    RAN.clear()
    yield
    RAN.clear()


class State(TypedDict, total=False):
    messages: list[Any]
    seen: str


class Model(GenericFakeChatModel):
    def bind_tools(self, *_: Any, **__: Any) -> Any:
        return self


@tool
def pay(amount: int) -> str:
    """Pay."""
    RAN[f"pay {amount}"] += 1
    return "paid"


def calls(*amounts: int) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": one}, "id": str(one)} for one in amounts])


def agent(*middleware: Any, tools: Any = (pay,)) -> Any:
    return create_agent(
        Model(messages=iter([calls(1, 2), AIMessage("done")])), tools=list(tools), middleware=middleware
    )


@wrap_tool_call
def sync_tools(request: Any, handler: Any) -> Any:
    return handler(request)


@wrap_model_call
def sync_model(request: Any, handler: Any) -> Any:
    return handler(request)


@wrap_tool_call
async def async_tools(request: Any, handler: Any) -> Any:
    return await handler(request)


@wrap_model_call
async def async_model(request: Any, handler: Any) -> Any:
    return await handler(request)


def started(dsn: str, graph: Any, given: Any, thread: str = "x_1") -> None:
    """Leave a thread that died before its first node: its input is saved, and nothing has run."""
    with PostgresSaver.from_conn_string(dsn) as saver:
        at_input = graph.copy(update={"checkpointer": saver})
        for _ in at_input.stream(
            given, {"configurable": {"thread_id": thread}}, stream_mode="values", interrupt_before="*"
        ):
            pass


async def resumed(dsn: str, graph: Any, attempts: int = 1, name: str = "x") -> list[Any]:
    async with place_at(dsn) as place:
        workflow = workflow_of(name, graph)
        for _ in range(attempts):
            await place.attempt(workflow, f"{name}_1")
        return [(one.outcome, one.error_type) for one in await place.attempts(f"{name}_1")]


GRAPHS: dict[str, Callable[[], Any]] = {
    "sync-only tool middleware": lambda: agent(sync_tools),
    "sync-only model middleware": lambda: agent(sync_model),
    "both": lambda: agent(sync_model, sync_tools),
    "async-only tool middleware": lambda: agent(async_tools),
    "async-only model middleware": lambda: agent(async_model),
    "neither": agent,
}


@pytest.mark.parametrize("kind", GRAPHS)
async def test_an_agent_that_works_only_one_way_is_finished_in_one_attempt(database: str, kind: str) -> None:
    graph = GRAPHS[kind]()
    await asyncio.to_thread(started, database, graph, {"messages": [("user", "hi")]})
    assert await resumed(database, graph) == [(Outcome.FINISHED, None)]
    assert dict(RAN) == {"pay 1": 1, "pay 2": 1}


class OneWay(BaseTool):
    """A tool as the documentation shows one that cannot run asynchronously."""

    name: str = "pay"
    description: str = "Pay."

    def _run(self, amount: int) -> str:
        return str(pay.invoke({"amount": amount}))

    async def _arun(self, amount: int) -> str:
        raise NotImplementedError(f"{self.name} does not support async")


async def pay_later(amount: int) -> str:
    RAN[f"pay {amount}"] += 1
    return "paid"


LATER = StructuredTool.from_function(coroutine=pay_later, name="pay", description="Pay.")


@pytest.mark.parametrize("one_way", [OneWay(), LATER], ids=["sync-only", "async-only"])
async def test_a_tool_that_works_only_one_way_is_called_that_way(database: str, one_way: Any) -> None:
    graph = agent(tools=[one_way])
    await asyncio.to_thread(started, database, graph, {"messages": [("user", "hi")]})
    assert await resumed(database, graph) == [(Outcome.FINISHED, None)]
    assert dict(RAN) == {"pay 1": 1, "pay 2": 1}


def built(**nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


def step(name: str) -> Callable[[State], State]:
    def ran(_: State) -> State:
        RAN[name] += 1
        return {"seen": name}

    return ran


def later(name: str) -> Any:
    async def ran(_: State) -> State:
        RAN[name] += 1
        return {"seen": name}

    return ran


async def test_a_mixed_graph_is_run_by_both_faces_each_node_once(database: str) -> None:
    inner = agent(sync_tools)
    graph = built(one=step("one"), two=later("two"), ask=inner, three=later("three")).compile()
    await asyncio.to_thread(started, database, graph, {"messages": [("user", "hi")]})
    assert await resumed(database, graph) == [(Outcome.FINISHED, None)]
    assert dict(RAN) == {"one": 1, "two": 1, "three": 1, "pay 1": 1, "pay 2": 1}


class Refusing(RunnableLambda):  # type: ignore[type-arg]
    async def ainvoke(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def deed_then_refusal(_: State) -> State:
    RAN["deed"] += 1
    raise NotImplementedError("refunds come later")


async def later_deed_then_refusal(_: State) -> State:
    RAN["deed"] += 1
    raise NotImplementedError


async def calls_both(state: State) -> State:
    RAN["deed"] += 1
    return {"messages": (await agent(sync_tools).ainvoke(state))["messages"]}


def routed() -> Any:
    async def where(_: State) -> str:
        return END

    graph = StateGraph(State)
    graph.add_node("deed", step("deed"))
    graph.add_edge(START, "deed")
    graph.add_conditional_edges("deed", where)
    return graph


def two_tools() -> Any:
    class Refuses(BaseTool):
        name: str = "refuses"
        description: str = "Refuse."

        def _run(self) -> str:
            return "refused"

        async def _arun(self) -> str:
            raise NotImplementedError

    asked = [{"name": "pay", "args": {"amount": 1}, "id": "1"}, {"name": "refuses", "args": {}, "id": "2"}]
    return built(ask=lambda _: {"messages": [AIMessage("", tool_calls=asked)]}, tools=ToolNode([pay, Refuses()]))


DEEDS: dict[str, tuple[Callable[[], Any], str]] = {
    "a node that does something and raises it": (lambda: built(one=deed_then_refusal), "deed"),
    "an asynchronous one": (lambda: built(one=later_deed_then_refusal), "deed"),
    "a sequence of which the second step refuses": (
        lambda: built(one=RunnableLambda(step("deed")) | Refusing(step("other"))),
        "deed",
    ),
    "a node that calls an agent its own way": (lambda: built(one=calls_both), "deed"),
    "two tools of one node": (two_tools, "pay 1"),
}


@pytest.mark.parametrize("kind", DEEDS)
async def test_what_has_done_something_is_never_run_twice_in_an_attempt(database: str, kind: str) -> None:
    made, deed = DEEDS[kind]
    graph = made().compile()
    await asyncio.to_thread(started, database, graph, {"messages": [("user", "hi")]})
    ((outcome, error),) = await resumed(database, graph)
    assert (outcome, error) == (Outcome.FAILED, "NotImplementedError")
    assert RAN[deed] == 1


async def test_a_sibling_that_was_cut_short_is_not_run_again_in_the_same_attempt(database: str) -> None:
    async def slow(_: State) -> State:
        RAN["slow"] += 1
        await asyncio.sleep(60)
        return {}

    graph = StateGraph(State)
    for name, node in {"slow": slow, "refuses": Refusing(step("refuses"))}.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
    compiled = graph.compile()
    await asyncio.to_thread(started, database, compiled, {"messages": []})
    ((outcome, error),) = await resumed(database, compiled)
    assert (outcome, error) == (Outcome.FAILED, "NotImplementedError")
    assert dict(RAN) == {"slow": 1}


async def test_nor_is_one_beside_the_agent_of_an_inner_graph(database: str) -> None:
    async def slow(_: State) -> State:
        RAN["slow"] += 1
        await asyncio.sleep(60)
        return {}

    inner = StateGraph(State)
    for name, node in {"slow": slow, "refuses": Refusing(step("refuses"))}.items():
        inner.add_node(name, node)
        inner.add_edge(START, name)
    graph = built(inner=inner.compile()).compile()
    await asyncio.to_thread(started, database, graph, {"messages": []})
    assert await resumed(database, graph) == [(Outcome.FAILED, "NotImplementedError")]
    assert dict(RAN) == {"slow": 1}


@pytest.mark.parametrize("nested", [False, True])
async def test_a_sibling_that_has_finished_is_not_run_again_by_the_other_way(database: str, *, nested: bool) -> None:
    refusing = threading.Event()

    class Later(RunnableLambda):  # type: ignore[type-arg]
        def invoke(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    def slow(_: State) -> State:
        RAN["slow"] += 1
        refusing.wait(0.5)
        return {}

    graph = StateGraph(State)
    for name, node in {"slow": slow, "refuses": Later(step("sync"), afunc=later("refuses"))}.items():
        graph.add_node(name, RunnableLambda(node) if name == "slow" else node)
        graph.add_edge(START, name)
    graph.add_node("after", step("after"))
    graph.add_edge(["slow", "refuses"], "after")
    compiled = built(inner=graph.compile()).compile() if nested else graph.compile()
    workflow = load_workflow("x", Workflow(graph=compiled, face="sync"), compiled)
    assert workflow is not None
    await asyncio.to_thread(started, database, compiled, {"messages": []})
    async with place_at(database) as place:
        await place.attempt(workflow, "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.FINISHED]
    assert dict(RAN) == {"slow": 1, "refuses": 1, "after": 1}


async def test_a_router_that_works_only_one_way_does_not_run_its_node_twice(database: str) -> None:
    graph = routed().compile()
    await asyncio.to_thread(started, database, graph, {"messages": []})
    assert await resumed(database, graph) == [(Outcome.FINISHED, None)]
    assert dict(RAN) == {"deed": 1}


async def test_what_can_be_called_no_way_fails_once_an_attempt(database: str) -> None:
    class Neither(RunnableLambda):  # type: ignore[type-arg]
        def invoke(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        async def ainvoke(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    graph = built(one=step("one"), two=Neither(step("two"))).compile()
    await asyncio.to_thread(started, database, graph, {"messages": []})
    assert await resumed(database, graph, 2) == [(Outcome.FAILED, "NotImplementedError")] * 2
    assert dict(RAN) == {"one": 1}


async def test_the_registration_says_which_way(database: str) -> None:
    def here(_: State) -> State:
        return {"seen": threading.current_thread().name}

    async def there(_: State) -> State:
        raise RuntimeError("not this way")

    graph = built(one=RunnableLambda(here, afunc=there)).compile()
    await asyncio.to_thread(started, database, graph, {"messages": []})
    async with place_at(database) as place:
        workflow = load_workflow("x", Workflow(graph=graph, face="sync"), graph)
        assert workflow is not None
        await place.attempt(workflow, "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.FINISHED]
    with PostgresSaver.from_conn_string(database) as saver:
        state = graph.copy(update={"checkpointer": saver}).get_state({"configurable": {"thread_id": "x_1"}})
    assert state.values["seen"].startswith("resumed-node")


@pytest.mark.parametrize("ending", [StopReason.TIMED_OUT, StopReason.DRAINED])
async def test_a_synchronous_run_that_is_stopped_saves_nothing_more_and_keeps_its_lock(
    database: str, ending: StopReason
) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def slow(_: State) -> State:
        RAN["slow"] += 1
        began.set()
        goes_on.wait(60)
        return {"seen": "slow"}

    graph = built(slow=slow, after=step("after")).compile()
    await asyncio.to_thread(started, database, graph, {"messages": []})
    async with place_at(database) as place:
        workflow = load_workflow("x", Workflow(graph=graph, face="sync"), graph)
        assert workflow is not None
        request = place.request(workflow, "x_1")
        if ending is StopReason.TIMED_OUT:
            numbers = replace(request.registration.numbers, timeout=timedelta(seconds=1))
            request.registration = replace(request.registration, numbers=numbers)
        trying = asyncio.create_task(run_attempt(request, place.worker))
        await asyncio.to_thread(began.wait, 60)
        if ending is StopReason.DRAINED:
            request.stop.set()
        await asyncio.sleep(0)
        async with open_session(Target(database)) as session:
            while not any(one.outcome for one in await place.attempts("x_1")):
                assert "x_1" in await locks.held_threads(session, ["x_1"])
                await asyncio.sleep(0.1)
            before = await checkpoints.root_head(session, "x_1")
            assert not trying.done()
            goes_on.set()
            while place.worker.executor.busy("x_1"):
                await asyncio.sleep(0.05)
            assert await checkpoints.root_head(session, "x_1") == before
            assert "x_1" in await locks.held_threads(session, ["x_1"])
        (attempt,) = await place.attempts("x_1")
        assert attempt.outcome == ending.value
        trying.cancel()
    assert dict(RAN) == {"slow": 1}
