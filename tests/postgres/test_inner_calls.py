"""A node that calls inner graphs more than once: by a retry, a fallback or an error handler, or one after the other."""

import asyncio
import gc
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, StateGraph
from langgraph.pregel._loop import PregelLoop
from langgraph.types import Durability, RetryPolicy, Send

from resumed.model import Outcome, Verdict
from support.attempting import Place, chain, workflow_of

THREAD = "calls:1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"workflow": "calls"}}
TWICE: Any = RetryPolicy(max_attempts=2, initial_interval=0.01, jitter=False)


class State(TypedDict):
    told: Annotated[list[str], operator.add]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


class Fates:
    """What becomes of each call of a step, by its name: an exception to raise, or None; at last None for ever."""

    def __init__(self, **fates: list[Any]) -> None:
        self._fates = fates
        self.done: list[str] = []

    def step(self, name: str) -> Callable[[State], State]:
        def run(_: State) -> State:
            if (fates := self._fates.get(name)) and (fate := fates.pop(0)) is not None:
                raise fate
            self.done.append(name)
            return {"told": [name]}

        return run

    def inner(self, *names: str, **options: Any) -> Any:
        return chain(State, *((name, self.step(name)) for name in names)).compile(**options)


def calling(node: Any, **options: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    graph.add_node("call", node, **options)
    graph.add_node("end", lambda _: {"told": ["end"]})
    graph.add_edge(START, "call")
    graph.add_edge("call", "end")
    return graph


async def told(graph: Any, *values: str) -> list[str]:
    found: list[str] = (await graph.ainvoke({"told": list(values)}))["told"]
    return found


async def crashed(
    graph: StateGraph[Any, Any, Any, Any], saver: AsyncPostgresSaver, durability: Durability = "sync"
) -> None:
    with pytest.raises((Killed, ConnectionError)):
        await graph.compile(checkpointer=saver).ainvoke({"told": []}, CONFIG, durability=durability)


async def finished(graph: StateGraph[Any, Any, Any, Any], place: Place, saver: AsyncPostgresSaver) -> list[str]:
    """Have one attempt made that finishes, and return what the thread has in the end."""
    assert await place.attempt(workflow_of("calls", graph), THREAD) == "tried"
    assert [one.outcome for one in await place.attempts(THREAD)] == [Outcome.FINISHED], await place.reason(THREAD)
    found: list[str] = (await graph.compile(checkpointer=saver).aget_state(CONFIG)).values["told"]
    return found


@pytest.mark.parametrize("way", ["itself", "function"])
async def test_what_earlier_tries_of_a_node_have_left_is_not_missed(
    way: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    fates = Fates(b=[ConnectionError(), ConnectionError()])
    graphs = [fates.inner("a", "b")]

    async def call(_: State) -> State:
        return {"told": await told(graphs[0])}

    graph = calling(graphs[0] if way == "itself" else call, retry_policy=TWICE)
    await crashed(graph, saver)
    assert await finished(graph, place, saver) == ["a", "b", "end"]
    assert fates.done == ["a", "a", "b"]


@pytest.mark.parametrize("down", [1, 2])
async def test_a_fallback_is_not_missed_where_the_first_graph_succeeds(
    down: int, place: Place, saver: AsyncPostgresSaver
) -> None:
    fates = Fates(model=[ConnectionError()] * down, other=[Killed()])
    graphs = [fates.inner("prompt", "model"), fates.inner("prompt", "other")]

    async def call(_: State) -> State:
        try:
            return {"told": await told(graphs[0])}
        except ConnectionError:
            return {"told": await told(graphs[1])}

    graph = calling(call)
    await crashed(graph, saver)
    assert await finished(graph, place, saver) == ["prompt", "model" if down == 1 else "other", "end"]
    assert fates.done.count("prompt") == 2


@pytest.mark.parametrize("deep", [False, True], ids=["root", "subgraph"])
async def test_a_graph_that_has_failed_for_good_is_not_missed_beside_its_error_handler(
    deep: bool, place: Place, saver: AsyncPostgresSaver
) -> None:
    fates = Fates(b=[ConnectionError()], handler=[Killed()])
    handler = fates.step("handler")
    graph = calling(fates.inner("a", "b"), error_handler=lambda state, *_: handler(state))
    if deep:
        graph = chain(State, ("outer", graph.compile()))
    await crashed(graph, saver)
    assert await finished(graph, place, saver) == ["handler"]
    assert fates.done == ["a", "handler"]


@pytest.mark.parametrize("second", [[Killed()], []], ids=["in the second", "between"])
async def test_what_a_retry_has_left_is_not_taken_for_the_work_of_the_next_call(
    second: list[BaseException], place: Place, saver: AsyncPostgresSaver
) -> None:
    """LangGraph counts a node's calls: where a try failed in its first, the second finds what the retry did first."""
    fates = Fates(research=[ConnectionError()], write=second, between=[] if second else [Killed()])
    graphs, between = [fates.inner("research"), fates.inner("write")], fates.step("between")

    async def call(state: State) -> State:
        first = await told(graphs[0], "question")
        between(state)
        return {"told": await told(graphs[1], *first)}

    graph = calling(call, retry_policy=TWICE)
    await crashed(graph, saver)
    assert await place.attempt(workflow_of("calls", graph), THREAD) == "tried"
    assert [one.outcome for one in await place.attempts(THREAD)] == [Outcome.INCOMPATIBLE]
    verdict, reason = await place.reason(THREAD)
    assert verdict is Verdict.INCOMPATIBLE
    assert "for the work of another call" in reason


async def test_the_second_call_of_a_node_goes_on_with_its_own_work_after_a_retry(
    place: Place, saver: AsyncPostgresSaver
) -> None:
    fates = Fates(write=[ConnectionError(), Killed()])
    graphs = [fates.inner("research"), fates.inner("think", "write")]

    async def call(_: State) -> State:
        return {"told": [*await told(graphs[0]), *await told(graphs[1])]}

    graph = calling(call, retry_policy=TWICE)
    await crashed(graph, saver)
    assert await finished(graph, place, saver) == ["research", "think", "write", "end"]


async def test_graphs_that_a_node_calls_side_by_side_each_go_on(place: Place, saver: AsyncPostgresSaver) -> None:
    fates = Fates(two=[Killed()], b=[ConnectionError()])
    graphs = [fates.inner("one", "two"), fates.inner("a", "b")]

    async def call(_: State) -> State:
        first, second = await asyncio.gather(told(graphs[0]), told(graphs[1]), return_exceptions=True)
        for one in (first, second):
            if isinstance(one, BaseException):
                raise one
        return {"told": [*first, *second]}  # type: ignore[misc]

    graph = calling(call)
    await crashed(graph, saver)
    assert await finished(graph, place, saver) == ["one", "two", "a", "b", "end"]
    assert sorted(fates.done) == ["a", "b", "one", "two"]


@pytest.mark.parametrize("called", [True, False], ids=["called", "no longer called"])
async def test_a_node_that_no_longer_calls_what_it_had_begun_is_refused(
    called: bool, place: Place, saver: AsyncPostgresSaver
) -> None:
    fates = Fates(two=[Killed()])
    graphs = [fates.inner("one", "two")]

    async def call(_: State) -> State:
        return {"told": await told(graphs[0]) if graphs else []}

    graph = calling(call)
    await crashed(graph, saver)
    if not called:
        graphs.clear()
    assert await place.attempt(workflow_of("calls", graph), THREAD) == "tried"
    expected = Outcome.FINISHED if called else Outcome.INCOMPATIBLE
    assert [one.outcome for one in await place.attempts(THREAD)] == [expected]


@pytest.mark.parametrize("calls", [1, 2])
async def test_what_ran_below_a_graph_that_saves_nothing_is_left_aside_whichever_call_it_was(
    calls: int, place: Place, saver: AsyncPostgresSaver
) -> None:
    fates = Fates(b=[None] * (calls - 1) + [Killed()])
    graphs = [chain(State, ("inner", fates.inner("a", "b"))).compile(checkpointer=False)]

    async def call(_: State) -> State:
        return {"told": [*await told(graphs[0]), *await told(graphs[0])]}

    graph = calling(call)
    await crashed(graph, saver, durability="async")
    assert await finished(graph, place, saver) == ["a", "b", "a", "b", "end"]


async def test_an_attempt_keeps_no_loop_that_has_ended(place: Place, saver: AsyncPostgresSaver) -> None:
    """Each holds the whole state of its graph, and a long thread has thousands."""
    fates, kept = Fates(first=[Killed()]), []
    graphs, first = [fates.inner("a")], fates.step("first")

    async def call(state: State) -> State:
        first(state)
        for _ in range(20):
            await told(graphs[0])
        gc.collect()
        kept.append(sum(isinstance(one, PregelLoop) for one in gc.get_objects()))
        return {"told": ["call"]}

    graph = calling(call)
    await crashed(graph, saver)
    before = sum(isinstance(one, PregelLoop) for one in gc.get_objects())
    assert await finished(graph, place, saver) == ["call", "end"]
    assert kept[0] - before < 10


async def test_more_synchronous_nodes_than_threads_may_wait_for_their_inner_graphs(
    place: Place, saver: AsyncPostgresSaver
) -> None:
    """Each of them keeps its thread while its graph's checkpoint is loaded."""
    fates = Fates(start=[Killed()])
    inner = fates.inner("a")

    def call(state: State) -> State:
        return {"told": inner.invoke(state)["told"]}

    graph = StateGraph(State)
    graph.add_node("start", fates.step("start"))
    graph.add_node("call", call)
    graph.add_edge(START, "start")
    graph.add_conditional_edges("start", lambda _: [Send("call", {"told": []})] * 40, ["call"])
    await crashed(graph, saver)
    async with asyncio.timeout(60):
        assert await finished(graph, place, saver) == ["start", *["a"] * 40]
