"""An answer goes to the question that it was given for, whoever asks first when the task runs again."""

import asyncio
import operator
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.errors import GraphInterrupt
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt

from resumed.judge.verdict import NULL_TASK, RESUME
from resumed.model import Outcome, Verdict
from resumed.runtime.answer_delivery import OTHER_QUESTION, UNKNOWN_ORDER
from support.attempting import Place, workflow_of


class State(TypedDict):
    told: Annotated[list[str], operator.add]


class Order:
    """Lets two who ask run in the order that the test wants; `log` holds who was answered what."""

    def __init__(self) -> None:
        self.first = "a"
        self.log: list[tuple[str, str]] = []
        self.broken = False
        self._turn = asyncio.Event()
        self._held = threading.Event()

    def again(self, first: str) -> None:
        self.first = first
        self._turn, self._held = asyncio.Event(), threading.Event()

    def _told(self, name: str, question: str) -> str:
        answer = interrupt(question)
        self.log.append((name, answer))
        if self.broken:
            raise ConnectionError
        return f"{name}: {answer}"

    async def ask(self, name: str, question: str | None = None) -> str:
        if name != self.first:
            await self._turn.wait()
        try:
            return self._told(name, question or f"may {name}?")
        finally:
            self._turn.set()

    def ask_in_a_thread(self, name: str) -> str:
        if name != self.first:
            self._held.wait()
        try:
            return self._told(name, f"may {name}?")
        finally:
            self._held.set()


@pytest.fixture
def order() -> Order:
    return Order()


def of_one_node(node: Callable[..., Any], schema: Any = State) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(schema)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


def gathering(order: Order) -> Any:
    async def node(_: State) -> dict[str, list[str]]:
        return {"told": await asyncio.gather(order.ask("a"), order.ask("b"))}

    return of_one_node(node)


def threading_(order: Order) -> Any:
    def node(_: State) -> dict[str, list[str]]:
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(copy_context().run, order.ask_in_a_thread, name) for name in "ab"]
            return {"told": [one.result() for one in asked]}

    return of_one_node(node)


def with_tools(order: Order) -> Any:
    @tool
    async def a(why: str) -> str:
        """Do a."""
        return await order.ask("a")

    @tool
    async def b(why: str) -> str:
        """Do b."""
        return await order.ask("b")

    return of_one_node(ToolNode([a, b]), MessagesState)


def with_loops(order: Order) -> Any:
    """The node's own thread runs a loop, in which two ask."""

    def node(_: State) -> dict[str, list[str]]:
        async def both() -> list[str]:
            return await asyncio.gather(order.ask("a"), order.ask("b"))

        return {"told": asyncio.run(both())}

    return of_one_node(node)


def with_tasks(order: Order) -> Any:
    """Which call a task of the functional API stands for is known by its place only."""

    @task
    async def ask(name: str) -> str:
        return order._told(name, f"may {name}?")  # noqa: SLF001

    @entrypoint()
    async def flow(_: Any) -> list[str]:
        names = ["a", "b"] if order.first == "a" else ["b", "a"]
        return list(await asyncio.gather(*(ask(name) for name in names)))

    return flow


def inside(make: Callable[[Order], Any]) -> Callable[[Order], Any]:
    def outer(order: Order) -> Any:
        inner = make(order).compile()
        graph = StateGraph(State)
        graph.add_node("inner", inner)
        graph.add_edge(START, "inner")
        return graph

    return outer


SIDE_BY_SIDE = {
    "gather": gathering,
    "threads": threading_,
    "tools": with_tools,
    "loops": with_loops,
    "gather inside": inside(gathering),
    "threads inside": inside(threading_),
}
CALLS = [{"name": name, "args": {"why": "so"}, "id": f"call-{name}", "type": "tool_call"} for name in "ab"]
GIVEN = {"told": [], "messages": [AIMessage("", tool_calls=CALLS)]}


def config(name: str) -> Any:
    return {"configurable": {"thread_id": f"{name}:1"}, "metadata": {"workflow": name}}


def compiled(graph: Any, saver: Any) -> Any:
    if isinstance(graph, Pregel):
        return graph.copy(update={"checkpointer": saver})
    return graph.compile(checkpointer=saver)


