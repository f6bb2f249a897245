"""Registrations that do to their process what the world's do; each module is one, and `seen` the graph of most."""

import asyncio
import os
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph


class Seen(TypedDict):
    seen: Annotated[list[str], lambda before, more: [*before, *more]]


def graph(name: str = "only") -> StateGraph[Any, Any, Any, Any]:
    made = StateGraph(Seen)
    made.add_node(name, lambda _: {"seen": [name]})
    made.add_edge(START, name)
    return made


def two() -> StateGraph[Any, Any, Any, Any]:
    """A graph whose second node fails where MISCHIEF is not set, and takes a moment where it is."""

    async def second(_: Any) -> dict[str, list[str]]:
        if not os.environ.get("MISCHIEF"):
            raise RuntimeError("not yet")
        await asyncio.sleep(float(os.environ.get("SECOND_TAKES", "0.1")))
        return {"seen": ["second"]}

    made = StateGraph(Seen)
    made.add_node("first", lambda _: {"seen": ["first"]})
    made.add_node("second", second)
    made.add_edge(START, "first")
    made.add_edge("first", "second")
    return made
