"""Leaves threads that failed in their second node: `python -m loading.leave DSN NAME=COUNT…`; ids are `<name>_<n>`."""

import asyncio
import sys
from typing import Any

from faults.mischief import ALL, healthy
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from loading import children, two

KNOWN = {**ALL, "flaky": two(), "late": two(), "children": children.seen}


async def main(dsn: str, wanted: list[str]) -> None:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        runs = []
        for name, _, count in (one.partition("=") for one in wanted):
            graph: Any = KNOWN.get(name, healthy).compile(checkpointer=saver)
            for number in range(int(count)):
                config = {"metadata": {"workflow": name}, "configurable": {"thread_id": f"{name}_{number}"}}
                runs.append(graph.ainvoke({"seen": []}, config))
        await asyncio.gather(*runs, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
