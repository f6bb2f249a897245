"""`python dbos_app.py start DSN N` begins N workflows that stop in their third step; `recover DSN N` finishes them.

Each prints a line of JSON, when all are there and before it launches, and runs until it is killed.
"""

import asyncio
import json
import sys

from dbos import DBOS

HOLD = sys.argv[1] == "start"
COUNT = int(sys.argv[3])
DBOS(
    config={
        "name": "bench",
        "system_database_url": sys.argv[2],
        "executor_id": "bench",
        "application_version": "1",
        "log_level": "ERROR",
        "sys_db_pool_size": 20,
    }
)
reached = 0


@DBOS.step()
async def step(steps: list[str], name: str) -> list[str]:
    global reached  # noqa: PLW0603
    if HOLD and name == "c":
        reached += 1
        await asyncio.Event().wait()
    return [*steps, name]


@DBOS.workflow()
async def four_steps() -> list[str]:
    steps: list[str] = []
    for name in ("a", "b", "c", "d"):
        steps = await step(steps, name)
    return steps


async def start() -> None:
    DBOS.launch()
    gate = asyncio.Semaphore(16)

    async def one() -> None:
        async with gate:
            await DBOS.start_workflow_async(four_steps)

    await asyncio.gather(*(one() for _ in range(COUNT)))
    while reached < COUNT:
        await asyncio.sleep(0.05)
    print(json.dumps({"reached": reached}), flush=True)
    await asyncio.Event().wait()


async def recover() -> None:
    print(json.dumps({"launching": True}), flush=True)
    DBOS.launch()
    await asyncio.Event().wait()


asyncio.run(start() if HOLD else recover())
