"""Runs each flow once for each call of its checkpointer, in a child that is killed with SIGKILL before that call.

`python -m points.killer DSN PROCESSES SHARE [EVERY]` does one in SHARE of the points of one in EVERY series, always the
same ones; prints how many each series of runs has. A thread's id is `<flow>:<saver>:<durability>:<k>`; where k is 0 it
came to its end.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from points.flows import FLOWS, Flow
from points.shapes import APPLICATION

ARRIVAL = 0.02  # seconds in which earlier calls that are under way arrive; at every other point they may be cut off
CALLS = ("put", "put_writes", "aput", "aput_writes")


@dataclass(frozen=True)
class Series:
    """One flow with one saver and one durability."""

    name: str
    saver: str
    durability: Any

    @property
    def flow(self) -> Flow:
        return FLOWS[self.name]

    def __str__(self) -> str:
        return f"{self.name}:{self.saver}:{self.durability}"

    def config(self, before: int) -> Any:
        return {"configurable": {"thread_id": f"{self}:{before}"}, "metadata": {"workflow": self.name}}


def all_series() -> Iterator[Series]:
    for name, flow in FLOWS.items():
        for saver in flow.savers:
            for durability in flow.durabilities:
                yield Series(name, saver, durability)


def deadly(saver: Any, before: int) -> list[int]:
    """Have the process killed before the call of this number; gives the count of calls."""
    made = [0]

    def watched(call: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            made[0] += 1
            if made[0] == before:
                time.sleep(before % 2 * ARRIVAL)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted

    for name in CALLS:
        if name in type(saver).__dict__:
            setattr(saver, name, watched(getattr(saver, name)))
    return made


async def run_async(dsn: str, series: Series, before: int) -> int:
    flow, config = series.flow, series.config(before)
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        graph = flow.compiled(saver)
        for given in flow.earlier:
            try:
                await graph.ainvoke(given, config, durability=series.durability, interrupt_before=flow.stops)
            except ValueError:
                continue
        made = deadly(saver, before)
        try:
            await graph.ainvoke(flow.given, config, durability=series.durability)
        except ValueError:
            if not flow.raises:
                raise
    return made[0]


def run_sync(dsn: str, series: Series, before: int) -> int:
    flow, config = series.flow, series.config(before)
    with PostgresSaver.from_conn_string(dsn) as saver:
        graph = flow.compiled(saver)
        for given in flow.earlier:
            try:
                graph.invoke(given, config, durability=series.durability, interrupt_before=flow.stops)
            except ValueError:
                continue
        made = deadly(saver, before)
        try:
            graph.invoke(flow.given, config, durability=series.durability)
        except ValueError:
            if not flow.raises:
                raise
    return made[0]


def run(dsn: str, series: Series, before: int) -> int:
    return asyncio.run(run_async(dsn, series, before)) if series.saver == "async" else run_sync(dsn, series, before)


def killed(runs: Callable[[int], int], name: str, before: int) -> bool:
    """Run in a child that is killed before this call; return whether it came to that."""
    child = os.fork()
    if not child:
        runs(before)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{name}:{before} ended with {status}")
    return status != 0


def killed_everywhere(runs: Callable[[int], int], name: str, share: int) -> tuple[int, int]:
    """Run it whole, then kill it at each of its points that belong to the sample; return how many of how many.

    `runs` takes the number of the call before which it is killed, 0 for none, and returns how many calls it made.
    """
    calls = runs(0)
    sample = [k for k in range(1, calls + 1) if zlib.crc32(f"{name}:{k}".encode()) % share == 0]
    return sum(killed(runs, name, k) for k in sample), calls


def part(dsn: str, mine: list[Series], share: int) -> None:
    """Do these series, in a process of their own."""
    for series in mine:
        told = {str(series): killed_everywhere(partial(run, dsn, series), str(series), share)}
        os.write(1, f"{json.dumps(told)}\n".encode())


def main(dsn: str, processes: int, share: int, every: int = 1) -> int:
    os.environ[APPLICATION] = "1"
    gc.freeze()
    children = []
    for number in range(processes):
        child = os.fork()
        if not child:
            part(dsn, list(all_series())[::every][number::processes], share)
            os._exit(0)
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
