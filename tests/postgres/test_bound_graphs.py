"""A bound graph is called as any graph: its runs are registered, and what comes back is what it gives unbound."""

import asyncio
import copy
import gc
import json
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt

from postgres.test_executor import State, graph, lock_is_free, rows
from resumed.errors import ExecutorClosedError, WorkflowAlreadyRunningError
from resumed.library import event_loop
from resumed.library.executor import AsyncWorkflowExecutor
from resumed.library.sync_executor import WorkflowExecutor
from support.bench import GRAPHS
from support.waiting import eventually

if str(GRAPHS) not in sys.path:
    sys.path.insert(0, str(GRAPHS))

from zoo.app import compiled
from zoo.graphs import ALL, INPUTS

MODES = ["values", "updates", "messages", "custom", "checkpoints", "tasks", "debug"]
STAMPS = ("workflow", "resumed_run")
# Ids, times and versions differ from run to run.
VOLATILE = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[0-9a-f]{32}|\d{4}-\d\d-\d\dT[\d:.+]+|0\.\d{10,}"
)
TIMES = ("ZOO_DELAY", "0.001")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*TIMES)


def config(thread: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread, **more}}


def states(dsn: str) -> list[str]:
    return [run["state"] for run in rows(dsn)]


def shape(part: Any) -> str:
    """Write a part as text, without what differs from run to run and without a run's stamps."""
    return VOLATILE.sub("*", json.dumps(_without_stamps(part), default=repr, sort_keys=True)).replace(
        "bound_", "plain_"
    )


def _without_stamps(part: Any) -> Any:
    if isinstance(part, dict):
        kept = {str(name): _without_stamps(value) for name, value in part.items() if name not in STAMPS}
        if isinstance(kept.get("__interrupt__"), list):
            kept["__interrupt__"].sort(key=repr)  # of parallel branches
        return {name: value for name, value in kept.items() if name != "metadata" or value}
    return [_without_stamps(one) for one in part] if isinstance(part, list | tuple) else part


async def told(made: Any, given: Any, thread: str, **options: Any) -> tuple[list[str], str]:
    """Return the parts of a stream, in an order of their own, and what it raised."""
    found = []
    try:
        found += [shape(part) async for part in made.astream(given, config(thread), **options)]
    except Exception as error:  # noqa: BLE001 - it is compared
        return sorted(found), shape([type(error).__name__, str(error)])
    return sorted(found), ""


@pytest.mark.parametrize("name", sorted(ALL))
async def test_a_bound_graph_streams_what_it_streams_unbound(database: str, name: str) -> None:
    given = INPUTS.get(name, {"seen": []})
    async with AsyncWorkflowExecutor(database) as executor, AsyncPostgresSaver.from_conn_string(database) as saver:
        plain, bound = compiled(name, saver), executor.bind(name, compiled(name, None))
        for options in ({"stream_mode": MODES, "subgraphs": True, "durability": "sync"}, {}):
            ours = await told(bound, given, f"bound_{name}_{len(options)}", **options)
            assert ours == await told(plain, given, f"plain_{name}_{len(options)}", **options)
        assert await _returned(bound, given, f"bound_{name}") == await _returned(plain, given, f"plain_{name}")
    assert len(rows(database)) == 3


async def _returned(made: Any, given: Any, thread: str) -> str:
    try:
        return shape(await made.ainvoke(given, config(thread)))
    except Exception as error:  # noqa: BLE001 - it is compared
        return shape([type(error).__name__, str(error)])


async def events(made: Any, thread: str, version: Any) -> list[str]:
    async with aclosing(made.astream_events({"steps": []}, config(thread), version=version)) as stream:
        return [shape({k: v for k, v in one.items() if k != "metadata"}) async for one in stream]


