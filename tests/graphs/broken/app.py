"""The application: runs each flow in a child of its own until that dies or fails, for real.

`python -m broken.app DSN NAME…`; a thread's id is `<flow>_0`, its stamped version BROKEN_VERSION where that is set.
"""

import os
import sys
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.pregel import Pregel

from broken.graphs import FLOWS
from broken.stage import die

EDITS = ("edited_finished", "copied_finished", "edited", "copied", "edited_then_run", "edited_then_begun", "imported")
STAMPS = {"downgraded": {"version": "2"}}


def config(name: str) -> Any:
    return {"configurable": {"thread_id": f"{name}_0"}, "metadata": {"workflow": name, **STAMPS.get(name, {})}}


def given(name: str) -> Any:
    return {"conflict": {"one": "none"}, "pregel": {"start": "x"}}.get(name, {"seen": []})


def in_child(dsn: str, name: str) -> None:
    """Run a flow; the process does not outlive it."""
    with PostgresSaver.from_conn_string(dsn) as saver:
        made, serde = FLOWS[name]
        saver.serde = serde or saver.serde
        copied = isinstance(made, Pregel)
        compiled = made.copy(update={"checkpointer": saver}) if copied else made.compile(checkpointer=saver)
        if name in EDITS:
            edit(compiled, name)
            return
        if name == "stateful":
            compiled.invoke(given(name), config(name), durability="sync")
        if name.startswith("stateful"):
            saver.put = dying(saver.put)
        compiled.invoke(given(name), config(name), durability="sync")


def edit(compiled: Any, name: str) -> None:
    """Do what a person or an import does: write the head without running anything; then, of some, run it and die."""
    if name == "imported":
        compiled.update_state(config(name), {"seen": ["imported"]}, as_node="__input__")
        return
    unfinished = None if name.endswith("finished") else ["inner"] if name == "edited_then_begun" else ["hold", "b"]
    compiled.invoke(given(name), config(name), interrupt_before=unfinished, durability="sync")
    copied = name.startswith("copied")
    compiled.update_state(
        config(name), None if copied else {"seen": ["edited"]}, as_node="__copy__" if copied else None
    )
    if "then" in name:
        compiled.invoke(None, config(name), durability="sync")


def dying(put: Any) -> Any:
    """Die before the first save of a subgraph."""

    def watched(config: Any, *arguments: Any) -> Any:
        if config["configurable"].get("checkpoint_ns"):
            die()
        return put(config, *arguments)

    return watched


def main(dsn: str, names: list[str]) -> None:
    for name in names or FLOWS:
        child = os.fork()
        if not child:
            try:
                in_child(dsn, name)
            finally:
                os._exit(1)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
