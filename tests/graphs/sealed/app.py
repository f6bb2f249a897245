"""The application: runs one workflow with its serializer until its second node kills the process.

`python -m sealed.app DSN WORKFLOW`; the thread's id is `<workflow>_0`.
"""

import os
import sys
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver

from sealed.graphs import ALL


def main(dsn: str, name: str) -> None:
    with PostgresSaver.from_conn_string(dsn) as saver:
        if ALL[name].serde is not None:
            saver.serde = ALL[name].serde
        config: Any = {"configurable": {"thread_id": f"{name}_0"}, "metadata": {"workflow": name, "version": "1"}}
        ALL[name].graph.compile(checkpointer=saver).invoke({"any": ["nothing yet"]}, config, durability="sync")


if __name__ == "__main__":
    os.environ["SEALED_APPLICATION"] = "1"
    main(sys.argv[1], sys.argv[2])
