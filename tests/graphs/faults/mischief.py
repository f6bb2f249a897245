"""The deeds. Where the variable MISCHIEF is not set every one of them raises instead, and leaves a failed thread."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from zoo.graphs import Seen
from zoo.nodes import awork, sync_node

from resumed import Workflow

GIGABYTE = 2**30
HOURS = 10_000


def kill(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_: Any) -> None:
    time.sleep(HOURS)


def hoard(_: Any) -> None:
    hoarded = []
    for _ in range(256):
        hoarded.append(bytearray(GIGABYTE // 256))
        time.sleep(0.002)
    time.sleep(HOURS)


def leave(_: Any) -> None:
    os._exit(0)


def crash(_: Any) -> None:
    ctypes.string_at(0)


async def block(_: Any) -> None:
    if not os.environ.get("MISCHIEF"):
        raise RuntimeError("not yet")
    time.sleep(HOURS)


def later(deed: Callable[[Any], None]) -> Callable[[Any], None]:
    def node(state: Any) -> None:
        if not os.environ.get("MISCHIEF"):
            raise RuntimeError("not yet")
        deed(state)

    return node


async def work(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
    if not os.environ.get("MISCHIEF"):
        raise RuntimeError("not yet")
    await awork("second", config)
    return {"seen": ["second"]}


def _after_first(node: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("first", sync_node("first"))
    graph.add_node("second", node)
    graph.add_node("third", sync_node("third"))
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", "third")
    return graph


killing = _after_first(later(kill))
hanging = _after_first(later(hang))
hoarding = _after_first(later(hoard))
leaving = _after_first(later(leave))
crashing = _after_first(later(crash))
blocking = _after_first(block)
healthy = _after_first(work)


_HOARD: list[bytearray] = []


def leak(_: Any) -> dict[str, list[str]]:
    if not os.environ.get("MISCHIEF"):
        raise RuntimeError("not yet")
    _HOARD.append(bytearray(GIGABYTE // 16))
    return {"seen": ["second"]}


leaking = _after_first(leak)


class Marked(Seen):
    mark: Any


def mark(_: Any) -> dict[str, Any]:
    """Put into the state what the process that loads it will not survive."""
    from faults.deadly import Deadly  # noqa: PLC0415 - not before a state holds one

    return {"seen": ["first"], "mark": Deadly(1)}


def _marked() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Marked)
    graph.add_node("first", mark)
    graph.add_node("second", work)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    return graph


deadly = _marked()
isolated = Workflow(graph=healthy, isolate=True)
leaking_alone = Workflow(graph=leaking, isolate=True)

ALL: dict[str, Any] = {
    "killing": killing,
    "hanging": hanging,
    "hoarding": hoarding,
    "leaving": leaving,
    "crashing": crashing,
    "blocking": blocking,
    "healthy": healthy,
    "leaking": leaking,
    "deadly": deadly,
}
