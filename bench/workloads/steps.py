"""A graph of four steps that do next to nothing, or wait for BENCH_STEP_SECONDS each."""

import asyncio
import os
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

STEPS = ("a", "b", "c", "d")
SECONDS = float(os.environ.get("BENCH_STEP_SECONDS", "0"))


class State(TypedDict):
    steps: list[str]


def four_steps() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    before = START
    for name in STEPS:

        async def step(state: State, name: str = name) -> State:
            if SECONDS:
                await asyncio.sleep(SECONDS)
            return {"steps": [*state["steps"], name]}

        graph.add_node(name, step)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


four_steps_graph = four_steps()
