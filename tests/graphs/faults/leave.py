"""Leaves failed threads: `python -m faults.leave DSN WORKFLOW=COUNT…`; a thread's id is `<workflow>_<number>`."""

import asyncio
import sys

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from faults.mischief import ALL


async def main(dsn: str, wanted: list[str]) -> None:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        counts = {name: int(count) for name, _, count in (one.partition("=") for one in wanted)}
        graphs = {name: ALL[name].compile(checkpointer=saver) for name in counts}
        runs = [
            graph.ainvoke({"seen": []}, {"configurable": {"thread_id": f"{name}_{number}"}})
            for name, graph in graphs.items()
            for number in range(counts[name])
        ]
        await asyncio.gather(*runs, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
