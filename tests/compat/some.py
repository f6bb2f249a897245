"""Runs the killer of the crash points without the flows that the LangGraph at hand cannot run.

`python some.py LEFT,OUT DSN PROCESSES SHARE`; the interpreter need not have `resumed`.
"""

import runpy
import sys
from typing import Any

from langgraph import errors
from langgraph.graph import StateGraph


def forgive() -> None:
    """Let the flows be built whose features are missing here; nobody runs them."""
    if hasattr(errors, "NodeError"):
        return
    errors.NodeError = type("NodeError", (), {})  # type: ignore[misc]
    add_node: Any = StateGraph.add_node

    def without_handler(self: Any, *arguments: Any, error_handler: Any = None, **options: Any) -> Any:
        return add_node(self, *arguments, **options)

    StateGraph.add_node = without_handler  # type: ignore[method-assign]


if __name__ == "__main__":
    forgive()
    from points.flows import FLOWS

    for name in filter(None, sys.argv.pop(1).split(",")):
        del FLOWS[name]
    runpy.run_module("points.killer", run_name="__main__")