@pytest.mark.filterwarnings("ignore:astream_events version='v1'")
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_events_are_those_of_the_graph_in_a_registered_run(database: str, version: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        bound, plain = executor.bind("orders", graph()), graph(checkpointer=InMemorySaver())
        assert await events(bound, "orders-1", version) == await events(plain, "orders-1", version)
    assert states(database) == ["finished"]


FACES = ["asynchronous", "synchronous"]


@pytest.mark.parametrize("face", FACES)
async def test_each_executor_binds_for_callers_of_both_kinds(database: str, face: str) -> None:
    made: Any = AsyncWorkflowExecutor(database) if face == "asynchronous" else WorkflowExecutor(database)
    bound = made.bind("orders", graph())
    if face == "asynchronous":
        await made.__aenter__()
    else:
        await asyncio.to_thread(made.__enter__)
    steps = {"steps": ["one", "middle", "two"]}
    try:
        assert await bound.ainvoke({"steps": []}, config("a")) == steps
        assert bound.invoke({"steps": []}, config("b")) == steps
        assert await asyncio.to_thread(bound.invoke, {"steps": []}, config("c")) == steps
        assert await bound.abatch([{"steps": []}] * 2, [config("d"), config("e")]) == [steps] * 2
        assert await asyncio.to_thread(bound.batch, [{"steps": []}] * 2, [config("f"), config("g")]) == [steps] * 2
        assert list(bound.stream({"steps": []}, config("h"), stream_mode="values"))[-1] == steps
    finally:
        if face == "asynchronous":
            await made.__aexit__()
        else:
            made.__exit__()
    assert states(database) == ["finished"] * 8
    with pytest.raises(RuntimeError, match="is not open"):
        await bound.ainvoke({"steps": []}, config("a"))
    with pytest.raises(RuntimeError, match="is not open"):
        bound.invoke({"steps": []}, config("a"))


def test_a_loop_for_each_call_leaves_no_sessions_behind(database: str) -> None:
    query = (
        "select count(*)::int as open from pg_stat_activity"
        " where datname = current_database() and backend_type = 'client backend'"
    )
    with WorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph())
        asyncio.run(bound.ainvoke({"steps": []}, config("orders-0")))  # what all of a process share stays
        before = rows(database, query)[0]["open"]
        for number in range(1, 4):
            asyncio.run(bound.ainvoke({"steps": []}, config(f"orders-{number}")))
        # Each executor has four and more; a pool that they share may still grow.
        eventually(lambda: rows(database, query)[0]["open"] < before + 4)
    assert states(database) == ["finished"] * 4


async def test_a_call_that_opens_while_its_executor_is_closed_is_told_so(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = asyncio.Event()

    async def opens(*_: Any) -> None:
        opening.set()
        await asyncio.Event().wait()

    executor = await asyncio.to_thread(WorkflowExecutor(database).__enter__)
    monkeypatch.setattr(AsyncWorkflowExecutor, "_open", opens)
    running = asyncio.create_task(executor.bind("orders", graph()).ainvoke({"steps": []}, config("orders-1")))
    await opening.wait()
    await asyncio.to_thread(executor.__exit__)
    with pytest.raises(ExecutorClosedError):
        await running


async def test_an_executor_closes_although_the_loop_of_a_caller_is_closed_at_that_moment(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: Any) -> None:
        raise RuntimeError("Event loop is closed")

    executor = await asyncio.to_thread(WorkflowExecutor(database).__enter__)
    await executor.bind("orders", graph()).ainvoke({"steps": []}, config("orders-1"))
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", closed)
        executor.__exit__()


async def test_an_executor_closes_while_synchronous_calls_have_all_threads_of_its_loop(database: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    begun, enough = threading.Event(), threading.Event()

    def turns(_: State) -> State:
        begun.set()
        return {}

    built = StateGraph(State)
    built.add_node("turns", turns)
    built.add_edge(START, "turns")
    built.add_conditional_edges("turns", lambda _: END if enough.is_set() else "turns")
    executor = await AsyncWorkflowExecutor(database).__aenter__()
    bound = executor.bind("orders", built.compile())
    call = partial(bound.invoke, {"steps": []}, {**config("orders-1"), "recursion_limit": 1_000_000})
    running = asyncio.create_task(asyncio.to_thread(call))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    closing = asyncio.create_task(executor.__aexit__())
    done, _ = await asyncio.wait({closing}, timeout=10)
    enough.set()
    await closing
    with pytest.raises(ExecutorClosedError):
        await running
    assert done
    assert states(database) == ["open"]


async def test_closing_waits_for_the_other_face_and_the_loop_does_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, enough, enter = threading.Event(), threading.Event(), WorkflowExecutor.__enter__
    told: list[bool] = []

    def slow(self: WorkflowExecutor) -> WorkflowExecutor:
        opening.set()
        told.append(enough.wait(5))
        return enter(self)

    monkeypatch.setattr(WorkflowExecutor, "__enter__", slow)
    async with AsyncWorkflowExecutor(database) as executor:
        calling = asyncio.create_task(asyncio.to_thread(executor.bind("o", graph()).invoke, {"steps": []}, config("o")))
        await asyncio.to_thread(opening.wait)
        asyncio.get_running_loop().call_later(0.1, enough.set)
    with suppress(ExecutorClosedError, RuntimeError):
        await calling
    assert told == [True]


def asks(_: State) -> State:
    return {"said": interrupt("which?")}


@pytest.mark.parametrize("own", [True, False], ids=["a checkpointer of its own", "none"])
async def test_a_thread_is_read_edited_and_answered_as_any_other(database: str, own: bool) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph(asks, checkpointer=executor.checkpointer if own else None))
        found = await bound.ainvoke({"steps": []}, config("orders-1"))
        assert [one.value for one in found["__interrupt__"]] == ["which?"]
        assert (await bound.aget_state(config("orders-1"))).next == ("middle",)
        await bound.ainvoke(Command(resume="this"), config("orders-1"))
        assert (await bound.aget_state(config("orders-1"))).values["said"] == "this"
        await bound.aupdate_state(config("orders-1"), {"said": "that"}, as_node="two")
        assert (await anext(bound.aget_state_history(config("orders-1")))).values["said"] == "that"
    assert states(database) == ["waiting", "finished"]


@pytest.mark.parametrize("own", [True, False], ids=["a checkpointer of its own", "none"])
async def test_without_a_thread_nothing_is_saved_and_nothing_is_registered(database: str, own: bool) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph(checkpointer=executor.checkpointer if own else None))
        assert (await bound.ainvoke({"steps": []}))["steps"] == ["one", "middle", "two"]
        assert [part async for part in bound.astream({"steps": []})][-1] == {"two": {"steps": ["one", "middle", "two"]}}
    assert rows(database) == rows(database, "select * from checkpoints") == []


