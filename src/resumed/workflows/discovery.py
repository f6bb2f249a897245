"""Finds registrations: entry points of distributions, and the graphs of a LangGraph CLI file. Imports none."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from resumed.errors import RegistrationError
from resumed.workflows import langgraph_json

GROUP = "resumed.workflows"
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A registration before its import; `value` is what it names, `origin` the source that declares it."""

    name: str
    value: str
    origin: str
    load: Callable[[], object]


def find_entries(graphs: Path | None) -> tuple[list[Entry], dict[str, str]]:
    """Return all entries, and a reason for each source that cannot be read."""
    unreadable: dict[str, str] = {}
    entries = _read_distributions(unreadable)
    if graphs is not None:
        try:
            places = langgraph_json.read_file(graphs)
        except RegistrationError as error:
            unreadable[graphs.name] = str(error)
            places = {}
        entries += [
            Entry(name, place, graphs.name, partial(langgraph_json.load_graph, graphs, place))
            for name, place in places.items()
        ]
    return entries, unreadable


def _read_distributions(unreadable: dict[str, str]) -> list[Entry]:
    """Return the entries of each distribution; an unreadable one hides no other.

    As with `importlib.metadata.entry_points`, the first distribution of a name on the path counts.
    """
    read: dict[str, list[Entry]] = {}
    for distribution in distributions():
        name = _SEPARATORS.sub("-", str(distribution.metadata["Name"])).lower()
        if name in read:
            continue
        try:
            points = distribution.entry_points.select(group=GROUP)
            read[name] = [Entry(point.name, point.value, name, point.load) for point in points]
        except Exception as error:  # noqa: BLE001 - whatever a broken file raises
            read[name] = []
            unreadable[name] = f"the entry points of this distribution cannot be read: {type(error).__name__}"
    return [entry for entries in read.values() for entry in entries]
