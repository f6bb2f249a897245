"""Loads the registered workflows, each entry apart, so that a broken one affects no other."""

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

    `on_found` is called once with all names that are about to be imported; `on_loading` with each name before its
    import begins, which may end this process; `on_loaded`, in the importing thread, once its import has ended, however
    it did; `on_hung` with the name of one that does not end, and the reason.
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
    """An import that failed or did not end; it may succeed in another process, or later."""

    reason: str


LoadOutcome = LoadedWorkflow | ThreadGraphs | Factory | NotLoaded | str


@dataclass(frozen=True, slots=True)
class Registry:
    """The workflows that were loaded, the factories to be called, and the reason for each entry that is unavailable.

    `unloaded` names those of the unavailable whose import failed, so that it may be tried again.
    """

    available: dict[str, LoadedWorkflow | ThreadGraphs] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    factories: dict[str, Factory] = field(default_factory=dict)
    unloaded: set[str] = field(default_factory=set)

    def add(self, name: str, outcome: LoadOutcome) -> None:
        """Record the outcome of an entry in place of what was known of it."""
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
    selected = [entry for entry in entries if selection.names is None or entry.name in selection.names]
    reasons = {
        entry.name: selection.excluded.get(entry.name) or _refuse_duplicate(entry, entries) for entry in selected
    }
    selection.on_found(sorted(name for name, reason in reasons.items() if reason is None))
    for entry in sorted(selected, key=lambda entry: entry.name):
        registry.add(entry.name, reasons[entry.name] or _load_within_deadline(entry, selection))
    for name in selection.names or ():
        if name not in {entry.name for entry in entries}:
            registry.add(name, f"no entry point of the group {GROUP} has this name")
    return registry


def _refuse_duplicate(entry: Entry, entries: Sequence[Entry]) -> str | None:
    same = [other for other in entries if other.name == entry.name]
    if len(same) == 1:
        return None
    where = ", ".join(sorted({other.origin for other in same}))
    return f"{len(same)} entries have this name (from {where}); rename one"


def _load_within_deadline(entry: Entry, selection: Selection) -> LoadedWorkflow | Factory | NotLoaded | str:
    selection.on_loading(entry.name)
    outcome: list[LoadedWorkflow | Factory | NotLoaded | str] = []

    def importing() -> None:
        loaded = _load(entry)
        selection.on_loaded(entry.name)
        outcome.append(loaded)

    thread = threading.Thread(target=importing, name=f"load-{entry.name}", daemon=True)
    thread.start()
    thread.join(selection.deadline.total_seconds())
    if outcome:
        return outcome[0]
    reason = f"its import did not end within {selection.deadline.total_seconds():.0f} s"
    selection.on_hung(entry.name, reason)
    return NotLoaded(reason)


def _load(entry: Entry) -> LoadedWorkflow | Factory | NotLoaded | str:
    try:
        with event_loops.loop_on_demand(kept=True):
            return resolve(entry.name, entry.load())
    except RegistrationError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, SystemExit too, affects that entry only
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