async def test_a_thread_that_is_bound_to_the_graph_counts(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph()).with_config(configurable={"thread_id": "orders-9"})
        await bound.ainvoke({"steps": []})
        assert isinstance(bound, CompiledStateGraph)
    assert [run["thread_id"] for run in rows(database)] == ["orders-9"]


@pytest.mark.parametrize("face", FACES)
async def test_what_a_call_inherits_is_on_record_as_what_it_is_given(database: str, face: str) -> None:
    given: Any = {**config("orders-1", tenant="blue"), "metadata": {"version": "7"}, "recursion_limit": 77}
    async with AsyncWorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph())

        async def called(_: Any) -> Any:
            return await bound.ainvoke({"steps": []}) if face == "asynchronous" else bound.invoke({"steps": []})

        await RunnableLambda(called).ainvoke(None, given)
        if face == "asynchronous":
            await bound.ainvoke({"steps": []}, given)
        else:
            bound.invoke({"steps": []}, given)
    inherited, explicit = rows(database)
    assert inherited["version"] == "7"
    assert inherited["call"]["tenant"] == "blue"
    assert (inherited["version"], inherited["call"]) == (explicit["version"], explicit["call"])


@pytest.mark.parametrize("saved", [True, False], ids=["a supervisor that saves", "one that does not"])
async def test_a_bound_graph_inside_of_another_is_part_of_its_run(database: str, saved: bool) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        inner = executor.bind("inner", graph(checkpointer=executor.checkpointer))
        built = StateGraph(State)
        built.add_node("node", inner)
        built.add_node("called", lambda state: {"steps": inner.invoke(state)["steps"]})
        built.add_edge(START, "node")
        built.add_edge("node", "called")
        outer: Any = built.compile()
        outer = executor.bind("outer", outer) if saved else outer
        found = await outer.ainvoke({"steps": []}, config("outer-1"))
    assert found["steps"] == ["one", "middle", "two"] * 2
    assert [run["workflow"] for run in rows(database)] == (["outer"] if saved else [])


async def test_a_node_that_names_another_thread_begins_a_run_of_its_own(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        inner = executor.bind("inner", graph())

        async def node(_: State) -> Any:
            return {"steps": (await inner.ainvoke({"steps": []}, config("inner-1")))["steps"]}

        outer = executor.bind("outer", graph(node))
        await outer.ainvoke({"steps": []}, config("outer-1"))
    assert sorted((run["workflow"], run["thread_id"], run["state"]) for run in rows(database)) == [
        ("inner", "inner-1", "finished"),
        ("outer", "outer-1", "finished"),
    ]


async def test_one_thread_runs_once_at_a_time(database: str) -> None:
    begun, enough = asyncio.Event(), asyncio.Event()

    async def middle(state: State) -> Any:
        begun.set()
        await enough.wait()
        return {"steps": [*state["steps"], "middle"]}

    async with AsyncWorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph(middle))
        running = asyncio.create_task(bound.ainvoke({"steps": []}, config("orders-1")))
        await begun.wait()
        with pytest.raises(WorkflowAlreadyRunningError):
            await bound.ainvoke({"steps": []}, config("orders-1"))
        enough.set()
        assert (await running)["steps"] == ["one", "middle", "two"]


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_a_stream_that_is_left_gives_its_lock_back_and_stays_open(database: str, how: str) -> None:
    with WorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph())
        stream: Iterator[Any] = bound.stream({"steps": []}, config("orders-1"), stream_mode="updates")
        assert next(stream) == {"one": {"steps": ["one"]}}
        if how == "closed":
            stream.close()  # type: ignore[attr-defined]
        del stream
        assert asyncio.run(lock_is_free(database, "orders-1"))
    assert states(database) == ["open"]


