"""Graphs that are bound where they are made, as an application's module does, and that the daemon loads as they are."""

import os
from typing import Any

from langgraph.graph import END, START, StateGraph
from zoo.graphs import Seen, alinear, linear
from zoo.nodes import async_node

from resumed import AsyncWorkflowExecutor

EXECUTOR = AsyncWorkflowExecutor(os.environ.get("BOUND_DSN", "postgresql://nobody@127.0.0.1:9/none"))


def _supervisor() -> Any:
    graph = StateGraph(Seen)
    graph.add_node("plan", async_node("plan"))
    graph.add_node("team", EXECUTOR.bind("alinear", alinear.compile()))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "team")
    graph.add_edge("team", END)
    return graph.compile()


served = EXECUTOR.bind("served", alinear.compile())
routed = EXECUTOR.bind("routed", alinear.compile())
told = EXECUTOR.bind("told", alinear.compile())
supervisor = EXECUTOR.bind("supervisor", _supervisor())
# Its executor belongs to the process that a task queue forks.
queued = linear.compile()
ALL = ("served", "routed", "told", "supervisor", "queued")
