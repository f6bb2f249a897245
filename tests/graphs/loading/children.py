"""Nodes that fork, and whose children come back into the code that called them, on the loop and beside it."""

import os
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from zoo.nodes import awork

from loading import Seen


async def on_the_loop(_: Any) -> dict[str, list[str]]:
    if not os.environ.get("MISCHIEF"):
        raise RuntimeError("not yet")
    os.fork()
    return {"seen": ["forked"]}


def beside_the_loop(_: Any) -> dict[str, list[str]]:
    os.fork()
    return {"seen": ["forked again"]}


async def count(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
    await awork("counted", config)
    return {"seen": ["counted"]}


seen = StateGraph(Seen)
for name, node in (("one", on_the_loop), ("two", beside_the_loop), ("three", count)):
    seen.add_node(name, node)
seen.add_edge(START, "one")
seen.add_edge("one", "two")
seen.add_edge("two", "three")
