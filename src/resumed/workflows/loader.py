"""Owns loading the registered workflows: each entry apart, so that a broken one takes nothing with it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from resumed.errors import RegistrationError
from resumed.workflows import event_loops
from resumed.workflows.discovery import GROUP, Entry, find_entries
from resumed.workflows.factories import Factory, factory_of
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import LoadedWorkflow, load_workflow
from resumed.workflows.thread_graphs import ThreadGraphs
from resumed.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries to load and how.

    `names` limits them (None: all); `excluded` maps names that must not be imported again to the reason; `deadline`
    is how long one import may take; `graphs` is a LangGraph CLI file whose graphs are entries too.

    What is told meanwhile: `on_found` once of all names that are about to be imported; `on_loading` of each name before
    its import begins, which may be the last thing that this process says; `on_loaded`, in the importing thread, as soon
    as its import has ended, whatever came of it; `on_hung` of one that does not end, with the reason.
    """

    names: tuple[str, ...] | None
    excluded: Mapping[str, str]
    deadline: timedelta
    on_loading: Callable[[str], None]
    graphs: Path | None = None
    on_loaded: Callable[[str], None] = lambda _: None
    on_hung: Callable[[str, str], None] = lambda *_: None
    on_found: Callable[[Sequence[str]], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """An import that failed or did not end: another process may do better, at another time."""

    reason: str


LoadOutcome = LoadedWorkflow | ThreadGraphs | Factory | NotLoaded | str


@dataclass(frozen=True, slots=True)
class Registry:
    """What was loaded, what is yet to be called, and for each entry that was not loaded a sentence why.

    `unloaded` names those of the unavailable whose import failed, so that it may be tried again.
    """

    available: dict[str, LoadedWorkflow | ThreadGraphs] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    factories: dict[str, Factory] = field(default_factory=dict)
    unloaded: set[str] = field(default_factory=set)

    def add(self, name: str, outcome: LoadOutcome) -> None:
        """Put what came of an entry where it belongs, in place of what was known of it."""
        for known in (self.available, self.unavailable, self.factories):
            known.pop(name, None)
        self.unloaded.discard(name)
        match outcome:
            case LoadedWorkflow() | ThreadGraphs():
                self.available[name] = outcome
            case Factory():
                self.factories[name] = outcome
            case NotLoaded(reason):
                self.unavailable[name] = reason
                self.unloaded.add(name)
            case reason:
                self.unavailable[name] = reason


def load_registry(selection: Selection) -> Registry:
    """Load the selected entries one after the other; none can raise, hang or hide another."""
    entries, unreadable = find_entries(selection.graphs)
    registry = Registry(unavailable=unreadable)
    asked = [one for one in entries if selection.names is None or one.name in selection.names]
    reasons = {one.name: selection.excluded.get(one.name) or _twice(one, entries) for one in asked}
    selection.on_found(sorted(name for name, reason in reasons.items() if reason is None))
    for entry in sorted(asked, key=lambda one: one.name):
        registry.add(entry.name, reasons[entry.name] or _within_deadline(entry, selection))
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


def _within_deadline(entry: Entry, selection: Selection) -> LoadedWorkflow | Factory | NotLoaded | str:
    selection.on_loading(entry.name)
    outcome: list[LoadedWorkflow | Factory | NotLoaded | str] = []

    def importing() -> None:
        made = _loaded(entry)
        selection.on_loaded(entry.name)
        outcome.append(made)

    thread = threading.Thread(target=importing, name=f"load-{entry.name}", daemon=True)
    thread.start()
    thread.join(selection.deadline.total_seconds())
    if outcome:
        return outcome[0]
    reason = f"its import did not end within {selection.deadline.total_seconds():.0f} s"
    selection.on_hung(entry.name, reason)
    return NotLoaded(reason)


def _loaded(entry: Entry) -> LoadedWorkflow | Factory | NotLoaded | str:
    try:
        with event_loops.lent_loop(kept=True):
            return resolve(entry.name, entry.load())
    except RegistrationError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, SystemExit too, is that entry's matter
        return NotLoaded(f"{entry.value} could not be loaded: {load_error(error)}")


def resolve(name: str, registered: object) -> LoadedWorkflow | Factory:
    """Make a workflow of what an entry names, or a factory of a callable; raises RegistrationError for the rest."""
    policy = registered if isinstance(registered, Workflow) else Workflow(graph=registered)
    if workflow := load_workflow(name, policy, policy.graph):
        return workflow
    if callable(policy.graph):
        return factory_of(name, policy, policy.graph)
    message = (
        f"it is a {type(policy.graph).__name__}: register a StateGraph, a compiled graph, a callable that makes one, "
        "or a resumed.Workflow of these"
    )
    raise RegistrationError(message)