async def run(dsn: str, graph: Any, given: Any) -> list[Any]:
    """Run it as its application would; gives the questions that the person sees. None runs nothing."""
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        app = compiled(graph, saver)
        if given is not None:
            await app.ainvoke(given, config("asking"), durability="sync")
        state = await app.aget_state(config("asking"))
        return [one.value for one in state.interrupts]


async def answered_and_killed(dsn: str, graph: Any, answer: str) -> None:
    """Store an answer as LangGraph does first of all; nothing has run since."""
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        head = await compiled(graph, saver).aget_state(config("asking"))
        await saver.aput_writes(head.config, [(RESUME, answer)], NULL_TASK)


async def held(place: Place, workflow: Any, said: str) -> None:
    assert await place.attempt(workflow, "asking:1") == "tried"
    assert {one.outcome for one in await place.attempts("asking:1")} == {Outcome.WAITING}
    assert await place.attempt(workflow, "asking:1") == "looked"
    assert await place.reason("asking:1") == (Verdict.WAITING, said)


@pytest.mark.parametrize("kind", SIDE_BY_SIDE)
async def test_an_answer_is_never_handed_to_another_who_asks_first(
    kind: str, database: str, place: Place, order: Order
) -> None:
    graph = SIDE_BY_SIDE[kind](order)
    workflow = workflow_of("asking", graph)
    assert await run(database, graph, GIVEN) == ["may a?"]
    await answered_and_killed(database, graph, "yes a")
    order.again("b")
    await held(place, workflow, OTHER_QUESTION)
    assert order.log == []
    order.again("a")  # the person comes back
    assert await run(database, graph, Command(resume="yes a")) == ["may b?"]
    order.again("a")
    assert await run(database, graph, Command(resume="yes b")) == []
    assert order.log == [("a", "yes a"), ("a", "yes a"), ("b", "yes b")]


@pytest.mark.parametrize("kind", SIDE_BY_SIDE)
async def test_an_answer_goes_on_where_its_question_is_asked_first_again(
    kind: str, database: str, place: Place, order: Order
) -> None:
    graph = SIDE_BY_SIDE[kind](order)
    workflow = workflow_of("asking", graph)
    assert await run(database, graph, GIVEN) == ["may a?"]
    await answered_and_killed(database, graph, "yes a")
    order.again("a")
    assert await place.attempt(workflow, "asking:1") == "tried"
    assert order.log == [("a", "yes a")]
    assert {one.outcome for one in await place.attempts("asking:1")} == {Outcome.WAITING}
    assert await run(database, graph, None) == ["may b?"]


@pytest.mark.parametrize("kind", SIDE_BY_SIDE)
async def test_the_first_of_two_answers_is_withheld_where_the_order_cannot_be_known(
    kind: str, database: str, place: Place, order: Order
) -> None:
    """LangGraph keeps only the last question; what the first answer was for, no row tells."""
    graph = SIDE_BY_SIDE[kind](order)
    workflow = workflow_of("asking", graph)
    await run(database, graph, GIVEN)
    order.again("a")
    assert await run(database, graph, Command(resume="yes a")) == ["may b?"]
    await answered_and_killed(database, graph, "yes b")
    order.log.clear()
    order.again("b")
    await held(place, workflow, UNKNOWN_ORDER)
    assert order.log == []


# Of what its tools raise a ToolNode makes a message: there is no failed task.
@pytest.mark.parametrize("kind", [one for one in SIDE_BY_SIDE if one != "tools"])
async def test_an_answer_that_a_failed_task_has_taken_is_not_handed_to_another(
    kind: str, database: str, place: Place, order: Order
) -> None:
    graph = SIDE_BY_SIDE[kind](order)
    workflow = workflow_of("asking", graph)
    await run(database, graph, GIVEN)
    order.again("a")
    order.broken = True
    with pytest.raises(ConnectionError):
        await run(database, graph, Command(resume="yes a"))
    order.broken = False
    order.log.clear()
    order.again("b")
    await held(place, workflow, OTHER_QUESTION)
    assert order.log == []


