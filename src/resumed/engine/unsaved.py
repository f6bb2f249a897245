"""Finds subgraphs that save nothing (`checkpointer=False`): LangGraph leaves them out of a graph's `get_subgraphs`."""

import inspect
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from langgraph.pregel import Pregel


def holds_unsaved(graph: Pregel[Any, Any, Any, Any]) -> bool:
    """Say whether a node of the graph, at any depth, is such a subgraph, or names one in the module of its code."""
    waiting: list[object] = [graph]
    met: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in met:
            continue
        met.add(id(one))
        if isinstance(one, Pregel) and one.checkpointer is False:
            return True
        waiting += _below(one)
    return False


def _below(one: object) -> Iterator[object]:
    match one:
        case Pregel():
            yield from (node.bound for node in one.nodes.values())
        case partial():
            yield one.func
        case MethodType():
            yield from (one.__func__, one.__self__)
        case FunctionType():
            yield from _named_in(one)
        case _:
            yield from (getattr(one, name, None) for name in ("func", "afunc", "bound", "__wrapped__"))
            steps = getattr(one, "steps", ())
            yield from steps if isinstance(steps, list | tuple) else ()
            yield from (value for value in getattr(one, "__dict__", {}).values() if isinstance(value, Pregel))


def _named_in(code: FunctionType) -> Iterator[object]:
    """Give what a function's code names; of functions only those of its own module, lest it leads everywhere."""
    try:
        named = inspect.getclosurevars(code)
    except ValueError:  # a variable of the closure that has no value yet
        return
    for one in (*named.nonlocals.values(), *named.globals.values()):
        if not isinstance(one, FunctionType) or one.__module__ == code.__module__:
            yield one
