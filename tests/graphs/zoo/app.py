"""The application: runs COUNT threads of each workflow through a pooled saver, until it is done or killed.

`python -m zoo.app DSN COUNT WORKFLOW…`; a thread's id is `<workflow>_<number>`, and ZOO_FIRST the first number.
"""

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.pregel import Pregel
from langgraph.types import Command
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from zoo.graphs import ALL, INPUTS


def compiled(name: str, saver: Any) -> Any:
    graph = ALL[name]
    return (
        graph.copy(update={"checkpointer": saver}) if isinstance(graph, Pregel) else graph.compile(checkpointer=saver)
    )


async def start(name: str, number: int, saver: Any) -> None:
    config = {
        "configurable": {"thread_id": f"{name}_{number}", "tenant": "acme"},
        "metadata": {
            "workflow": name,
            **({"version": os.environ["ZOO_VERSION"]} if "ZOO_VERSION" in os.environ else {}),
        },
    }
    given: Any = None if os.environ.get("ZOO_APPROVE") else INPUTS.get(name, {"seen": []})
    if answer := os.environ.get("ZOO_ANSWER"):
        given = Command(resume=json.loads(answer))
    await compiled(name, saver).ainvoke(given, config, durability="sync")


async def main(dsn: str, count: int, names: list[str]) -> None:
    # A synchronous entrypoint waits in a thread for tasks that need threads too.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * count * len(names)))
    options = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    async with AsyncConnectionPool(dsn, min_size=8, max_size=8, kwargs=options, open=False) as pool:
        saver = AsyncPostgresSaver(pool)
        print("started", flush=True)
        first = int(os.environ.get("ZOO_FIRST", "0"))
        numbers = range(first, first + count)
        await asyncio.gather(*(start(name, number, saver) for number in numbers for name in names))
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
