"""Factories that take a config: called with what a thread's call stored, and shared only where that cannot differ."""

import asyncio
import copy
import json
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from langchain_core.runnables.config import ensure_config
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from resumed import Workflow
from resumed.errors import RegistrationError
from resumed.workflows.factories import Factory
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.loader import resolve
from resumed.workflows.recorded_config import ReadLog, config_for
from resumed.workflows.thread_graphs import ThreadGraphs

CALL = {"thread_id": "1", "tenant": "acme", "model": "large", "user_id": 7}


class Said(TypedDict):
    said: str


def graph_of(said: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Said)
    graph.add_node("say", lambda _: {"said": str(said() if callable(said) else said)})
    graph.add_edge(START, "say")
    return graph


def factory_of(make: Any, **policy: Any) -> Factory:
    found = resolve("orders", Workflow(graph=make, **policy))
    assert isinstance(found, Factory)
    return found


def nobody() -> None:
    raise AssertionError


async def said(workflow: LoadedWorkflow) -> str:
    return str((await workflow.graph.ainvoke({"said": ""}))["said"])


def by_tenant(config: Any) -> Any:
    return graph_of(config["configurable"].get("tenant", "nobody"))


# What is read


def everything(config: Any) -> None:
    dict(config["configurable"])


READS: dict[str, tuple[Callable[[Any], Any], set[str] | None]] = {
    "nothing": (lambda config: config.get("tags"), set()),
    "whether_there_is_any": (lambda config: config.get("configurable") or {}, set()),
    "item": (lambda config: config["configurable"]["tenant"], {"tenant"}),
    "get": (lambda config: config["configurable"].get("region", "eu"), {"region"}),
    "in": (lambda config: "tenant" in config["configurable"], {"tenant"}),
    "pop": (lambda config: config["configurable"].pop("model"), {"model"}),
    "setdefault": (lambda config: config["configurable"].setdefault("model", "small"), {"model"}),
    "metadata": (lambda config: config["metadata"]["user_id"], {"user_id"}),
    "thread": (lambda config: config["configurable"]["thread_id"], {"thread_id"}),
    "dict": (everything, None),
    "unpacked": (lambda config: {**config["configurable"]}, None),
    "keywords": (lambda config: dict(**config["configurable"]), None),
    "loop": (lambda config: [name for name in config["configurable"]], None),  # noqa: C416 - the loop is the point
    "items": (lambda config: list(config["configurable"].items()), None),
    "united": (lambda config: config["configurable"] | {"more": 1}, None),
    "united_on_the_right": (lambda config: {"more": 1} | config["configurable"], None),
    "updated": (lambda config: {}.update(config["configurable"]), None),
    "length": (lambda config: len(config["configurable"]), None),
    "compared": (lambda config: config["configurable"] == {}, None),
    "json": (lambda config: json.dumps(config["configurable"]), None),
    "deep_copy": (copy.deepcopy, None),
    "shallow_copy": (lambda config: copy.copy(config["configurable"]).get("tenant"), None),
    "pickle": (lambda config: pickle.dumps(config["configurable"]), None),
    "text": (lambda config: str(config["configurable"]), None),
}


@pytest.mark.parametrize("how", READS)
def test_what_a_factory_reads_is_noted_however_it_reads_it(how: str) -> None:
    read, names = READS[how]
    log = ReadLog()
    config = config_for(CALL, log)
    read(config)
    del config
    log.close()
    assert (None if log.everything else log.names) == names


def test_a_config_that_langchain_completes_is_noted_as_ever() -> None:
    log = ReadLog()
    completed = ensure_config(config_for(CALL, log))  # type: ignore[arg-type]  # a config in all but name
    assert completed["configurable"].get("tenant") == "acme"
    del completed
    log.close()
    assert "tenant" in log.names
    assert not log.everything


def test_a_config_that_outlives_its_call_counts_as_read_entirely() -> None:
    log = ReadLog()
    kept = [config_for(CALL, log)["configurable"]]
    log.close()
    assert log.everything
    assert kept


def test_values_of_other_types_are_other_values() -> None:
    log = ReadLog()
    config_for(CALL, log)["configurable"].get("dry")
    assert len({log.key({"dry": value}) for value in (True, 1, 1.0, "1", "True", None)}) == 6


