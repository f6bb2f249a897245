"""Threads whose graph is made by a factory for what their call stored: the right graph, or none and another time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langgraph.channels import EphemeralValue, LastValue
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from typing_extensions import TypedDict

from resumed import Workflow
from resumed.errors import GraphNotMadeError
from resumed.judge.verdict import ANY_CHANNEL, Ages, Circumstances, judge_snapshot
from resumed.judge.workflow_match import WorkflowMatch
from resumed.library.executor import AsyncWorkflowExecutor
from resumed.model import Registration, Verdict
from resumed.runtime.context import AttemptRequest
from resumed.runtime.inspection import inspect_thread
from resumed.runtime.workflow_host import registration_of
from resumed.store import checkpoints
from resumed.store.connection import open_session
from resumed.workflows.factories import Factory
from resumed.workflows.loader import resolve
from resumed.workflows.thread_graphs import ThreadGraphs
from support.attempting import NUMBERS, Place, place_at


class Said(TypedDict):
    first: str
    second: str


def graph_of(tenant: str, *, fails: bool = False) -> StateGraph[Any, Any, Any, Any]:
    def second(_: Any) -> dict[str, str]:
        if fails:
            raise RuntimeError("not yet")
        return {"second": tenant}

    graph = StateGraph(Said)
    graph.add_node("first", lambda _: {"first": tenant})
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    return graph


def pregel(*, fails: bool = False) -> Pregel[Any, Any, Any, Any]:
    """Nothing but the graph knows that a value in `middle` starts a node."""

    def work(value: str) -> str:
        if fails:
            raise RuntimeError("not yet")
        return value + "b"

    first = NodeBuilder().subscribe_only("start").do(lambda value: value + "a").write_to("middle")
    second = NodeBuilder().subscribe_only("middle").do(work).write_to("end")
    channels = {"start": EphemeralValue(str), "middle": EphemeralValue(str), "end": LastValue(str)}
    return Pregel(
        nodes={"first": first, "second": second}, channels=channels, input_channels=["start"], output_channels=["end"]
    )


async def begun(dsn: str, graph: Any, thread: str, given: Any, **call: Any) -> None:
    """Run a thread in an application; what its node raises is left behind."""
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        bound = graph.copy(update={"checkpointer": saver}) if isinstance(graph, Pregel) else graph.compile(saver)
        config: Any = {"configurable": {"thread_id": thread, **call}}
        try:
            await bound.ainvoke(given, config, durability="sync")
        except RuntimeError as error:
            assert str(error) == "not yet"  # noqa: PT017 - whether it is raised depends on the graph


def made_by(make: Any) -> ThreadGraphs:
    found = resolve("orders", Workflow(graph=make))
    assert isinstance(found, Factory)
    return ThreadGraphs(found)


def registration() -> Registration:
    known = registration_of(_any(), NUMBERS)
    return Registration(
        known.name, known.version, known.accepts, (ANY_CHANNEL,), known.numbers, datetime.now(UTC), isolate=False
    )


def _any() -> Any:
    return resolve("orders", graph_of("any"))


def request(orders: ThreadGraphs, thread: str) -> AttemptRequest:
    return AttemptRequest(thread, orders, registration(), by_person=True)


async def attempted(place: Place, orders: ThreadGraphs, thread: str) -> str:
    from resumed.runtime.attempt import run_attempt  # noqa: PLC0415 - beside what it is for

    one = request(orders, thread)
    async with one.resources:
        return await run_attempt(one, place.worker)


async def values(dsn: str, graph: Any, thread: str) -> Any:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        bound = graph.copy(update={"checkpointer": saver}) if isinstance(graph, Pregel) else graph.compile(saver)
        return (await bound.aget_state({"configurable": {"thread_id": thread}})).values


async def judged(dsn_place: Place, thread: str) -> Verdict:
    async with open_session(dsn_place.worker.target) as session:
        snapshot = (await checkpoints.snapshots(session, [thread]))[thread]
    now = datetime.now(UTC) + timedelta(seconds=1)
    claim = WorkflowMatch("orders", (Registration(**{**_fields(registration()), "seen_at": now}),))
    return judge_snapshot(snapshot, Circumstances(now, claim, Ages(NUMBERS.min_age, NUMBERS.max_age))).verdict


def _fields(one: Registration) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Registration.__dataclass_fields__}


async def test_a_factory_is_given_what_the_call_stored_and_nothing_of_ours(database: str) -> None:
    given: list[Any] = []

    def make(config: Any) -> Any:
        given.append(dict(config.get("configurable") or {}))
        return graph_of("any")

    async with AsyncWorkflowExecutor(database) as executor:
        await executor.submit("orders", {"first": "", "second": ""}, thread_id="1")
    async with place_at(database) as place:
        assert await attempted(place, made_by(make), "1") != "looked"
    assert given[-1] == {"thread_id": "1"}


async def test_each_thread_is_finished_by_the_graph_of_its_own_tenant(database: str) -> None:
    orders = made_by(lambda config: graph_of(config["configurable"]["tenant"]))
    for thread, tenant in (("1", "acme"), ("2", "globex"), ("3", "acme")):
        await begun(database, graph_of(tenant, fails=True), thread, {"first": "", "second": ""}, tenant=tenant)
    async with place_at(database) as place:
        for thread, tenant in (("1", "acme"), ("2", "globex"), ("3", "acme")):
            assert await attempted(place, orders, thread) == "tried"
            assert await values(database, graph_of("any"), thread) == {"first": tenant, "second": tenant}
    assert await orders.end()


async def test_a_thread_for_which_the_factory_fails_is_not_charged_and_not_forgotten(database: str) -> None:
    up: list[int] = []

    def make(config: Any) -> Any:
        tenant = config["configurable"]["tenant"]
        if not up:
            raise ConnectionError(f"the database of {tenant} is down, password=hunter2")
        return graph_of(tenant)

    orders = made_by(make)
    await begun(database, graph_of("acme", fails=True), "1", {"first": "", "second": ""}, tenant="acme")
    async with place_at(database) as place:
        with pytest.raises(
            GraphNotMadeError, match=r"ConnectionError at .*test_per_thread.py:\d+: the database of"
        ) as e:
            await attempted(place, orders, "1")
        assert "hunter2" not in str(e.value)
        assert await place.attempts("1") == []
        asked = request(orders, "1")
        async with asked.resources:
            said = await inspect_thread(asked, place.worker)
        assert said is not None
        assert said.verdict is Verdict.FAILED
        assert "its factory fails for what the thread's call stored: ConnectionError" in said.reason
        up.append(1)
        assert await attempted(place, orders, "1") == "tried"
    assert await values(database, graph_of("any"), "1") == {"first": "acme", "second": "acme"}
    assert await orders.end()


async def test_no_thread_is_taken_for_finished_before_a_graph_has_told_its_triggers(database: str) -> None:
    orders = made_by(lambda config: (config["configurable"]["tenant"], pregel())[1])
    await begun(database, pregel(fails=True), "left", {"start": "x"}, tenant="acme")
    await begun(database, pregel(), "done", {"start": "x"}, tenant="acme")
    async with place_at(database) as place:
        assert [await judged(place, thread) for thread in ("left", "done")] == [Verdict.FAILED, Verdict.STOPPED]
        assert await attempted(place, orders, "done") == "looked"
        assert await place.attempts("done") == []
        assert await attempted(place, orders, "left") == "tried"
        assert (await place.attempts("left"))[0].outcome == "finished"
    assert (await values(database, pregel(), "left"))["end"] == "xab"
    assert await orders.end()
