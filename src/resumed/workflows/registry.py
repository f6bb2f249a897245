"""Owns loading the registered workflows: each entry apart, so that a broken one takes nothing with it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from resumed.errors import RegistrationError
from resumed.workflows import loops
from resumed.workflows.entries import GROUP, Entry, found
from resumed.workflows.factories import Factory, arguments
from resumed.workflows.loaded import LoadedWorkflow, loaded
from resumed.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries to load and how.

    `names` limits them (None: all); `excluded` maps names that must not be imported again to the reason; `deadline`
    is how long one import may take; `on_loading` is told of each name before its import begins, and may be the last
    thing that this process says; `graphs` is a LangGraph CLI file whose graphs are entries too.
    """

    names: tuple[str, ...] | None
    excluded: Mapping[str, str]
    deadline: timedelta
    on_loading: Callable[[str], None]
    graphs: Path | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """What was loaded, what is yet to be called, and for each entry that was not loaded a sentence why."""

    available: dict[str, LoadedWorkflow] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    factories: dict[str, Factory] = field(default_factory=dict)

    def add(self, name: str, outcome: LoadedWorkflow | Factory | str) -> None:
        """Put what came of an entry where it belongs."""
        self.factories.pop(name, None)
        match outcome:
            case LoadedWorkflow():
                self.available[name] = outcome
            case Factory():
                self.factories[name] = outcome
            case reason:
                self.unavailable[name] = reason


def load(selection: Selection) -> Registry:
    """Load the selected entries one after the other; none can raise, hang or hide another."""
    entries, unreadable = found(selection.graphs)
    registry = Registry(unavailable=unreadable)
    for entry in sorted(entries, key=lambda one: one.name):
        if selection.names is not None and entry.name not in selection.names:
            continue
        reason = selection.excluded.get(entry.name) or _twice(entry, entries)
        registry.add(entry.name, reason or _within_deadline(entry, selection))
    for name in selection.names or ():
        if name not in {entry.name for entry in entries}:
            registry.add(name, f"no entry point of the group {GROUP} has this name")
    return registry


def _twice(entry: Entry, entries: Sequence[Entry]) -> str | None:
    same = [one for one in entries if one.name == entry.name]
    if len(same) == 1:
        return None
    where = ", ".join(sorted({one.origin for one in same}))
    return f"{len(same)} entries have this name (from {where}); rename one"


def _within_deadline(entry: Entry, selection: Selection) -> LoadedWorkflow | Factory | str:
    selection.on_loading(entry.name)
    outcome: list[LoadedWorkflow | Factory | str] = []
    thread = threading.Thread(target=lambda: outcome.append(_loaded(entry)), name=f"load-{entry.name}", daemon=True)
    thread.start()
    thread.join(selection.deadline.total_seconds())
    return outcome[0] if outcome else f"its import did not end within {selection.deadline.total_seconds():.0f} s"


def _loaded(entry: Entry) -> LoadedWorkflow | Factory | str:
    try:
        with loops.lent(kept=True):
            return resolve(entry.name, entry.load())
    except RegistrationError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, SystemExit too, is that entry's matter
        return f"{entry.value} could not be loaded: {type(error).__name__}"


def resolve(name: str, registered: object) -> LoadedWorkflow | Factory:
    """Make a workflow of what an entry names, or a factory of a callable; raises RegistrationError for the rest."""
    policy = registered if isinstance(registered, Workflow) else Workflow(graph=registered)
    if workflow := loaded(name, policy, policy.graph):
        return workflow
    if callable(policy.graph):
        arguments(policy.graph)
        return Factory(name, policy, policy.graph)
    message = (
        f"it is a {type(policy.graph).__name__}: register a StateGraph, a compiled graph, a callable that makes one, "
        "or a resumed.Workflow of these"
    )
    raise RegistrationError(message)
