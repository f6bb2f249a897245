"""Nodes that say under which span they run."""

import json
import os
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from opentelemetry import trace

from resumed import Workflow


class Told(TypedDict):
    told: str


def tell(node: str, config: RunnableConfig) -> None:
    context = trace.get_current_span().get_span_context()
    line = {
        "edge": "span",
        "node": node,
        "thread": config["configurable"]["thread_id"],
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "sampled": context.trace_flags.sampled,
    }
    descriptor = os.open(os.environ["ZOO_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, json.dumps(line).encode() + b"\n")
    os.close(descriptor)


def in_a_thread(_: Any, config: RunnableConfig) -> Told:
    tell("in_a_thread", config)
    return {"told": "in_a_thread"}


async def on_the_loop(_: Any, config: RunnableConfig) -> Told:
    tell("on_the_loop", config)
    return {"told": "on_the_loop"}


only_sync = StateGraph(Told).add_node(in_a_thread).add_edge(START, "in_a_thread")
telling_sync = Workflow(graph=only_sync, face="sync")
telling = StateGraph(Told).add_node(in_a_thread).add_node(on_the_loop)
telling.add_edge(START, "in_a_thread").add_edge("in_a_thread", "on_the_loop")
