"""Owns loading the registered workflows: each entry apart, so that a broken one takes nothing with it."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.workflows.workflow import Breakpoints, Workflow

GROUP = "resumed.workflows"
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
    entries = entry_points(group=GROUP)
    counted = Counter(entry.name for entry in entries)
    for entry in sorted(entries, key=lambda one: one.name):
        if selection.names is not None and entry.name not in selection.names:
            continue
        reason = selection.excluded.get(entry.name) or _twice(entry, counted)
        if reason:
            registry.unavailable[entry.name] = reason
        else:
            _add(registry, entry, selection)
    for name in selection.names or ():
        if name not in counted:
            registry.unavailable[name] = f"no entry point of the group {GROUP} has this name"
    return registry


def _twice(entry: EntryPoint, counted: Counter[str]) -> str | None:
    if counted[entry.name] == 1:
        return None
    where = sorted({one.dist.name if one.dist else "?" for one in entry_points(group=GROUP, name=entry.name)})
    return f"{counted[entry.name]} entries have this name (from {', '.join(where)}); rename one"


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
        return LoadedWorkflow(name, policy, graph)
    message = f"it is a {type(graph).__name__}: register a StateGraph, a compiled graph or a resumed.Workflow of one"
    raise RegistrationError(message)
