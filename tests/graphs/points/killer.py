"""Runs each flow once for each call of its checkpointer, in a child that is killed with SIGKILL before that call.

`python -m points.killer DSN`; prints how many calls each flow made. A thread's id is `<flow>:<saver>:<durability>:<k>`.
"""

import asyncio
import json
import os
import signal
import sys
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from points.flows import FLOWS, compiled, given

CALLS = ("put", "put_writes", "aput", "aput_writes")


def deadly(saver: Any, before: int) -> list[int]:
    """Have the process killed before the call of this number; gives the count of calls."""
    made = [0]

    def watched(call: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            made[0] += 1
            if made[0] == before:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    for name in CALLS:
        if name in type(saver).__dict__:
            setattr(saver, name, watched(getattr(saver, name)))
    return made


async def run_async(dsn: str, name: str, durability: Any, before: int) -> int:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        made = deadly(saver, before)
        await compiled(name, saver).ainvoke(
            given(name), config(name, "async", durability, before), durability=durability
        )
    return made[0]


def run_sync(dsn: str, name: str, durability: Any, before: int) -> int:
    with PostgresSaver.from_conn_string(dsn) as saver:
        made = deadly(saver, before)
        compiled(name, saver).invoke(given(name), config(name, "sync", durability, before), durability=durability)
    return made[0]


def config(name: str, saver: str, durability: str, before: int) -> Any:
    return {
        "configurable": {"thread_id": f"{name}:{saver}:{durability}:{before}"},
        "metadata": {"workflow": name},
    }


def in_child(dsn: str, name: str, saver: str, durability: str, before: int) -> int | None:
    """Run in a child; gives the number of calls, or None where it was killed before it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        made = (
            run_sync(dsn, name, durability, before)
            if saver == "sync"
            else asyncio.run(run_async(dsn, name, durability, before))
        )
        os.write(writing, str(made).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        said = answers.read()
    os.waitpid(child, 0)
    return int(said) if said else None


def main(dsn: str) -> None:
    points = {}
    for name in FLOWS:
        for saver in ("sync", "async"):
            if saver == "sync" and name == "asynchronous":
                continue
            for durability in ("sync", "async"):
                before, made = 1, None
                while made is None:
                    made = in_child(dsn, name, saver, durability, before)
                    before += 1
                points[f"{name}:{saver}:{durability}"] = before - 1
    print(json.dumps(points))


if __name__ == "__main__":
    main(sys.argv[1])
