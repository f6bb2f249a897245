"""Owns the two ways of running a graph, `invoke` and `ainvoke`: some nodes, tools and middleware can do only one.

It says when a graph has refused one of them before anything ran, so that the other may be taken instead.
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
from langgraph.pregel._loop import PregelLoop
from langgraph.pregel._utils import is_xxh3_128_hexdigest
from langgraph.types import Command, PregelExecutableTask

from resumed.judge.pending_writes import CONTROL
from resumed.judge.verdict import ERROR
from resumed.workflows.loaded_workflow import Graph

_MIDDLEWARE = "langchain.agents.middleware.types"
_RUNNABLE = "langgraph._internal._runnable"
# What may stand between the call of a node and what refuses it, and runs no code of the user before that.
_BETWEEN = (
    "asyncio",
    "concurrent.futures",
    "contextlib",
    "langchain.agents.factory",
    _MIDDLEWARE,
    "langchain_core.language_models",
    "langchain_core.runnables.config",
    "langchain_core.tools",
    _RUNNABLE,
    "langgraph.prebuilt.tool_node",
    "langgraph.pregel",
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
        """The other one."""
        return CallMode.ASYNC if self is CallMode.SYNC else CallMode.SYNC


_REFUSING: WeakKeyDictionary[Graph, CallMode] = WeakKeyDictionary()


def preferred_mode(graph: Graph) -> CallMode:
    """Return the face to begin with where nobody says one: `ainvoke`, unless this graph has refused that before."""
    return _REFUSING[graph].other if graph in _REFUSING else CallMode.ASYNC


def remember_mode(graph: Graph, face: CallMode) -> None:
    """Note that a graph refused this face: where the other one could not be taken at once, it is taken next time."""
    _REFUSING[graph] = face


async def call_graph(
    face: CallMode, graph: Graph, given: Any, config: RunnableConfig, options: Mapping[str, Any]
) -> Any:
    """Run the graph and return what it returns.

    A synchronous run has a thread of the loop's default executor. It goes on there when the call is cancelled: whoever
    cancels it asks its `control` to drain, and waits until the thread is done.
    """
    if face is CallMode.ASYNC:
        return await graph.ainvoke(given, config, **options)
    return await asyncio.to_thread(partial(graph.invoke, given, config, **options))


def refused_mode(error: BaseException) -> bool:
    """Return whether an error says that a node cannot be called this way, and that the other way repeats nothing.

    So it is where the node was refused before it did anything, and each task beside it, in its graph and in those that
    called it, has saved what it did or was refused alike. One that was cut short would run a second time.
    """
    frames = _frames(error)
    if not _refusal(error):
        return False
    loops = [loop for frame in frames if isinstance(loop := frame.f_locals.get("loop"), PregelLoop)]
    alike = {task.name for task in _tasks(loops[-1]) if _refusals(task)} if loops and _at_entry(frames) else set()
    if any(map(_would_repeat, loops)):
        return False
    return all(
        _refusals(task) or _finished(task) or (loop is loops[-1] and task.name in alike)
        for loop in loops
        for task in _tasks(loop)
    )


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in walk_tb(error.__traceback__)]


def _tasks(loop: PregelLoop) -> list[PregelExecutableTask]:
    return list(getattr(loop, "tasks", {}).values())


def _would_repeat(loop: PregelLoop) -> bool:
    """Return whether a graph that saves nothing has done something: called again, it begins anew."""
    first = 1 if START in loop.nodes else 0  # a StateGraph takes its input in a superstep of its own
    return loop.checkpointer is None and (loop.step > first or any(map(_finished, _tasks(loop))))


def _refusals(task: PregelExecutableTask) -> bool:
    raised = [value for channel, value in task.writes if channel == ERROR]
    return bool(raised) and all(isinstance(one, BaseException) and _refusal(one) for one in raised)


def _finished(task: PregelExecutableTask) -> bool:
    channels = {channel for channel, _ in task.writes}
    return ERROR not in channels and not channels <= CONTROL


def _refusal(error: BaseException) -> bool:
    """Return whether a node was refused before it did anything.

    Whoever refuses is LangChain or LangGraph, or a function that does nothing but raise, as in a tool's `_arun`; and
    no other code of the user's stands between it and the node.
    """
    frames = _frames(error)
    if not frames or not all(_between(frame) for frame in frames[:-1]):
        return False
    last = frames[-1]
    if isinstance(error, NotImplementedError):
        return (_between(last) or _only_raises(last.f_code)) and (_at_entry(frames) or not _several_tools(frames))
    # How LangGraph says that a node has no synchronous function; the same line calls those that have one.
    refusing = last.f_locals.get("self")
    own = last.f_globals.get("__name__") == _RUNNABLE
    return own and isinstance(error, TypeError) and getattr(refusing, "func", error) is None


def _at_entry(frames: list[FrameType]) -> bool:
    """Return whether it is the node that refuses, whatever it is given, and not one of the tools that it calls."""
    names = [str(frame.f_globals.get("__name__")) for frame in frames]
    tools = any(name.startswith("langchain_core.tools") for name in names)
    return not tools and (names[-1] == _MIDDLEWARE or names[-2:-1] == [_RUNNABLE] or names[-1] == _RUNNABLE)


def _several_tools(frames: list[FrameType]) -> bool:
    """Return whether another tool of the same node may have run."""
    calls = (frame.f_locals.get("tool_calls") for frame in frames)
    return any(isinstance(one, list) and len(one) > 1 for one in calls)


def repeatable_input(given: Any, *, moved: bool) -> tuple[bool, Any]:
    """Return whether a run that was refused can be called again, and with what; `moved` says whether it moved the head.

    A command that updates or sends has left rows on the head it found; to give it once more could apply it twice. An
    answer that names no question may have been taken inside, where the head does not show it.
    """
    if moved:
        return True, None
    if not isinstance(given, Command):
        return True, given
    return not (given.update or given.goto or _answers_whatever_asks(given)), given


def _answers_whatever_asks(given: Command[Any]) -> bool:
    answers = given.resume
    named = isinstance(answers, Mapping) and all(isinstance(one, str) and is_xxh3_128_hexdigest(one) for one in answers)
    return answers is not None and not named


def _between(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    if name == "langchain_core.runnables.base":
        return frame.f_code.co_qualname.startswith("RunnableBinding")
    if name == _RUNNABLE and frame.f_locals.get("i", 0) != 0:
        return False  # a writer or a router of the node: its function has run
    return any(name == one or name.startswith(f"{one}.") for one in _BETWEEN)


def _only_raises(code: CodeType) -> bool:
    """Return whether a function does nothing but raise: whatever it calls, it raises the result of at once."""
    done = [one.opname for one in dis.get_instructions(code)]
    calls = [name for name, following in pairwise(done) if name.startswith("CALL") and following != "RAISE_VARARGS"]
    effects = [name for name in done if name.startswith(_EFFECTS)]
    return "NotImplementedError" in code.co_names and not calls and not effects
