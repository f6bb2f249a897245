"""What a registered run costs: `.run()` against `graph.ainvoke` with a plain pooled saver, on a three-node graph.

`python bench/run_overhead.py [ROUNDS]` starts a Postgres of its own. Both take turns in one process, so that what else
the machine does hits both; the figure is the ratio of the medians.
"""

import asyncio
import sys
import time
import uuid
from statistics import median, quantiles
from typing import Any, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from resumed import AsyncWorkflowExecutor
from resumed.demo.postgres import PrivateServer
from resumed.store import schema
from resumed.store.connection import Target


class State(TypedDict):
    steps: list[str]


def three_nodes() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    before = START
    for name in ("a", "b", "c"):

        async def node(state: State, name: str = name) -> State:
            return {"steps": [*state["steps"], name]}

        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


async def timed(call: Any) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


async def measure(dsn: str, rounds: int, at_once: int) -> tuple[list[float], list[float]]:
    options = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    async with (
        AsyncConnectionPool(dsn, min_size=4, max_size=4, kwargs=options, open=False) as pool,
        AsyncWorkflowExecutor(dsn) as executor,
    ):
        graph = three_nodes().compile(checkpointer=AsyncPostgresSaver(pool))

        async def plain(_: int) -> float:
            config: Any = {"configurable": {"thread_id": uuid.uuid4().hex}}
            return await timed(graph.ainvoke({"steps": []}, config, durability="sync"))

        async def registered(_: int) -> float:
            return await timed(executor.run("bench", graph, {"steps": []}))

        found: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds + 5):
            for place, one in zip(found, (plain, registered), strict=True):
                taken = await asyncio.gather(*(one(number) for number in range(at_once)))
                if turn >= 5:  # what is made once
                    place.extend(taken)
        return found


async def main(rounds: int) -> None:
    with PrivateServer() as server:
        await schema.migrate(Target(server.dsn()))
        for at_once in (1, 8):
            plain, registered = await measure(server.dsn(), rounds, at_once)
            for name, times in (("ainvoke", plain), (".run()", registered)):
                print(f"{at_once} at once  {name:8} median {median(times) * 1000:6.2f} ms  p90 "
                      f"{quantiles(times, n=10)[8] * 1000:6.2f} ms")  # fmt: skip
            print(f"{at_once} at once  ratio {median(registered) / median(plain):.3f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
