"""Owns the example application as the demo sees it: a package beside it, run as processes of its own.

All that needs LangGraph happens there: this side reads what it prints.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from resumed.demo.household import Household, Job
from resumed.errors import ResumedError

THREADS = 40
WORKFLOWS = ("orders", "documents", "invoices", "approvals")
_PACKAGE = "resumed_example"
_GROUP = "resumed.workflows"


class ExampleMissingError(ResumedError):
    """The example application is not installed: run `make demo`, or `pip install ./examples/orders` beside resumed."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


@dataclass(frozen=True, slots=True)
class Effects:
    """What the nodes did to the world, counted: `nodes` that ran at all, and how often they ran."""

    nodes: int = 0
    begun: int = 0
    ended: int = 0
    begun_again: int = 0
    ended_again: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """The example application on one database."""

    household: Household
    dsn: str

    @property
    def settings(self) -> dict[str, str]:
        """The variables by which its nodes are told where to leave their side effects, and when to break."""
        return {
            "EXAMPLE_EFFECTS": str(self.household.folder / "effects.log"),
            "EXAMPLE_BREAK": str(self.household.folder / "broken"),
            "LANGSMITH_TRACING": "false",
        }

    def set_up(self) -> None:
        """Make LangGraph's tables, as the application that owns them does."""
        self.household.answer(self._start("setup", "--dsn", self.dsn))

    def run(self) -> Job:
        """Start the application; it begins its threads one after the other."""
        return self._start("run", "--dsn", self.dsn, "--threads", str(THREADS))

    def states(self) -> dict[str, dict[str, Any]]:
        """Read where its threads stand."""
        job = self._start("states", "--dsn", self.dsn, "--threads", str(THREADS))
        return {thread: state for thread, state in json.loads(self.household.answer(job)).items() if state is not None}

    def effects(self) -> Effects:
        """Count the side effects up to now."""
        path = Path(self.settings["EXAMPLE_EFFECTS"])
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        edges = {edge: Counter((one["thread"], one["node"]) for one in lines if one["edge"] == edge) for edge in _EDGES}
        begun, ended = (edges[edge] for edge in _EDGES)
        again = [sum(times > 1 for times in counted.values()) for counted in (begun, ended)]
        return Effects(len(begun), begun.total(), ended.total(), *again)

    def _start(self, name: str, *arguments: str) -> Job:
        return self.household.start(name, [sys.executable, "-P", "-m", _PACKAGE, name, *arguments], self.settings)


_EDGES = ("start", "end")


def require() -> None:
    """Make sure that the application and its entry points are installed; raises ExampleMissingError."""
    found = {one.name for one in entry_points(group=_GROUP) if one.value.startswith(f"{_PACKAGE}.")}
    if not found.issuperset(WORKFLOWS):
        raise ExampleMissingError


def begin_undisturbed(household: Household) -> Job:
    """Start running the same threads in memory, where nobody kills them."""
    command = [sys.executable, "-P", "-m", _PACKAGE, "undisturbed", "--threads", str(THREADS)]
    return household.start("undisturbed", command, {"EXAMPLE_DELAY": "0", "LANGSMITH_TRACING": "false"})


def undisturbed(household: Household, job: Job) -> dict[str, dict[str, Any]]:
    """Say where each thread would stand had nobody been killed."""
    states: dict[str, dict[str, Any]] = json.loads(household.answer(job))
    return states
