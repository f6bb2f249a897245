"""A plain script that goes on where it was killed: `python plain.py DSN [THREAD]`, as often as it takes.

It needs `resumed migrate` once. Nothing else has to run; with `resumed run` beside it nobody has to start it again.
"""

import sys
import time
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from resumed import WorkflowExecutor, needs_resume


class State(TypedDict):
    """The parts of the work that are done."""

    done: list[str]


def part(name: str, seconds: float) -> object:
    """Make a node that takes its time."""

    def node(state: State) -> State:
        print(f"{name} …", flush=True)
        time.sleep(seconds)
        return {"done": [*state["done"], name]}

    return node


def main(dsn: str, thread: str = "report_1") -> None:
    """Begin, or go on with what an earlier run of this script began."""
    builder = StateGraph(State)
    before = START
    for name in ("collect", "compute", "write"):
        builder.add_node(name, part(name, 1))
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    with WorkflowExecutor(dsn) as executor:
        given = None if needs_resume(thread, dsn) else {"done": []}
        print(executor.run("report", builder.compile(), given, thread_id=thread)["done"])


if __name__ == "__main__":
    main(*sys.argv[1:])
