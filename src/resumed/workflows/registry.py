"""Owns loading the registered workflows: each entry apart, so that a broken one takes nothing with it."""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import EntryPoint, distributions
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.workflows.workflow import Breakpoints, Workflow

GROUP = "resumed.workflows"
_SEPARATORS = re.compile(r"[-_.]+")
Graph = Pregel[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries to load and how.

    `names` limits them (None: all); `excluded` maps names that must not be imported again to the reason; `deadline`
    is how long one import may take; `on_loading` is told of each name before its import begins, and may be the last
    thing that this process says.
    """

    names: tuple[str, ...] | None
    excluded: Mapping[str, str]
    deadline: timedelta
    on_loading: Callable[[str], None]


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
        return self.graph.copy(update={name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Registry:
    """What was loaded, and for each entry that was not, a sentence why."""

    available: dict[str, LoadedWorkflow] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def _union(own: Breakpoints, declared: Breakpoints) -> Breakpoints:
    return "*" if "*" in (own, declared) else sorted({*own, *declared})


def load(selection: Selection) -> Registry:
    """Load the selected entries one after the other; none can raise, hang or hide another."""
    registry = Registry()
    entries = _entries(registry)
    for entry in sorted(entries, key=lambda one: one.name):
        if selection.names is not None and entry.name not in selection.names:
            continue
        reason = selection.excluded.get(entry.name) or _twice(entry, entries)
        if reason:
            registry.unavailable[entry.name] = reason
        else:
            _add(registry, entry, selection)
    for name in selection.names or ():
        if name not in {entry.name for entry in entries}:
            registry.unavailable[name] = f"no entry point of the group {GROUP} has this name"
    return registry


def _twice(entry: EntryPoint, entries: Sequence[EntryPoint]) -> str | None:
    same = [one for one in entries if one.name == entry.name]
    if len(same) == 1:
        return None
    where = sorted({one.dist.name if one.dist else "?" for one in same})
    return f"{len(same)} entries have this name (from {', '.join(where)}); rename one"


def _add(registry: Registry, entry: EntryPoint, selection: Selection) -> None:
    selection.on_loading(entry.name)
    outcome: list[LoadedWorkflow | str] = []
    thread = threading.Thread(target=lambda: outcome.append(_loaded(entry)), name=f"load-{entry.name}", daemon=True)
    thread.start()
    thread.join(selection.deadline.total_seconds())
    if not outcome:
        registry.unavailable[entry.name] = f"its import did not end within {selection.deadline.total_seconds():.0f} s"
    elif isinstance(outcome[0], str):
        registry.unavailable[entry.name] = outcome[0]
    else:
        registry.available[entry.name] = outcome[0]


def _loaded(entry: EntryPoint) -> LoadedWorkflow | str:
    try:
        return resolve(entry.name, entry.load())
    except RegistrationError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, SystemExit too, is that entry's matter
        return f"{entry.value} could not be loaded: {type(error).__name__}"


def resolve(name: str, found: object) -> LoadedWorkflow:
    """Make a workflow of what an entry point names; raises RegistrationError where it is none of the kinds."""
    policy = found if isinstance(found, Workflow) else Workflow(graph=found)
    graph = policy.graph
    if not isinstance(graph, Pregel) and callable(getattr(graph, "compile", None)):
        graph = graph.compile(checkpointer=None)
    if isinstance(graph, Pregel):
        _know_nodes(policy, graph)
        return LoadedWorkflow(name, policy, graph)
    message = f"it is a {type(graph).__name__}: register a StateGraph, a compiled graph or a resumed.Workflow of one"
    raise RegistrationError(message)


def _know_nodes(policy: Workflow, graph: Graph) -> None:
    """A breakpoint at a node that is not there is a misspelt one: a person would never be asked."""
    for field_name in ("interrupt_before", "interrupt_after"):
        declared = getattr(policy, field_name)
        if unknown := sorted(set(declared) - {"*"} - set(graph.nodes)):
            raise RegistrationError(f"{field_name} names nodes that the graph does not have: {', '.join(unknown)}")


def _entries(registry: Registry) -> list[EntryPoint]:
    """Read the entries of our group, each distribution apart, so that an unreadable one hides no other.

    As with `importlib.metadata.entry_points`, the first distribution of a name on the path counts.
    """
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        name = _SEPARATORS.sub("-", str(distribution.metadata["Name"])).lower()
        if name in found:
            continue
        try:
            found[name] = list(distribution.entry_points.select(group=GROUP))
        except Exception as error:  # noqa: BLE001 - whatever a broken file raises
            found[name] = []
            registry.unavailable[name] = f"the entry points of this distribution cannot be read: {type(error).__name__}"
    return [entry for entries in found.values() for entry in entries]
