"""The application: starts COUNT threads of each workflow with a call full of scalars.

`python -m calls.app DSN COUNT WORKFLOW…`; a thread's id is `<workflow>_<number>`.
"""

import asyncio
import sys
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from calls.graphs import ALL, Tenant

API_KEY = "sk-live-hunter2"
CALL: dict[str, Any] = {
    "tenant": "acme",
    "retries": 3,
    "share": 0.5,
    "dry": True,
    "api_key": API_KEY,
    "delta_days": 7,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "baggage": "customer=17",
    "langsmith-trace": "20261126T000000000000Z00000000-0000-0000-0000-000000000001",
    "langsmith-project": "shop",
    "checkpoint_mine": "left out by LangGraph's prefix",
    "listed": ["no", "scalar"],
}


async def start(name: str, number: int, saver: Any) -> None:
    config: Any = {
        "configurable": {**CALL, "thread_id": f"{name}_{number}"},
        "metadata": {"workflow": name, "version": "1", "owner": "ann"},
        "recursion_limit": 100_000,
    }
    graph = ALL[name].graph.compile(checkpointer=saver)
    await graph.ainvoke({"seen": []}, config, durability="sync", context=Tenant("the application's"))


async def main(dsn: str, count: int, names: list[str]) -> None:
    options = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    async with AsyncConnectionPool(dsn, min_size=4, max_size=4, kwargs=options, open=False) as pool:
        saver = AsyncPostgresSaver(pool)
        await asyncio.gather(*(start(name, number, saver) for number in range(count) for name in names))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
