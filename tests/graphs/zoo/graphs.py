"""The workflows themselves; the final state of each is the same however often it was interrupted."""

import asyncio
import contextlib
import os
import time
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from zoo.nodes import async_node, awork, delay, log, sync_node, work


def collect(left: list[str], right: list[str]) -> list[str]:
    """Sorted, so that parallel branches leave the same state in any order."""
    return sorted([*left, *right])


class Seen(TypedDict):
    seen: Annotated[list[str], collect]


def _chain(make: Any, names: str) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    before = START
    for name in names:
        graph.add_node(name, make(name))
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


def _fan() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    for name in ("first", "left", "right", "last"):
        graph.add_node(name, async_node(name) if name == "left" else sync_node(name))
    graph.add_edge(START, "first")
    graph.add_edge("first", "left")
    graph.add_edge("first", "right")
    graph.add_edge(["left", "right"], "last")
    graph.add_edge("last", END)
    return graph


async def _worker(payload: dict[str, Any], config: RunnableConfig) -> dict[str, list[str]]:
    await awork(f"worker{payload['item']}", config)
    return {"seen": [f"worker{payload['item']}"]}


def _sends() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("plan", sync_node("plan"))
    graph.add_node("worker", _worker)
    graph.add_node("reduce", sync_node("reduce"))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("worker", {"item": item}) for item in range(4)], ["worker"])
    graph.add_edge("worker", "reduce")
    graph.add_edge("reduce", END)
    return graph


def _nested(inner: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("before", sync_node("before"))
    graph.add_node("inner", inner)
    graph.add_node("after", sync_node("after"))
    graph.add_edge(START, "before")
    graph.add_edge("before", "inner")
    graph.add_edge("inner", "after")
    graph.add_edge("after", END)
    return graph


def _ask(name: str, questions: int = 1) -> Any:
    def ask(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        work(name, config)
        return {"seen": [f"{name} {interrupt(f'{name} {number}')}" for number in range(questions)]}

    return ask


def _asking(ask: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("first", sync_node("first"))
    graph.add_node("ask", ask)
    graph.add_node("last", sync_node("last"))
    graph.add_edge(START, "first")
    graph.add_edge("first", "ask")
    graph.add_edge("ask", "last")
    graph.add_edge("last", END)
    return graph


@task
def double(number: int, config: RunnableConfig) -> int:
    work(f"double{number}", config)
    return number * 2


def _asking_beside() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("left", _ask("left"))
    graph.add_node("right", _ask("right"))
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    return graph


async def _stubborn(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
    """Go on however often it is cancelled."""
    log("stubborn", "start", config)
    until = time.monotonic() + delay()
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(max(until - time.monotonic(), 0))
    log("stubborn", "end", config)
    return {"seen": ["stubborn"]}


def _forking(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
    """Leave a child behind that has inherited everything, as `multiprocessing` does."""
    if not os.fork():
        time.sleep(20)
        os._exit(0)
    work("forked", config)
    return {"seen": ["forked"]}


def _after_first(name: str, node: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("first", sync_node("first"))
    graph.add_node(name, node)
    graph.add_edge(START, "first")
    graph.add_edge("first", name)
    return graph


@task
def ask_in_task(name: str, config: RunnableConfig) -> str:
    work(name, config)
    return f"{name} {interrupt(name)}"


@entrypoint()
def asking_function(_: Any) -> list[str]:
    return [ask_in_task("one").result(), ask_in_task("two").result()]


@entrypoint()
def functional(numbers: list[int]) -> int:
    return sum(one.result() for one in [double(number) for number in numbers])


linear = _chain(sync_node, "abcd")
alinear = _chain(async_node, "abcd")
fan = _fan()
sends = _sends()
nested = _nested(_chain(async_node, "xy").compile())
gated = _chain(sync_node, "abcd").compile(interrupt_before=["c"])
gated_after = _chain(sync_node, "abcd").compile(interrupt_after=["b"])
gated_inside = _nested(_chain(async_node, "xy").compile(interrupt_before=["y"]))
asking = _asking(_ask("ask"))
asking_twice = _asking(_ask("ask", 2))
asking_inside = _asking(_chain(_ask, "xy").compile())
asking_beside = _asking_beside()
stubborn = _after_first("stubborn", _stubborn)
forking = _after_first("forking", _forking)
fragile = _chain(lambda name: sync_node(f"fragile {name}"), "ab")

INPUTS: dict[str, Any] = {"functional": [1, 2, 3]}
ALL: dict[str, Any] = {
    "linear": linear,
    "alinear": alinear,
    "fan": fan,
    "sends": sends,
    "nested": nested,
    "functional": functional,
    "asking": asking,
    "asking_twice": asking_twice,
    "asking_inside": asking_inside,
    "asking_beside": asking_beside,
    "asking_function": asking_function,
    "fragile": fragile,
    "stubborn": stubborn,
    "forking": forking,
    "gated": gated,
    "gated_after": gated_after,
    "gated_inside": gated_inside,
}
