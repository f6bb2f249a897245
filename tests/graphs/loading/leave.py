"""Leaves threads that failed in their second node: `python -m loading.leave DSN COUNT NAME`; ids are `<name>_<n>`."""

import asyncio
import sys

from faults.mischief import ALL, healthy
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from loading import children, two

KNOWN = {**ALL, "flaky": two(), "late": two(), "children": children.seen}


async def main(dsn: str, count: int, name: str) -> None:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        graph = KNOWN.get(name, healthy).compile(checkpointer=saver)
        config = {"metadata": {"workflow": name}}
        runs = [
            graph.ainvoke({"seen": []}, {**config, "configurable": {"thread_id": f"{name}_{one}"}})  # type: ignore[arg-type]
            for one in range(count)
        ]
        await asyncio.gather(*runs, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
