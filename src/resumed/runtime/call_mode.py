"""The two ways of running a graph, `invoke` and `ainvoke`: some nodes, tools and middleware can do only one.

It knows when a graph has refused one of them before anything ran, so that the other may be used instead.
"""

import asyncio
import dis
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from itertools import pairwise
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.constants import START
from langgraph.types import Command, PregelExecutableTask

from resumed.judge.pending_writes import CONTROL
from resumed.judge.verdict import ERROR
from resumed.runtime.langgraph_internals import (
    BINDING_CLASS,
    BINDING_MODULE,
    MIDDLEWARE_MODULE,
    NODE_CALLING_MODULES,
    RUNNABLE_MODULE,
    TOOL_MODULES,
    PregelLoop,
    calls_several_tools,
    is_after_function,
    is_xxh3_128_hexdigest,
    lacks_function,
    running_loops,
)
from resumed.workflows.loaded_workflow import Graph

# What may stand between the call of a node and what refuses it, and runs no user code before that.
_NOT_USER_CODE = (
    "asyncio",
    "concurrent.futures",
    "contextlib",
    *NODE_CALLING_MODULES,
    "resumed.runtime",
    "resumed.library",
)
_EFFECTS = (
    *("STORE_ATTR", "STORE_GLOBAL", "STORE_NAME", "STORE_SUBSCR", "STORE_SLICE", "STORE_DEREF", "DELETE_"),
    *("BEFORE_", "GET_AITER", "GET_AWAITABLE", "GET_ITER", "IMPORT_", "SEND"),
)


class CallMode(StrEnum):
    """How a graph is called: by `invoke` in a thread, or by `ainvoke` on the event loop."""

    SYNC = "sync"
    ASYNC = "async"

    @property
    def other(self) -> "CallMode":
        """The other mode."""
        return CallMode.ASYNC if self is CallMode.SYNC else CallMode.SYNC


_REFUSED_MODES: WeakKeyDictionary[Graph, CallMode] = WeakKeyDictionary()


def preferred_mode(graph: Graph) -> CallMode:
    """Return the mode to begin with where none is declared: `ainvoke`, unless this graph has refused that before."""
    return _REFUSED_MODES[graph].other if graph in _REFUSED_MODES else CallMode.ASYNC


def remember_refusal(graph: Graph, mode: CallMode) -> None:
    """Note that a graph refused this mode, so that the next attempt begins with the other one."""
    _REFUSED_MODES[graph] = mode


async def call_graph(
    mode: CallMode, graph: Graph, graph_input: Any, config: RunnableConfig, options: Mapping[str, Any]
) -> Any:
    """Run the graph and return what it returns.

    A synchronous run has a thread of the loop's default executor and continues there when this call is cancelled: the
    caller then asks its `control` to drain, and waits until the thread has ended.
    """
    if mode is CallMode.ASYNC:
        return await graph.ainvoke(graph_input, config, **options)
    return await asyncio.to_thread(partial(graph.invoke, graph_input, config, **options))


def is_mode_refused(error: BaseException) -> bool:
    """Return whether an error means that a node cannot be called this way, and that the other way repeats nothing.

    That holds where the call was refused before the node did anything, and each task beside it, in its graph and in
    those that called it, has saved what it did or was refused alike. A task that was cut short would run twice.
    """
    frames = _frames(error)
    if not _is_refusal(error):
        return False
    loops = running_loops(frames)
    alike = {task.name for task in _tasks(loops[-1]) if _was_refused(task)} if loops and _at_entry(frames) else set()
    if any(map(_would_repeat, loops)):
        return False
    return all(
        _was_refused(task) or _has_finished(task) or (loop is loops[-1] and task.name in alike)
        for loop in loops
        for task in _tasks(loop)
    )


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in walk_tb(error.__traceback__)]


def _tasks(loop: PregelLoop) -> list[PregelExecutableTask]:
    return list(getattr(loop, "tasks", {}).values())


def _would_repeat(loop: PregelLoop) -> bool:
    """Return whether a graph that saves nothing has done something: called again, it begins from the start."""
    first = 1 if START in loop.nodes else 0  # a StateGraph takes its input in a superstep of its own
    return loop.checkpointer is None and (loop.step > first or any(map(_has_finished, _tasks(loop))))


def _was_refused(task: PregelExecutableTask) -> bool:
    errors = [value for channel, value in task.writes if channel == ERROR]
    return bool(errors) and all(isinstance(error, BaseException) and _is_refusal(error) for error in errors)


def _has_finished(task: PregelExecutableTask) -> bool:
    channels = {channel for channel, _ in task.writes}
    return ERROR not in channels and not channels <= CONTROL


def _is_refusal(error: BaseException) -> bool:
    """Return whether the call of a node was refused before the node did anything.

    LangChain or LangGraph refuses it, or a function that does nothing but raise, as in a tool's `_arun`; and no other
    user code stands between that and the node.
    """
    frames = _frames(error)
    if not frames or any(map(_is_user_code, frames[:-1])):
        return False
    last = frames[-1]
    if isinstance(error, NotImplementedError):
        raises_only = not _is_user_code(last) or _only_raises(last.f_code)
        # Another tool of the same node may have run.
        return raises_only and (_at_entry(frames) or not any(map(calls_several_tools, frames)))
    # LangGraph raises this for a node without a synchronous function; the same line calls those that have one.
    return isinstance(error, TypeError) and lacks_function(last)


def _at_entry(frames: list[FrameType]) -> bool:
    """Return whether it is the node that refuses, whatever it is given, and not one of the tools that it calls."""
    names = [str(frame.f_globals.get("__name__")) for frame in frames]
    tools = any(name.startswith(TOOL_MODULES) for name in names)
    return not tools and (names[-1] == MIDDLEWARE_MODULE or RUNNABLE_MODULE in names[-2:])


def repeatable_input(given: Any, *, moved: bool) -> tuple[bool, Any]:
    """Return whether a run that was refused can be called again, and with which input; `moved`: it moved the head.

    A command that updates or sends has left rows on the head that it found, and could be applied twice. An answer that
    names no question may have been taken by an inner graph, where the head does not show it.
    """
    if moved:
        return True, None
    if not isinstance(given, Command):
        return True, given
    answers = given.resume
    named = isinstance(answers, Mapping) and all(isinstance(key, str) and is_xxh3_128_hexdigest(key) for key in answers)
    return not (given.update or given.goto or (answers is not None and not named)), given


def _is_user_code(frame: FrameType) -> bool:
    """Return whether a frame may run user code, or comes after it."""
    name = str(frame.f_globals.get("__name__"))
    if name == BINDING_MODULE:
        return not frame.f_code.co_qualname.startswith(BINDING_CLASS)
    return is_after_function(frame) or not f"{name}.".startswith(tuple(f"{module}." for module in _NOT_USER_CODE))


def _only_raises(code: CodeType) -> bool:
    """Return whether a function does nothing but raise: it raises the result of each call that it makes."""
    operations = [instruction.opname for instruction in dis.get_instructions(code)]
    # Python 3.12 ends each coroutine with a CALL_INTRINSIC_1, which calls nothing of the function's.
    called = [(name, after) for name, after in pairwise(operations) if not name.startswith("CALL_INTRINSIC")]
    calls = [name for name, after in called if name.startswith("CALL") and after != "RAISE_VARARGS"]
    effects = [name for name in operations if name.startswith(_EFFECTS)]
    return "NotImplementedError" in code.co_names and not calls and not effects
