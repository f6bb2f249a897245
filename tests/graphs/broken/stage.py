"""What the flows share: whether this process is the application or runs after the deploy, faults, a death, a log."""

import operator
import os
import signal
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph

DEPLOYED = "BROKEN_DEPLOYED" in os.environ


class Seen(TypedDict):
    seen: Annotated[list[str], operator.add]


def die() -> None:
    """End as an application does that loses its machine; whoever resumes lives on."""
    if not DEPLOYED:
        os.kill(os.getpid(), signal.SIGKILL)


def fault(name: str) -> None:
    """Raise while a file of this name lies in BROKEN_FAULTS."""
    if (Path(os.environ["BROKEN_FAULTS"]) / name).exists():
        raise RuntimeError(f"the fault {name} is there")


def say(name: str) -> Any:
    return lambda _: {"seen": [name]}


def deadly(name: str) -> Any:
    def node(_: Any) -> dict[str, list[str]]:
        die()
        return {"seen": [name]}

    return node


def graph(schema: Any = Seen, *edges: Any, **nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    """Make a graph of nodes; an edge is a pair, the first edge begins at its first node."""
    made = StateGraph(schema)
    for name, node in nodes.items():
        made.add_node(name, node)
    made.add_edge(START, edges[0] if isinstance(edges[0], str) else edges[0][0])
    for edge in edges:
        if not isinstance(edge, str):
            made.add_edge(list(edge[0]) if isinstance(edge[0], tuple) else edge[0], edge[1])
    return made