async def test_a_task_that_is_called_in_another_order_is_not_answered(
    database: str, place: Place, order: Order
) -> None:
    graph = with_tasks(order)
    workflow = workflow_of("asking", graph)
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        app, asked = compiled(graph, saver), []
        for given, broken in (("go", False), ("yes a", False), ("yes b", True)):
            order.broken = broken
            if given != "go":
                given = Command(resume={asked[0].id: given})  # noqa: PLW2901
            with pytest.raises(ConnectionError) if broken else nullcontext():
                said = await app.ainvoke(given, config("asking"), durability="sync")
                asked = said["__interrupt__"]
    assert order.log == [("a", "yes a"), ("b", "yes b")]
    order.broken = False
    order.log.clear()
    order.again("b")
    await held(place, workflow, OTHER_QUESTION)
    assert order.log == []


def told(order: Order, *questions: str) -> list[str]:
    return [order._told(one, one) for one in questions]  # noqa: SLF001


def in_a_node(order: Order) -> Any:
    return of_one_node(lambda _: {"told": told(order, "one", "two", "three")})


def in_an_async_node(order: Order) -> Any:
    async def node(_: State) -> dict[str, list[str]]:
        await asyncio.sleep(0)
        return {"told": told(order, "one", "two", "three")}

    return of_one_node(node)


def in_a_method(order: Order) -> Any:
    class Asker:
        def node(self, _: State) -> dict[str, list[str]]:
            return {"told": told(order, "one", "two", "three")}

    return of_one_node(Asker().node)


def in_a_callable(order: Order) -> Any:
    class Asker:
        async def __call__(self, _: State) -> dict[str, list[str]]:
            return {"told": told(order, "one", "two", "three")}

    return of_one_node(Asker())


def in_an_entrypoint(order: Order) -> Any:
    @entrypoint()
    def flow(_: Any) -> list[str]:
        return told(order, "one", "two", "three")

    return flow


def in_a_task(order: Order) -> Any:
    @task
    async def ask() -> list[str]:
        return told(order, "one", "two", "three")

    @entrypoint()
    async def flow(_: Any) -> list[str]:
        return await ask()

    return flow


ONE_BY_ONE = {
    "node": in_a_node,
    "async node": in_an_async_node,
    "method": in_a_method,
    "callable": in_a_callable,
    "entrypoint": in_an_entrypoint,
    "task": in_a_task,
    "inside": inside(in_a_node),
    "async inside": inside(in_an_async_node),
}


@pytest.mark.parametrize("kind", ONE_BY_ONE)
async def test_what_a_node_asks_one_after_the_other_waits_for_nobody_once_all_is_answered(
    kind: str, database: str, place: Place, order: Order
) -> None:
    graph = ONE_BY_ONE[kind](order)
    workflow = workflow_of("asking", graph)
    assert await run(database, graph, GIVEN) == ["one"]
    assert await run(database, graph, Command(resume="1")) == ["two"]
    assert await run(database, graph, Command(resume="2")) == ["three"]
    await answered_and_killed(database, graph, "3")
    order.log.clear()
    assert await place.attempt(workflow, "asking:1") == "tried"
    assert order.log == [("one", "1"), ("two", "2"), ("three", "3")]
    assert {one.outcome for one in await place.attempts("asking:1")} == {Outcome.FINISHED}


async def test_an_approval_is_not_passed_on_to_a_question_that_reads_otherwise(database: str, place: Place) -> None:
    amount = [500]
    graph = of_one_node(lambda _: {"told": [interrupt({"pay": amount[0]})]})
    workflow = workflow_of("asking", graph)
    assert await run(database, graph, GIVEN) == [{"pay": 500}]
    await answered_and_killed(database, graph, "approved")
    amount[0] = 900
    await held(place, workflow, OTHER_QUESTION)
    assert await run(database, graph, Command(resume="approved")) == []


class Plain:
    """A question's value without an equality of its own."""

    def __init__(self, text: str) -> None:
        self.text = text


async def test_a_node_that_lets_interrupts_pass_and_catches_all_else_gets_no_others_answer(
    database: str, place: Place
) -> None:
    asked = ["first"]

    def careful(_: State) -> dict[str, list[str]]:
        try:
            return {"told": [interrupt(asked[0])]}
        except GraphInterrupt:
            raise
        except Exception:  # noqa: BLE001 - as applications do
            return {"told": ["went wrong"]}

    graph = of_one_node(careful)
    workflow = workflow_of("asking", graph)
    await run(database, graph, GIVEN)
    await answered_and_killed(database, graph, "yes")
    asked[0] = "second"
    await held(place, workflow, OTHER_QUESTION)
    asked[0] = "first"
    assert await run(database, graph, Command(resume="yes")) == []
