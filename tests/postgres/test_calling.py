"""What `ainvoke` takes, `.run` takes; the synchronous executor runs graphs as its caller would, attempts likewise."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, interrupt
from psycopg.rows import dict_row
from pydantic import BaseModel

from postgres.test_faces import State, agent, async_model, built, sync_model, sync_tools
from resumed.errors import RunCancelledError
from resumed.library.executor import AsyncWorkflowExecutor
from resumed.library.sync_executor import WorkflowExecutor
from resumed.model import Outcome, Verdict
from support.attempting import place_at, workflow_of

RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_has_run() -> Iterator[None]:
    RAN.clear()
    yield
    RAN.clear()


class Killed(BaseException):
    """What ends an application in the middle of a node."""


def step(name: str) -> Any:
    def ran(_: State) -> State:
        RAN.append(name)
        return {"seen": name}

    return ran


def dying(name: str) -> Any:
    def ran(_: State) -> State:
        RAN.append(name)
        if RAN.count(name) == 1:
            raise Killed
        return {"seen": name}

    return ran


def runs(dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute("select * from resumed.runs order by begun_at").fetchall()


def sync_run(dsn: str, graph: Any, given: Any, **options: Any) -> Any:
    with WorkflowExecutor(dsn) as executor:
        return executor.run("x", graph, given, **options)


# -- the synchronous executor


def test_a_synchronous_run_is_called_in_its_callers_own_thread(database: str) -> None:
    def where(_: State) -> State:
        loop = asyncio.get_event_loop_policy().new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return {"seen": str(threading.get_ident())}

    with WorkflowExecutor(database) as executor:
        assert executor.run("x", built(one=where).compile(), {})["seen"] == str(threading.get_ident())
        parts = list(executor.stream("x", built(one=where).compile(), {}, stream_mode="updates"))
    assert parts == [{"one": {"seen": str(threading.get_ident())}}]
    assert [run["state"] for run in runs(database)] == ["finished", "finished"]


@pytest.mark.parametrize(
    "kind", [(sync_tools,), (sync_model,), (async_model,), ()], ids=["sync tools", "sync model", "async model", "none"]
)
@pytest.mark.parametrize("face", ["sync", "async"])
async def test_either_executor_runs_an_agent_that_works_only_one_way(database: str, face: str, kind: Any) -> None:
    given = {"messages": [("user", "hi")]}
    if face == "sync":
        found = await asyncio.to_thread(sync_run, database, agent(*kind), given)
    else:
        async with AsyncWorkflowExecutor(database) as executor:
            found = await executor.run("x", agent(*kind), given)
    assert found["messages"][-1].content == "done"
    assert [run["state"] for run in runs(database)] == ["finished"]


def test_a_synchronous_run_goes_on_with_nodes_that_can_only_be_awaited(database: str) -> None:
    async def awaited(_: State) -> State:
        RAN.append("two")
        return {"seen": "two"}

    graph = built(one=step("one"), two=awaited, three=step("three")).compile()
    assert sync_run(database, graph, {})["seen"] == "three"
    assert RAN == ["one", "two", "three"]
    with WorkflowExecutor(database) as executor:
        parts = list(executor.stream("x", graph, {}, stream_mode="updates"))
    assert [name for part in parts for name in part] == ["one", "two", "three"]


def asks(name: str) -> Any:
    def ran(_: State) -> State:
        return {"seen": f"{name}: {interrupt(name)}"}

    return ran


def asks_awaited(name: str) -> Any:
    async def ran(_: State) -> State:
        return {"seen": f"{name}: {interrupt(name)}"}

    return ran


def test_an_answer_is_not_given_again_to_the_question_of_a_node_that_can_only_be_awaited(database: str) -> None:
    graph = built(inner=built(read=asks("read"), delete=asks_awaited("delete")).compile()).compile()
    with WorkflowExecutor(database) as executor:
        executor.run("x", graph, {}, thread_id="x_1")
        with pytest.raises(TypeError, match="No synchronous function"):
            executor.run("x", graph, Command(resume="yes"), thread_id="x_1")
        saver = executor.checkpointer
        state = graph.copy(update={"checkpointer": saver}).get_state({"configurable": {"thread_id": "x_1"}})
    assert "seen" not in state.values


def test_an_answer_by_its_id_goes_on_to_a_node_that_can_only_be_awaited(database: str) -> None:
    graph = built(inner=built(read=asks("read"), delete=asks_awaited("delete")).compile()).compile()
    with WorkflowExecutor(database) as executor:
        (asked,) = executor.run("x", graph, {}, thread_id="x_1")["__interrupt__"]
        found = executor.run("x", graph, Command(resume={asked.id: "yes"}), thread_id="x_1")
    assert [one.value for one in found["__interrupt__"]] == ["delete"]


def test_what_a_graph_that_saves_nothing_has_done_is_not_done_again(database: str) -> None:
    async def awaited(_: State) -> State:
        return {"seen": "two"}

    inner = built(one=step("one"), two=awaited).compile(checkpointer=False)
    with pytest.raises(TypeError, match="No synchronous function"):
        sync_run(database, built(inner=inner).compile(), {})
    assert RAN == ["one"]
    first = built(two=awaited, one=step("one")).compile(checkpointer=False)
    assert sync_run(database, built(inner=first).compile(), {})["seen"] == "one"


def test_a_synchronous_run_that_is_interrupted_stays_open_and_one_that_raises_has_failed(database: str) -> None:
    with pytest.raises(Killed):
        sync_run(database, built(one=dying("one")).compile(), {}, thread_id="x_1")

    def fails(_: State) -> State:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        sync_run(database, built(one=fails).compile(), {}, thread_id="x_2")
    assert [run["state"] for run in runs(database)] == ["open", "failed"]
    assert sync_run(database, built(one=step("one")).compile(), None, thread_id="x_1")["seen"] == "one"


def test_a_synchronous_run_that_is_cancelled_saves_nothing_more(database: str) -> None:
    with WorkflowExecutor(database) as executor:

        def cancels(_: State) -> State:
            RAN.append("one")
            assert executor.cancel("x_1", "not wanted")
            return {"seen": "one"}

        with pytest.raises(RunCancelledError):
            executor.run("x", built(one=cancels, two=step("two")).compile(), {}, thread_id="x_1")
        head = executor.checkpointer.get_tuple({"configurable": {"thread_id": "x_1"}})
    assert RAN == ["one"]
    assert head is not None
    assert "seen" not in head.checkpoint["channel_values"]
    assert [run["state"] for run in runs(database)] == ["cancelled"]


class Counting(JsonPlusSerializer):
    loaded = 0

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        type(self).loaded += 1
        return super().dumps_typed(obj)


def test_the_synchronous_executor_takes_schema_sessions_and_serializer(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create schema apart")
    options = {"schema": "apart", "sessions": 1, "serde": Counting()}
    with WorkflowExecutor(database, **options) as executor:  # type: ignore[arg-type]
        executor.run("x", built(one=step("one")).compile(), {}, thread_id="x_1")
        saved = executor.checkpointer.get_tuple({"configurable": {"thread_id": "x_1"}})
    assert saved is not None
    assert saved.checkpoint["channel_values"]["seen"] == "one"
    assert Counting.loaded > 0
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("select count(*) from apart.checkpoints").fetchone() != (0,)
        assert connection.execute("select count(*) from public.checkpoints").fetchone() == (0,)


# -- what ainvoke takes


class Pydantic(BaseModel):
    seen: str = ""


async def test_state_comes_back_as_the_class_that_it_has(database: str) -> None:
    graph = StateGraph(Pydantic)
    graph.add_node("one", lambda _: {"seen": "one"})
    graph.add_edge(START, "one")
    compiled = graph.compile()
    async with AsyncWorkflowExecutor(database) as executor:
        parts = [one async for one in executor.astream("x", compiled, {}, stream_mode="values", version="v2")]
        assert [type(one["data"]) for one in parts] == [Pydantic] * len(parts)
        found = await executor.run("x", compiled, {}, version="v2")
    assert found.value == Pydantic(seen="one")


@pytest.mark.parametrize("thread", [7, uuid.UUID(int=7)])
async def test_a_threads_id_may_be_a_number_or_a_uuid_and_be_bound_to_the_graph(database: str, thread: Any) -> None:
    graph = built(one=step("one")).compile()
    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("x", graph, {}, thread_id=thread)
        await executor.run("x", graph, {}, config={"configurable": {"thread_id": thread}})
        await executor.run("x", graph.with_config(configurable={"thread_id": thread}), {})
        await executor.run("x", graph.bind().with_config(configurable={"thread_id": thread}), {})
        assert await executor.submit("x", {}, thread_id=thread) == str(thread)
        with pytest.raises(ValueError, match="two different threads"):
            await executor.run("x", graph, {}, thread_id=8, config={"configurable": {"thread_id": thread}})
        for wrong in (True, 1.5, ""):
            with pytest.raises(ValueError, match="a thread's id is"):
                await executor.run("x", graph, {}, thread_id=wrong)  # type: ignore[arg-type]
    assert {run["thread_id"] for run in runs(database)} == {str(thread)}


async def test_options_of_ainvoke_reach_the_graph(database: str) -> None:
    graph = built(one=step("one"), two=step("two")).compile()
    async with AsyncWorkflowExecutor(database) as executor:
        assert await executor.run("x", graph, {}, stream_mode="updates", durability="exit") == [
            {"one": {"seen": "one"}},
            {"two": {"seen": "two"}},
        ]
        control = RunControl()
        control.request_drain("a deploy")
        with pytest.raises(GraphDrained):
            await executor.run("x", graph, {}, thread_id="x_1", control=control)
    assert [run["state"] for run in runs(database)] == ["finished", "open"]


async def test_what_is_bound_to_the_graph_is_on_record_with_the_run(database: str) -> None:
    graph = (
        built(one=step("one"))
        .compile()
        .with_config({"recursion_limit": 12, "configurable": {"tenant": "acme"}, "metadata": {"version": "3"}})
    )
    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("x", graph.bind(interrupt_after=["one"]), {})
    (run,) = runs(database)
    assert run["version"] == "3"
    assert run["call"] == {
        "tenant": "acme",
        "__options": {"face": "async", "interrupt_after": ["one"], "recursion_limit": 12},
    }


# -- what attempts make of it


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("where", ["interrupt_before", "interrupt_after"])
async def test_a_breakpoint_of_the_call_is_not_passed_by_attempts(database: str, face: str, where: str) -> None:
    graph = built(one=dying("one"), two=step("two"), three=step("three")).compile()
    nodes = ["three"] if where == "interrupt_before" else ["two"]
    options: dict[str, Any] = {"thread_id": "x_1", where: nodes}
    with pytest.raises(Killed):
        await asyncio.to_thread(sync_run, database, graph, {}, **options)
    assert runs(database)[0]["state"] == "open"
    async with place_at(database) as place:
        workflow = workflow_of("x", graph)
        for _ in range(3):
            await place.attempt(workflow, "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.WAITING]
        assert (await place.reason("x_1"))[0] is Verdict.BREAKPOINT
    assert RAN == ["one", "one", "two"]
    assert runs(database)[0]["state"] == "waiting"
    if face == "sync":
        await asyncio.to_thread(sync_run, database, graph, None, thread_id="x_1")
    else:
        async with AsyncWorkflowExecutor(database) as executor:
            await executor.run("x", graph, None, thread_id="x_1")
    assert RAN == ["one", "one", "two", "three"]


@pytest.mark.parametrize("given", ["two", {"two"}, frozenset({"two"}), {"two": 1}.keys()], ids=repr)
async def test_a_breakpoint_of_the_call_is_kept_in_whatever_it_is_given(database: str, given: Any) -> None:
    graph = built(one=dying("one"), two=step("two")).compile()
    with pytest.raises(Killed):
        await asyncio.to_thread(sync_run, database, graph, {}, thread_id="x_1", interrupt_before=given)
    async with place_at(database) as place:
        await place.attempt(workflow_of("x", graph), "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.WAITING]
    assert RAN == ["one", "one"]


async def test_a_run_that_failed_does_not_say_how_its_graph_can_be_called(database: str) -> None:
    async def route(_: State) -> str:
        return "two"

    graph = built(one=step("one"))
    graph.add_node("two", step("two"))
    graph.add_conditional_edges("one", route, ["two", END])
    with pytest.raises(TypeError, match="No synchronous function"):
        await asyncio.to_thread(sync_run, database, graph.compile(), {}, thread_id="x_1")
    async with place_at(database) as place:
        await place.attempt(workflow_of("x", graph.compile()), "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.FINISHED]


async def test_a_run_that_waits_at_its_own_breakpoint_is_left_to_a_person(database: str) -> None:
    graph = built(one=step("one"), two=step("two")).compile()
    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("x", graph, {}, thread_id="x_1", interrupt_before="*")
        await executor.run("x", graph, None, thread_id="x_1", interrupt_before=["two"])
    async with place_at(database) as place:
        await place.attempt(workflow_of("x", graph), "x_1")
        assert await place.attempts("x_1") == []
    assert RAN == ["one"]


async def test_a_run_is_resumed_the_way_it_was_called(database: str) -> None:
    async def awaited(_: State) -> State:
        RAN.append("awaited")
        return {}

    called = step("called")
    graph = built(one=dying("one"), two=RunnableLambda(called, afunc=awaited)).compile()
    with pytest.raises(Killed):
        await asyncio.to_thread(sync_run, database, graph, {}, thread_id="x_1")
    async with place_at(database) as place:
        await place.attempt(workflow_of("x", graph), "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.FINISHED]
    assert RAN == ["one", "one", "called"]


async def test_a_synchronous_attempt_gives_an_answer_to_its_question(database: str) -> None:
    def asks(_: State) -> State:
        return {"seen": str(interrupt("well?"))}

    graph = built(ask=asks, two=dying("two")).compile()
    await asyncio.to_thread(sync_run, database, graph, {}, thread_id="x_1")
    with pytest.raises(Killed):
        await asyncio.to_thread(sync_run, database, graph, Command(resume="yes"), thread_id="x_1")
    async with place_at(database) as place:
        await place.attempt(workflow_of("x", graph), "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [Outcome.FINISHED]
    with PostgresSaver.from_conn_string(database) as saver:
        saved = saver.get_tuple({"configurable": {"thread_id": "x_1"}})
    assert saved is not None
    assert RAN == ["two", "two"]


def loop_of(steps: int) -> Any:
    def ran(_: State) -> State:
        RAN.append("loop")
        return {}

    graph = StateGraph(State)
    graph.add_node("loop", ran)
    graph.add_edge(START, "loop")
    graph.add_conditional_edges("loop", lambda _: "loop" if len(RAN) < steps else END)
    return graph.compile()


@pytest.mark.parametrize("inner", [False, True], ids=["the graph", "a subgraph"])
@pytest.mark.parametrize(("limit", "steps", "outcome"), [(1050, 1020, Outcome.FINISHED), (12, 40, Outcome.FAILED)])
async def test_the_limit_that_a_graph_binds_goes_before_ours(
    database: str, limit: int, steps: int, outcome: Outcome, *, inner: bool
) -> None:
    bound = loop_of(steps).with_config({"recursion_limit": limit})
    graph = built(inner=bound).compile() if inner else bound
    with PostgresSaver.from_conn_string(database) as saver:
        at_input = graph.copy(update={"checkpointer": saver})
        await asyncio.to_thread(
            at_input.invoke, {"seen": ""}, {"configurable": {"thread_id": "x_1"}}, interrupt_before="*"
        )
    RAN.clear()
    async with place_at(database) as place:
        await place.attempt(workflow_of("x", graph), "x_1")
        assert [one.outcome for one in await place.attempts("x_1")] == [outcome]
    assert len(RAN) == (steps if outcome is Outcome.FINISHED else min(len(RAN), limit + 2))