# Which graph a thread is given


async def test_each_tenant_is_given_its_own_graph_and_threads_of_one_share_it() -> None:
    made: list[LoadedWorkflow] = []
    orders = ThreadGraphs(factory_of(by_tenant), made.append)
    for tenant, thread in (("acme", "1"), ("globex", "2"), ("acme", "3")):
        async with orders.borrow({"tenant": tenant, "thread_id": thread}, nobody) as workflow:
            assert await said(workflow) == tenant
    async with orders.borrow({"thread_id": "4"}, nobody) as workflow:
        assert await said(workflow) == "nobody"
    assert len(made) == 3
    assert await orders.end()


async def test_a_node_that_reads_the_config_later_never_sees_another_threads() -> None:
    def make(config: Any) -> Any:
        return graph_of(lambda: config["configurable"]["tenant"])

    orders = ThreadGraphs(factory_of(make))
    for tenant in ("acme", "globex"):
        async with orders.borrow({"tenant": tenant, "thread_id": tenant}, nobody) as workflow:
            assert await said(workflow) == tenant
    assert await orders.end()


async def test_only_so_many_graphs_are_kept_and_what_is_used_is_never_closed() -> None:
    open_now: list[str] = []

    @asynccontextmanager
    async def make(tenant: str) -> AsyncIterator[Any]:
        open_now.append(tenant)
        yield graph_of(tenant)
        open_now.remove(tenant)

    def called(config: Any) -> Any:
        return make(config["configurable"]["tenant"])

    orders = ThreadGraphs(factory_of(called), cache_size=2)
    async with AsyncExitStack() as stack:
        used = await stack.enter_async_context(orders.borrow({"tenant": "used"}, nobody))
        for number in range(5):
            async with orders.borrow({"tenant": str(number)}, nobody):
                assert {"used", str(number)} <= set(open_now)
        assert await said(used) == "used"
        await settled(lambda: len(open_now) <= 2)
        assert "used" in open_now
    assert await orders.end()
    assert open_now == []


async def test_a_context_that_holds_the_config_is_closed_once_its_thread_is_done() -> None:
    open_now: list[str] = []

    @asynccontextmanager
    async def make(config: Any) -> AsyncIterator[Any]:
        open_now.append(config["configurable"]["tenant"])
        yield graph_of("any")
        open_now.pop()

    orders = ThreadGraphs(factory_of(make))
    async with orders.borrow({"tenant": "acme"}, nobody):
        assert open_now == ["acme"]
    await settled(lambda: not open_now)
    assert await orders.end()


async def test_who_uses_a_graph_is_told_that_its_context_ends() -> None:
    gate, lost = asyncio.Event(), asyncio.Event()

    async def listen() -> None:
        await gate.wait()
        raise ConnectionError("gone")

    @asynccontextmanager
    async def make(config: Any) -> AsyncIterator[Any]:
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            yield graph_of("any")

    orders = ThreadGraphs(factory_of(make))
    async with orders.borrow({"tenant": "acme"}, lost.set):
        gate.set()
        await asyncio.wait_for(lost.wait(), 30)
    gate.clear()
    async with orders.borrow({"tenant": "acme"}, nobody) as again:  # the next one is made anew
        assert await said(again) == "any"


@pytest.mark.parametrize("error", [KeyError("tenant"), SystemExit(1)])
async def test_what_a_factory_raises_for_one_thread_is_that_threads(error: BaseException) -> None:
    def make(config: Any) -> Any:
        if "tenant" not in config["configurable"]:
            raise error
        return graph_of("any")

    orders = ThreadGraphs(factory_of(make))
    with pytest.raises(RegistrationError if isinstance(error, SystemExit) else KeyError):
        async with orders.borrow({}, nobody):
            pass
    assert orders.reads
    async with orders.borrow({"tenant": "acme"}, nobody) as workflow:
        assert await said(workflow) == "any"
    assert await orders.end()


def test_a_registration_can_say_that_its_factory_needs_no_thread() -> None:
    assert factory_of(by_tenant).per_thread
    assert not factory_of(by_tenant, per_thread=False).per_thread
    assert not factory_of(lambda checkpointer: checkpointer).per_thread


async def settled(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not question():
            await asyncio.sleep(0)
