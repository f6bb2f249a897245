"""A workflow that can be run: its policy with its compiled graph, and binding it to one attempt's checkpointer."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables.base import RunnableBinding
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.judge.verdict import is_trigger
from resumed.workflows.context_schema import check_context
from resumed.workflows.workflow import Breakpoints, Workflow

Graph = Pregel[Any, Any, Any, Any]

# Where a graph that an executor has bound keeps the graph itself: an attempt runs that, under its own lock.
UNBOUND = "resumed_unbound"
_BREAKPOINTS = frozenset({"interrupt_before", "interrupt_after"})
# Options that change only what a call returns, or when it saves: an attempt sets them itself.
_OUTPUT_OPTIONS = frozenset({"stream_mode", "print_mode", "output_keys", "durability", "subgraphs", "debug", "version"})


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow that can be run: its policy and its graph, compiled once and without a checkpointer of its own."""

    name: str
    policy: Workflow
    graph: Graph

    def bind(self, saver: BaseCheckpointSaver[Any], before: Breakpoints = (), after: Breakpoints = ()) -> Graph:
        """Copy the graph for one attempt, with this checkpointer and what the registration adds.

        `before` and `after` are the breakpoints of the thread's own call.
        """
        own, policy = self.graph, self.policy
        changes = {
            "checkpointer": saver,
            "store": policy.store,
            "cache": policy.cache,
            "interrupt_before_nodes": merge_breakpoints(own.interrupt_before_nodes, policy.interrupt_before, before),
            "interrupt_after_nodes": merge_breakpoints(own.interrupt_after_nodes, policy.interrupt_after, after),
        }
        return with_changes(own, {name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A graph without what `bind` and the like put around it, and the options that they add to its calls."""

    graph: object
    options: Mapping[str, Any] = field(default_factory=dict)


def unwrap_graph(found: object) -> Unwrapped:
    """Unwrap a graph from runnables that only add config and options to it.

    Raises RegistrationError where one of them has functions of its own that run around each call, such as listeners.
    """
    if not isinstance(found, RunnableBinding):
        return Unwrapped(getattr(found, UNBOUND, found) if isinstance(found, Pregel) else found)
    inner = unwrap_graph(found.bound)
    if not isinstance(inner.graph, Pregel):
        return Unwrapped(found)
    if found.config_factories:
        message = "listeners are bound to the graph: bind them in the graph, as callbacks, with `with_config`"
        raise RegistrationError(message)
    config = inner.graph.with_config(found.config).config
    return Unwrapped(with_changes(inner.graph, {"config": config}), {**inner.options, **found.kwargs})


def with_changes(graph: Graph, changes: Mapping[str, Any]) -> Graph:
    """Copy a graph and set these attributes on the copy.

    LangGraph's `copy` calls the graph's constructor, and so loses what was set later: the classes that state is
    returned as, those that strict loading allows, and whatever a subclass keeps.
    """
    copied = copy.copy(graph)
    for name, value in changes.items():
        setattr(copied, name, value)
    return copied


def load_workflow(name: str, policy: Workflow, found: object) -> LoadedWorkflow | None:
    """Make a workflow of a graph, compiled or not; None where `found` is no graph. Raises RegistrationError."""
    unwrapped = unwrap_graph(found)
    graph = unwrapped.graph
    if not isinstance(graph, Pregel) and callable(getattr(graph, "compile", None)):
        graph = graph.compile(checkpointer=None)  # type: ignore[attr-defined]  # checked in the line above
    if not isinstance(graph, Pregel):
        return None
    for field_name in ("interrupt_before", "interrupt_after"):
        # A breakpoint at an unknown node is a misspelt one: no person would ever be asked.
        if unknown := sorted(set(getattr(policy, field_name)) - {"*"} - set(graph.nodes)):
            raise RegistrationError(f"{field_name} names nodes that the graph does not have: {', '.join(unknown)}")
    check_context(policy, graph.context_schema)
    return LoadedWorkflow(name, policy, _with_options(graph, unwrapped.options))


def own_triggers(graph: Graph) -> tuple[str, ...]:
    """Return the channels that start a node of the graph although their names do not show it."""
    return tuple(sorted(name for name in graph.trigger_to_nodes if not is_trigger(name)))


def _with_options(graph: Graph, options: Mapping[str, Any]) -> Graph:
    """Move the breakpoints that were bound to the graph's calls into the graph; refuse other options."""
    if unknown := sorted(set(options) - _BREAKPOINTS - _OUTPUT_OPTIONS):
        raise RegistrationError(
            f"it binds {', '.join(unknown)} to the graph's calls: register the graph itself, "
            "and say in a resumed.Workflow what its runs need"
        )
    before, after = (breakpoints(graph, options.get(name)) for name in ("interrupt_before", "interrupt_after"))
    if unknown := sorted({*before, *after} - {"*"} - set(graph.nodes)):
        raise RegistrationError(f"it binds breakpoints at nodes that the graph does not have: {', '.join(unknown)}")
    if not before and not after:
        return graph
    return with_changes(
        graph,
        {
            "interrupt_before_nodes": merge_breakpoints(graph.interrupt_before_nodes, before),
            "interrupt_after_nodes": merge_breakpoints(graph.interrupt_after_nodes, after),
        },
    )


def breakpoints(graph: Graph, given: Any) -> Breakpoints:
    """Return the breakpoints of a call as LangGraph understands them: any container of names, or a text.

    LangGraph tests whether a node's name is `in` what it was given, and in a text that holds for every part of it.
    """
    if not given or given == "*":
        return "*" if given else ()
    if isinstance(given, str):
        return tuple(name for name in graph.nodes if name in given)
    return tuple(str(name) for name in given)


def merge_breakpoints(*declared: Breakpoints) -> Breakpoints:
    """Merge breakpoints; `"*"` means every node."""
    return "*" if "*" in declared else sorted({node for nodes in declared for node in nodes})
