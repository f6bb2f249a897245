"""Owns a workflow that can be run: its policy with its compiled graph, and binding it to one attempt's checkpointer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.judge.verdict import trigger
from resumed.workflows.contexts import check_context
from resumed.workflows.workflow import Breakpoints, Workflow

Graph = Pregel[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow that can be run: its policy and its graph, compiled once and without a checkpointer of its own."""

    name: str
    policy: Workflow
    graph: Graph

    def bind(self, saver: BaseCheckpointSaver[Any]) -> Graph:
        """Copy the graph for one attempt: with this checkpointer, and what the registration adds to it."""
        changes = {
            "checkpointer": saver,
            "store": self.policy.store,
            "cache": self.policy.cache,
            "interrupt_before_nodes": _union(self.graph.interrupt_before_nodes, self.policy.interrupt_before),
            "interrupt_after_nodes": _union(self.graph.interrupt_after_nodes, self.policy.interrupt_after),
        }
        return changed(self.graph, {name: value for name, value in changes.items() if value is not None})


def changed(graph: Graph, changes: Mapping[str, Any]) -> Graph:
    """Copy a graph with these attributes of its own."""
    copied = graph.copy(update=dict(changes))
    # `copy` forgets which classes of the state strict loading lets in.
    copied._serde_allowlist = getattr(graph, "_serde_allowlist", None)  # noqa: SLF001
    return copied


def loaded(name: str, policy: Workflow, found: object) -> LoadedWorkflow | None:
    """Make a workflow of a graph, compiled or not; None where `found` is no graph. Raises RegistrationError."""
    graph = found
    if not isinstance(graph, Pregel) and callable(getattr(graph, "compile", None)):
        graph = graph.compile(checkpointer=None)  # type: ignore[attr-defined]  # asked for in the line above
    if not isinstance(graph, Pregel):
        return None
    for field in ("interrupt_before", "interrupt_after"):
        # A breakpoint at a node that is not there is a misspelt one: a person would never be asked.
        if unknown := sorted(set(getattr(policy, field)) - {"*"} - set(graph.nodes)):
            raise RegistrationError(f"{field} names nodes that the graph does not have: {', '.join(unknown)}")
    check_context(policy, graph.context_schema)
    return LoadedWorkflow(name, policy, graph)


def own_triggers(graph: Graph) -> tuple[str, ...]:
    """Name the channels that start a node of the graph and do not show it by their names."""
    return tuple(sorted(name for name in graph.trigger_to_nodes if not trigger(name)))


def _union(own: Breakpoints, declared: Breakpoints) -> Breakpoints:
    return "*" if "*" in (own, declared) else sorted({*own, *declared})
