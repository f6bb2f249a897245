"""A compiled graph whose runs are registered: for whatever takes a graph and calls it by itself."""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, Self, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from resumed.runtime.langgraph_internals import addressed_call
from resumed.workflows.loaded_workflow import UNBOUND, Graph, unwrap_graph, with_changes

G = TypeVar("G", bound=Pregel[Any, Any, Any, Any])


class _Streams(Protocol):
    def stream(self, workflow: str, graph: Graph, input: Any, **options: Any) -> Iterator[Any]: ...  # noqa: A002


class _AsyncStreams(Protocol):
    def astream(self, workflow: str, graph: Graph, input: Any, **options: Any) -> AsyncIterator[Any]: ...  # noqa: A002


@dataclass(frozen=True, slots=True)
class Binding:
    """Under which name and by which executor a graph runs: both faces of it, each as it is when it is asked for.

    `checkpointer` is what threads are read with, None while the executor is not open.
    """

    workflow: str
    sync_face: Callable[[], _Streams]
    async_face: Callable[[], Awaitable[_AsyncStreams]]
    checkpointer: Callable[[], BaseCheckpointSaver[Any] | None]


class BoundGraph:
    """What a bound graph adds to the class of its graph, whose attributes it shares.

    All that calls a graph comes through `stream` or `astream`: `invoke`, `batch`, `astream_events` and their like are
    LangGraph's own. A call inside of another graph's node is part of that graph's run, and without a thread nothing is
    saved: then the graph runs as it is.
    """

    __slots__ = ()
    _unbound: Any
    _binding: Binding

    @property
    def checkpointer(self) -> Any:
        """The graph's own checkpointer, else the executor's, for reading threads and editing them."""
        own = self._unbound.__dict__.get("checkpointer")
        return self._binding.checkpointer() if own is None else own

    @checkpointer.setter
    def checkpointer(self, value: Any) -> None:
        self._unbound.checkpointer = value

    def stream(self, input: Any, config: Any = None, **options: Any) -> Iterator[Any]:  # noqa: A002
        """Yield what the graph's `stream` yields, as a registered run of its thread. See `WorkflowExecutor.stream`."""
        graph, binding = self._unbound, self._binding
        call = addressed_call(graph, config)
        if call.nested or call.thread is None:
            yield from (graph if call.nested else _without_checkpointer(graph)).stream(input, config, **options)
        else:
            options |= {"config": call.config, "thread_id": call.thread}
            yield from binding.sync_face().stream(binding.workflow, graph, input, **options)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: Any = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Yield what the graph's `astream` yields, as a registered run. See `AsyncWorkflowExecutor.astream`."""
        graph, binding = self._unbound, self._binding
        call = addressed_call(graph, config)
        if call.nested or call.thread is None:
            parts: Any = (graph if call.nested else _without_checkpointer(graph)).astream(input, config, **options)
        else:
            options |= {"config": call.config, "thread_id": call.thread}
            parts = (await binding.async_face()).astream(binding.workflow, graph, input, **options)
        async with aclosing(parts):
            async for part in parts:
                yield part

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        """Return a bound copy with these attributes changed; `with_config` makes its copy so."""
        return bound_graph(self._unbound.copy(update), self._binding)  # type: ignore[no-any-return]

    def __copy__(self) -> Self:
        return bound_graph(copy.copy(self._unbound), self._binding)  # type: ignore[no-any-return]

    def __reduce_ex__(self, _: Any) -> Any:
        message = "a bound graph belongs to the executor of its process: bind the graph where it is used"
        raise TypeError(message)


def bound_graph(graph: G, binding: Binding) -> G:
    """Return the graph with its runs registered. Raises TypeError where it is not compiled."""
    unwrapped = unwrap_graph(graph)
    if not isinstance(unwrapped.graph, Pregel) or unwrapped.options:
        message = "the executor binds a compiled graph: pass graph.compile(), and options with each call"
        raise TypeError(message)
    plain = unwrapped.graph
    bound: Any = object.__new__(_bound_class(type(plain)))
    # One set of attributes: what a framework sets on the one holds for the other.
    bound.__dict__ = plain.__dict__
    bound._unbound, bound._binding = plain, binding  # noqa: SLF001 - the slots of its own class
    return bound  # type: ignore[no-any-return]


@cache
def _bound_class(own: type[Any]) -> type[Any]:
    slots = {"__slots__": ("_binding", "_unbound"), "__module__": __name__, UNBOUND: property(lambda it: it._unbound)}  # noqa: SLF001
    return type(f"Bound{own.__name__}", (BoundGraph, own), slots)


def _without_checkpointer(graph: Graph) -> Graph:
    """Return the graph as it runs where no thread is named: nothing is saved."""
    return graph if graph.checkpointer is None else with_changes(graph, {"checkpointer": None})
