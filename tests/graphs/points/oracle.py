"""What each flow comes to when nothing disturbs it: the state of the thread and the step of its last checkpoint."""

import asyncio
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from points.flows import FLOWS, Flow
from points.shapes import APPLICATION

CONFIG: Any = {"configurable": {"thread_id": "undisturbed"}}


@dataclass(frozen=True)
class End:
    """Where a thread stands: what its state is, and how many steps led there."""

    state: Any
    step: int


@dataclass(frozen=True)
class Story:
    """The ends of a flow.

    `before` is where the thread stood when the last input came, None where there was no thread; `without` what becomes
    of it if that input is never stored; `whole` what becomes of it with it.
    """

    before: End | None
    without: End | None
    whole: End


@cache
def story(name: str) -> Story:
    flow = FLOWS[name]
    if not flow.earlier:
        return Story(None, None, asyncio.run(_whole(flow))[1])
    before, whole = asyncio.run(_whole(flow))
    return Story(before, asyncio.run(_without(flow)), whole)


async def _whole(flow: Flow) -> tuple[End, End]:
    graph = await _earlier(flow)
    before = _end(graph)
    await graph.ainvoke(flow.given, CONFIG)
    return before, _end(graph)


async def _without(flow: Flow) -> End:
    graph = await _earlier(flow)
    await graph.ainvoke(None, CONFIG)
    return _end(graph)


async def _earlier(flow: Flow) -> Any:
    graph = flow.compiled(InMemorySaver())
    os.environ[APPLICATION] = "1"
    try:
        for given in flow.earlier:
            try:
                await graph.ainvoke(given, CONFIG, interrupt_before=flow.stops)
            except ValueError:
                continue
    finally:
        del os.environ[APPLICATION]
    return graph


def _end(graph: Any) -> End:
    snapshot = graph.get_state(CONFIG)
    return End(snapshot.values, (snapshot.metadata or {}).get("step", -2))
