"""A graph of four steps that do next to nothing, or wait for BENCH_STEP_SECONDS each.

With BENCH_STEP_LOG, a folder, each process writes there which step of which thread it ran.
"""

import asyncio
import os
from typing import Any, TypedDict

from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph

STEPS = ("a", "b", "c", "d")
SECONDS = float(os.environ.get("BENCH_STEP_SECONDS", "0"))
LOG = os.environ.get("BENCH_STEP_LOG")


class State(TypedDict):
    steps: list[str]


def log_step(name: str) -> None:
    assert LOG
    with open(os.path.join(LOG, str(os.getpid())), "a") as log:  # noqa: PTH118, PTH123 - it is timed
        log.write(f"{get_config()['configurable']['thread_id']} {name}\n")


def four_steps() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    before = START
    for name in STEPS:

        async def step(state: State, name: str = name) -> State:
            if SECONDS:
                await asyncio.sleep(SECONDS)
            if LOG:
                log_step(name)
            return {"steps": [*state["steps"], name]}

        graph.add_node(name, step)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


four_steps_graph = four_steps()
