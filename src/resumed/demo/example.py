"""The example application, run as separate processes.

Everything that needs LangGraph happens there; this module only reads what it prints.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from resumed.demo.sandbox import Job, Sandbox
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
    """Counts of side effects: `nodes` that ran at all, how often they began and ended, and how many did so twice."""

    nodes: int = 0
    begun: int = 0
    ended: int = 0
    begun_again: int = 0
    ended_again: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """The example application on one database."""

    sandbox: Sandbox
    dsn: str

    @property
    def settings(self) -> dict[str, str]:
        """The variables that tell its nodes where to record side effects and when to fail."""
        return {
            "EXAMPLE_EFFECTS": str(self.sandbox.folder / "effects.log"),
            "EXAMPLE_BREAK": str(self.sandbox.folder / "broken"),
            "LANGSMITH_TRACING": "false",
        }

    def set_up(self) -> None:
        """Create LangGraph's tables, as the application that owns them does."""
        self.sandbox.wait_for_output(self._start("setup", "--dsn", self.dsn))

    def run(self) -> Job:
        """Start the application, which begins its threads one after another."""
        return self._start("run", "--dsn", self.dsn, "--threads", str(THREADS))

    def states(self) -> dict[str, dict[str, Any]]:
        """Return each thread's head, next nodes, questions and values."""
        job = self._start("states", "--dsn", self.dsn, "--threads", str(THREADS))
        return {
            thread: state
            for thread, state in json.loads(self.sandbox.wait_for_output(job)).items()
            if state is not None
        }

    def effects(self) -> Effects:
        """Count the side effects so far."""
        path = Path(self.settings["EXAMPLE_EFFECTS"])
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        edges = {
            edge: Counter((line["thread"], line["node"]) for line in lines if line["edge"] == edge) for edge in _EDGES
        }
        begun, ended = (edges[edge] for edge in _EDGES)
        again = [sum(times > 1 for times in counted.values()) for counted in (begun, ended)]
        return Effects(len(begun), begun.total(), ended.total(), *again)

    def _start(self, name: str, *arguments: str) -> Job:
        return self.sandbox.start(name, [sys.executable, "-P", "-m", _PACKAGE, name, *arguments], self.settings)


_EDGES = ("start", "end")


def require_installed() -> None:
    """Raise ExampleMissingError unless the application and its entry points are installed."""
    found = {entry.name for entry in entry_points(group=_GROUP) if entry.value.startswith(f"{_PACKAGE}.")}
    if not found.issuperset(WORKFLOWS):
        raise ExampleMissingError


def start_undisturbed(sandbox: Sandbox) -> Job:
    """Start running the same threads in memory, undisturbed."""
    command = [sys.executable, "-P", "-m", _PACKAGE, "undisturbed", "--threads", str(THREADS)]
    return sandbox.start("undisturbed", command, {"EXAMPLE_DELAY": "0", "LANGSMITH_TRACING": "false"})


def read_undisturbed_states(sandbox: Sandbox, job: Job) -> dict[str, dict[str, Any]]:
    """Return the state each thread ends in without a crash."""
    states: dict[str, dict[str, Any]] = json.loads(sandbox.wait_for_output(job))
    return states
