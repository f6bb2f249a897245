"""Keeps and restores what a test's graph remembers outside its checkpoints: counters, lists, fake models, iterators.

LangGraph's tests count calls in variables of their own. A copy that is run on much later must find them as they were.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import CellType, FunctionType, GeneratorType, MethodType
from typing import Any
from unittest.mock import NonCallableMock

from langchain_core.runnables import Runnable
from langgraph.pregel import Pregel

Restore = Callable[[], None]
_MOST = 3000
_THEIRS = "tests."
_CONTAINERS = (list, dict, set, deque)


def snapshot(graph: Any) -> Restore:
    """Copy what the graph's functions refer to; the result puts it back, any number of times."""
    kept: list[Restore] = []
    met: dict[int, Any] = {}
    waiting: list[Any] = [graph]
    while waiting and len(met) < _MOST:
        one = waiting.pop()
        if id(one) in met or isinstance(one, NonCallableMock | type):
            continue
        met[id(one)] = one
        if (restore := _kept(one)) is not None:
            kept.append(restore)
        waiting.extend(_below(one))

    def restore_all() -> None:
        for restore in kept:
            restore()

    return restore_all


def _kept(one: Any) -> Restore | None:
    if isinstance(one, CellType):
        return _cell(one)
    if isinstance(one, _CONTAINERS) and type(one).__module__ in ("builtins", "collections"):
        return _container(one)
    if type(one).__module__.startswith(_THEIRS) and isinstance(getattr(one, "__dict__", None), dict):
        return _container(vars(one))
    return None


def _cell(cell: CellType) -> Restore | None:
    try:
        value = cell.cell_contents
    except ValueError:
        return None
    if not isinstance(value, Iterator) or isinstance(value, GeneratorType):
        return lambda: setattr(cell, "cell_contents", value)
    try:
        kept = copy.copy(value)
    except TypeError:
        return None
    return lambda: setattr(cell, "cell_contents", copy.copy(kept))


def _container(one: Any) -> Restore:
    kept = list(one.items()) if isinstance(one, dict) else list(one)

    def restore() -> None:
        one.clear()
        if isinstance(one, dict):
            dict.update(one, kept)
        elif isinstance(one, set):
            one.update(kept)
        else:
            one.extend(kept)

    return restore


def _below(one: Any) -> Iterator[Any]:
    match one:
        case Pregel():
            for node in one.nodes.values():
                yield from (node.bound, *node.writers, *(node.subgraphs or ()))
        case CellType():
            with suppress(ValueError):
                yield one.cell_contents
        case FunctionType():
            yield from one.__closure__ or ()
            if one.__module__.startswith(_THEIRS):
                yield from (one.__globals__[name] for name in one.__code__.co_names if name in one.__globals__)
        case MethodType():
            yield from (one.__func__, one.__self__)
        case partial():
            yield from (one.func, *one.args, *one.keywords.values())
        case _:
            yield from _held(one)


def _held(one: Any) -> list[Any]:
    if isinstance(one, dict):
        return list(one.values())
    if isinstance(one, list | tuple | set | deque):
        return list(one)
    known = isinstance(one, Runnable) or type(one).__module__.startswith((_THEIRS, "langgraph."))
    return list(getattr(one, "__dict__", {}).values()) if known else []
