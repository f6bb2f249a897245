"""The application: runs each flow in a child of its own until that dies or fails, for real.

`python -m broken.app DSN NAME…`; a thread's id is `<flow>_0`, its stamped version BROKEN_VERSION where that is set.
"""

import os
import sys
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver

from broken.graphs import FLOWS
from broken.stage import die

STAMPS = {"downgraded": {"version": "2"}}


def config(name: str) -> Any:
    return {"configurable": {"thread_id": f"{name}_0"}, "metadata": {"workflow": name, **STAMPS.get(name, {})}}


def given(name: str) -> Any:
    return {"one": "none"} if name == "conflict" else {"seen": []}


def in_child(dsn: str, name: str) -> None:
    """Run a flow; the process does not outlive it."""
    with PostgresSaver.from_conn_string(dsn) as saver:
        made, serde = FLOWS[name]
        saver.serde = serde or saver.serde
        compiled = made.compile(checkpointer=saver)
        if name == "stateful":
            compiled.invoke(given(name), config(name), durability="sync")
        if name.startswith("stateful"):
            saver.put = dying(saver.put)
        compiled.invoke(given(name), config(name), durability="sync")


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
