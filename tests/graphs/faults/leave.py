"""Leaves failed threads: `python -m faults.leave DSN COUNT WORKFLOW…`; a thread's id is `<workflow>_<number>`."""

import asyncio
import sys

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from faults.mischief import ALL


async def main(dsn: str, count: int, names: list[str]) -> None:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        graphs = {name: ALL[name].compile(checkpointer=saver) for name in names}
        runs = [
            graph.ainvoke({"seen": []}, {"configurable": {"thread_id": f"{name}_{number}"}})
            for name, graph in graphs.items()
            for number in range(count)
        ]
        await asyncio.gather(*runs, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
