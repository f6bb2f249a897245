"""The flows: a graph with the inputs that it is given one after the other; the process is killed during the last."""

from dataclasses import dataclass, field
from typing import Any

from langgraph.cache.memory import InMemoryCache
from langgraph.pregel import Pregel
from langgraph.types import Command

from points import shapes
from points.shapes import Checked, Kept, Seen, asay, chain, deep, nested, say

SAVERS = ("sync", "async")
DURABILITIES = ("sync", "async", "exit")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What is run, and how.

    `earlier` are the inputs whose runs come to their end undisturbed, `stops` the breakpoints that those are called
    with. `raises` says that the application's run ends with an error, which has healed when the thread is resumed.
    """

    graph: Any
    given: Any = field(default_factory=lambda: {"seen": []})
    earlier: tuple[Any, ...] = ()
    stops: tuple[str, ...] = ()
    raises: bool = False
    savers: tuple[str, ...] = SAVERS
    durabilities: tuple[str, ...] = DURABILITIES
    cache: Any = None

    def compiled(self, saver: Any) -> Any:
        if isinstance(self.graph, Pregel):
            return self.graph.copy(update={"checkpointer": saver})
        return self.graph.compile(checkpointer=saver, cache=self.cache)


NOTHING: Any = {"seen": []}
# With `durability="sync"` LangGraph fails where a subgraph has no checkpointer (langgraph facts, AttributeError).
UNSAVED = ("async", "exit")
TWICE: Any = {"given": {"seen": ["second"]}, "earlier": ({"seen": ["first"]},)}

FLOWS: dict[str, Flow] = {
    # One run of each shape.
    "linear": Flow(graph=chain(Seen, say, "abc")),
    "asynchronous": Flow(graph=chain(Seen, asay, "abc"), savers=("async",)),
    "join": Flow(graph=shapes.join()),
    "uneven": Flow(graph=shapes.uneven()),
    "sends": Flow(graph=shapes.sends()),
    "sends_beside": Flow(graph=shapes.sends_beside()),
    "sends_by_goto": Flow(graph=shapes.sends_by_goto()),
    "deferred": Flow(graph=shapes.deferred()),
    "goto": Flow(graph=shapes.goto()),
    "loop": Flow(graph=shapes.loop(), given={"count": 0}),
    "conditional_start": Flow(graph=shapes.conditional_start()),
    "functional": Flow(graph=shapes.functional, given=[1, 2]),
    "afunctional": Flow(graph=shapes.afunctional, given=[1, 2], savers=("async",)),
    "pregel": Flow(graph=shapes.pregel(), given={"start": "x"}),
    "checked": Flow(graph=chain(Checked, say, "abc")),
    "kept": Flow(graph=chain(Kept, say, "abc")),
    # Subgraphs.
    "nested": Flow(graph=nested()),
    "nested_stateful": Flow(graph=nested(checkpointer=True)),
    "nested_unsaved": Flow(graph=nested(checkpointer=False), durabilities=UNSAVED),
    "deep": Flow(graph=deep()),
    "deep_stateful": Flow(graph=deep(checkpointer=True)),
    "called": Flow(graph=shapes.called()),
    "side_by_side": Flow(graph=shapes.side_by_side()),
    "subgraph_sends": Flow(graph=shapes.subgraph_sends()),
    "to_parent": Flow(graph=shapes.to_parent()),
    # Retries, caches, handlers, errors that have healed.
    "retried": Flow(graph=shapes.retried()),
    "retried_beside": Flow(graph=shapes.retried_beside()),
    "cached": Flow(graph=shapes.cached(), cache=InMemoryCache()),
    "cached_twice": Flow(graph=shapes.cached(), cache=InMemoryCache(), given=NOTHING, earlier=(NOTHING,)),
    "handled": Flow(graph=shapes.handled()),
    "handled_by_goto": Flow(graph=shapes.handled_by_goto()),
    "node_error": Flow(graph=shapes.node_error(), raises=True),
    "router_error": Flow(graph=shapes.router_error(), raises=True),
    "error_below": Flow(graph=shapes.error_below(), raises=True),
    "task_error": Flow(graph=shapes.task_error, given=1, raises=True),
    # A second input: on a finished thread, on one that was left at a breakpoint of the call, on one that had failed.
    "linear_twice": Flow(graph=chain(Seen, say, "abc"), **TWICE),
    "join_twice": Flow(graph=shapes.join(), **TWICE),
    "sends_twice": Flow(graph=shapes.sends(), **TWICE),
    "nested_twice": Flow(graph=nested(), **TWICE),
    "stateful_twice": Flow(graph=nested(checkpointer=True), **TWICE),
    "deep_stateful_twice": Flow(graph=deep(checkpointer=True), **TWICE),
    "remembering": Flow(graph=shapes.remembering, given=2, earlier=(1,)),
    "pregel_twice": Flow(graph=shapes.pregel(), given={"start": "y"}, earlier=({"start": "x"},)),
    "commanded": Flow(graph=chain(Seen, say, "abc"), given=Command(goto="b"), earlier=(NOTHING,)),
    "commanded_update": Flow(
        graph=chain(Seen, say, "abc"), given=Command(goto="b", update={"seen": ["told"]}), earlier=(NOTHING,)
    ),
    "after_breakpoint": Flow(graph=chain(Seen, say, "abc"), **TWICE, stops=("b",)),
    "sends_after_breakpoint": Flow(graph=shapes.sends(), **TWICE, stops=("worker",)),
    "after_error": Flow(
        graph=shapes.mood(),
        given={"seen": ["second"], "mood": "good"},
        earlier=({"seen": ["first"], "mood": "bad"},),
    ),
    "answered": Flow(graph=shapes.asking(), given=Command(resume="this"), earlier=(NOTHING,)),
}
