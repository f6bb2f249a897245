"""`python dying_runs.py DSN N` begins N registered runs that stand in their third step, and waits to be killed.

It prints a line when all of them stand there.
"""

import asyncio
import sys
from typing import Any

from workloads.steps import State, four_steps

from resumed import AsyncWorkflowExecutor


async def main(dsn: str, count: int) -> None:
    reached, all_reached = 0, asyncio.Event()

    async def hold(state: State) -> State:
        nonlocal reached
        reached += 1
        if reached == count:
            all_reached.set()
        await asyncio.Event().wait()
        return state

    graph: Any = four_steps()
    graph.nodes["c"].runnable.afunc = hold
    async with AsyncWorkflowExecutor(dsn) as executor:
        compiled = graph.compile()
        runs = [executor.run("steps", compiled, {"steps": []}, thread_id=f"steps-{one}") for one in range(count)]
        tasks = [asyncio.create_task(run) for run in runs]
        await all_reached.wait()
        print("standing", flush=True)
        await asyncio.gather(*tasks)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
