"""Runs each agent once for each call of its checkpointer, in a child that is killed with SIGKILL before that call.

`python -m agents.killer DSN PROCESSES SHARE FLOW…` does one in SHARE of the points, always the same ones; prints how
many each series has. A thread's id is `<flow>:<saver>:<durability>:<run>:<call>`; the runs before it came to their
ends, and call 0 is a run that was not killed.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from points.killer import deadly, killed_everywhere

from agents.flows import GO, Flow, compiled
from agents.registered import EVERY


@dataclass(frozen=True)
class Series:
    """One run of an agent with one saver and one durability; runs count from 0."""

    name: str
    saver: str
    durability: Any
    run: int

    @property
    def flow(self) -> Flow:
        return EVERY[self.name]

    def __str__(self) -> str:
        return f"{self.name}:{self.saver}:{self.durability}:{self.run}"

    def config(self, before: int) -> Any:
        return {"configurable": {"thread_id": f"{self}:{before}"}, "metadata": {"workflow": self.name}}


def all_series(names: list[str]) -> Iterator[Series]:
    for name in names:
        flow = EVERY[name]
        for saver in flow.savers:
            for durability in flow.durabilities:
                yield from (Series(name, saver, durability, run) for run in range(len(flow.replies) + 1))


async def run_async(dsn: str, series: Series, before: int) -> int:
    config, durability = series.config(before), series.durability
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver, series.flow.built() as built:
        graph, given = compiled(built, saver), GO
        for reply in series.flow.replies[: series.run]:
            await graph.ainvoke(given, config, durability=durability)
            given = reply.answer((await graph.aget_state(config)).interrupts)
        made = deadly(saver, before)
        await graph.ainvoke(given, config, durability=durability)
    return made[0]


async def run_sync(dsn: str, series: Series, before: int) -> int:
    """Run as an application does that is not asynchronous, apart from the building."""
    config, durability = series.config(before), series.durability
    async with series.flow.built() as built:
        with PostgresSaver.from_conn_string(dsn) as saver:
            graph, given = compiled(built, saver), GO
            for reply in series.flow.replies[: series.run]:
                await asyncio.to_thread(graph.invoke, given, config, durability=durability)
                given = reply.answer(graph.get_state(config).interrupts)
            made = deadly(saver, before)
            await asyncio.to_thread(graph.invoke, given, config, durability=durability)
    return made[0]


def run(dsn: str, series: Series, before: int) -> int:
    return asyncio.run((run_async if series.saver == "async" else run_sync)(dsn, series, before))


def part(dsn: str, series: list[Series], share: int) -> None:
    for one in series:
        os.write(1, f"{json.dumps({str(one): killed_everywhere(partial(run, dsn, one), str(one), share)})}\n".encode())


def main(dsn: str, processes: int, share: int, names: list[str]) -> int:
    gc.freeze()
    children = []
    for number in range(processes):
        child = os.fork()
        if not child:
            part(dsn, list(all_series(names))[number::processes], share)
            os._exit(0)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
