"""Owns a workflow that can be run: its policy with its compiled graph, and binding it to one attempt's checkpointer."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables.base import RunnableBinding
from langgraph._internal._config import DEFAULT_RECURSION_LIMIT
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.judge.verdict import is_trigger
from resumed.workflows.context_schema import check_context
from resumed.workflows.workflow import Breakpoints, Workflow

Graph = Pregel[Any, Any, Any, Any]

_BREAKPOINTS = frozenset({"interrupt_before", "interrupt_after"})
# What a call may ask for that changes only what it is given back, or how soon it saves: an attempt decides that itself.
_OF_THE_CALL = frozenset({"stream_mode", "print_mode", "output_keys", "durability", "subgraphs", "debug", "version"})


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow that can be run: its policy and its graph, compiled once and without a checkpointer of its own."""

    name: str
    policy: Workflow
    graph: Graph

    def bind(self, saver: BaseCheckpointSaver[Any], before: Breakpoints = (), after: Breakpoints = ()) -> Graph:
        """Copy the graph for one attempt: with this checkpointer, and what the registration adds to it.

        `before` and `after` are the breakpoints that the thread's own call was given.
        """
        own, policy = self.graph, self.policy
        changes = {
            "checkpointer": saver,
            "store": policy.store,
            "cache": policy.cache,
            "interrupt_before_nodes": union(own.interrupt_before_nodes, policy.interrupt_before, before),
            "interrupt_after_nodes": union(own.interrupt_after_nodes, policy.interrupt_after, after),
        }
        return with_changes(own, {name: value for name, value in changes.items() if value is not None})

    def limit(self, called: int | None, otherwise: int) -> int:
        """Return how many supersteps an attempt may run: what the registration says, the call said, the graph binds.

        Where none of them names a limit, `otherwise` is given as a default is: a subgraph's own limit goes before it.
        """
        if said := self.policy.recursion_limit or called:
            return said
        bound = (self.graph.config or {}).get("recursion_limit")
        # LangGraph marks its own default by a type of its own, from 1.2 on.
        return bound if type(bound) is int else type(DEFAULT_RECURSION_LIMIT)(otherwise)


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A graph taken out of what `bind` and the like put around it, and the options that they give to its calls."""

    graph: object
    options: Mapping[str, Any] = field(default_factory=dict)


def unwrap_graph(found: object) -> Unwrapped:
    """Take the graph out of runnables that only add config and options to it.

    Raises RegistrationError where one of them calls functions of its own around each run, as listeners are.
    """
    if not isinstance(found, RunnableBinding):
        return Unwrapped(found)
    inner = unwrap_graph(found.bound)
    if not isinstance(inner.graph, Pregel):
        return Unwrapped(found)
    if found.config_factories:
        message = "listeners are bound to the graph: bind them in the graph, as callbacks, with `with_config`"
        raise RegistrationError(message)
    config = inner.graph.with_config(found.config).config
    return Unwrapped(with_changes(inner.graph, {"config": config}), {**inner.options, **found.kwargs})


def with_changes(graph: Graph, changes: Mapping[str, Any]) -> Graph:
    """Copy a graph with these attributes of its own.

    LangGraph's `copy` makes the graph anew of what its constructor takes, and so loses what was set later: the classes
    that state is given back as, those that strict loading lets in, whatever a subclass keeps.
    """
    copied = copy.copy(graph)
    for name, value in changes.items():
        setattr(copied, name, value)
    return copied


def load_workflow(name: str, policy: Workflow, found: object) -> LoadedWorkflow | None:
    """Make a workflow of a graph, compiled or not; None where `found` is no graph. Raises RegistrationError."""
    taken = unwrap_graph(found)
    graph = taken.graph
    if not isinstance(graph, Pregel) and callable(getattr(graph, "compile", None)):
        graph = graph.compile(checkpointer=None)  # type: ignore[attr-defined]  # asked for in the line above
    if not isinstance(graph, Pregel):
        return None
    for named in ("interrupt_before", "interrupt_after"):
        # A breakpoint at a node that is not there is a misspelt one: a person would never be asked.
        if unknown := sorted(set(getattr(policy, named)) - {"*"} - set(graph.nodes)):
            raise RegistrationError(f"{named} names nodes that the graph does not have: {', '.join(unknown)}")
    check_context(policy, graph.context_schema)
    return LoadedWorkflow(name, policy, _with_options(graph, taken.options))


def own_triggers(graph: Graph) -> tuple[str, ...]:
    """Name the channels that start a node of the graph and do not show it by their names."""
    return tuple(sorted(name for name in graph.trigger_to_nodes if not is_trigger(name)))


def _with_options(graph: Graph, options: Mapping[str, Any]) -> Graph:
    """Put the breakpoints that were bound to the graph's calls into the graph itself; refuse what an attempt cannot."""
    if unknown := sorted(set(options) - _BREAKPOINTS - _OF_THE_CALL):
        raise RegistrationError(
            f"it binds {', '.join(unknown)} to the graph's calls: register the graph itself, "
            "and say in a resumed.Workflow what its runs need"
        )
    before, after = (breakpoints(graph, options.get(named)) for named in ("interrupt_before", "interrupt_after"))
    if unknown := sorted({*before, *after} - {"*"} - set(graph.nodes)):
        raise RegistrationError(f"it binds breakpoints at nodes that the graph does not have: {', '.join(unknown)}")
    if not before and not after:
        return graph
    return with_changes(
        graph,
        {
            "interrupt_before_nodes": union(graph.interrupt_before_nodes, before),
            "interrupt_after_nodes": union(graph.interrupt_after_nodes, after),
        },
    )


def breakpoints(graph: Graph, given: Any) -> Breakpoints:
    """Return the breakpoints of a call as LangGraph takes them: any container of names, and each node named in a text.

    LangGraph asks whether a node's name is in what it was given, and of a text that is true of its parts.
    """
    if not given or given == "*":
        return "*" if given else ()
    if isinstance(given, str):
        return tuple(name for name in graph.nodes if name in given)
    return tuple(str(name) for name in given)


def union(*declared: Breakpoints) -> Breakpoints:
    """Put breakpoints together; `"*"` means every node."""
    return "*" if "*" in declared else sorted({node for nodes in declared for node in nodes})