def test_a_stream_that_the_collector_finds_in_the_librarys_own_thread_gives_its_lock_back(database: str) -> None:
    with WorkflowExecutor(database) as executor:
        for number, begin in enumerate(
            (executor.bind("orders", graph()).stream, partial(executor.stream, "orders", graph()))
        ):
            stream: Any = begin({"steps": []}, config=config(f"orders-{number}"))
            next(stream)
            forgotten = [stream]
            forgotten.append(forgotten)  # as an exception and its traceback refer to each other
            del stream, forgotten
            collected = Future[int]()
            event_loop._LOOP.get_running().call_soon_threadsafe(lambda: collected.set_result(gc.collect()))  # noqa: B023, SLF001
            collected.result(10)
            eventually(lambda: asyncio.run(lock_is_free(database, f"orders-{number}")))  # noqa: B023
    assert states(database) == ["open"] * 2


def test_a_synchronous_call_in_a_node_that_the_library_awaits_is_refused(database: str) -> None:
    with WorkflowExecutor(database) as executor:
        inner = executor.bind("inner", graph())

        async def node(_: State) -> Any:
            return inner.invoke({"steps": []}, config("inner-1"))

        with pytest.raises(RuntimeError, match="by `ainvoke`"):
            executor.bind("outer", graph(node)).invoke({"steps": []}, config("outer-1"))
        assert inner.invoke({"steps": []}, config("inner-1"))["steps"] == ["one", "middle", "two"]
    assert states(database) == ["failed", "finished"]


async def test_a_cancelled_call_leaves_its_run_to_the_daemon(database: str) -> None:
    begun = asyncio.Event()

    async def middle(_: State) -> State:
        begun.set()
        await asyncio.Event().wait()
        return {}

    async with AsyncWorkflowExecutor(database) as executor:
        running = asyncio.create_task(executor.bind("orders", graph(middle)).ainvoke({"steps": []}, config("orders-1")))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await lock_is_free(database, "orders-1")
    assert states(database) == ["open"]


async def test_an_error_is_the_graphs_and_the_run_has_failed(database: str) -> None:
    def middle(_: State) -> State:
        raise KeyError("x")

    async with AsyncWorkflowExecutor(database) as executor:
        with pytest.raises(KeyError):
            await executor.bind("orders", graph(middle)).ainvoke({"steps": []}, config("orders-1"))
    assert states(database) == ["failed"]


def test_what_is_set_on_a_bound_graph_holds_for_its_runs_and_for_its_copies(database: str) -> None:
    plain = graph()
    executor = WorkflowExecutor(database)
    bound = executor.bind("orders", plain)
    bound.name = "renamed"
    assert (plain.name, bound.get_name(), copy.copy(bound).name) == ("renamed", "renamed", "renamed")
    other = copy.copy(bound)
    other.name = "other"
    assert (plain.name, other.name) == ("renamed", "other")
    assert isinstance(bound, Pregel)
    assert executor.bind("orders", bound).__class__ is bound.__class__
    assert bound.checkpointer is None
    with pytest.raises(TypeError, match="bind the graph where it is used"):
        pickle.dumps(bound)
    for wrong in (StateGraph(State), RunnableLambda(lambda it: it), None):
        with pytest.raises(TypeError):
            executor.bind("orders", wrong)  # type: ignore[type-var]


async def test_the_executor_runs_a_bound_graph_as_the_graph(database: str) -> None:
    async with AsyncWorkflowExecutor(database) as executor:
        bound = executor.bind("orders", graph())
        await executor.run("orders", bound, {"steps": []}, thread_id="orders-1")
        chained = bound | RunnableLambda(lambda found: len(found["steps"]))
        assert await chained.ainvoke({"steps": []}, config("orders-2")) == 3
    assert states(database) == ["finished"] * 2
