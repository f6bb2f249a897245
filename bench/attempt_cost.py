"""What one attempt costs in its worker: CPU and round trips, beside a bare `ainvoke(None)`, in one process and run.

`python bench/attempt_cost.py [THREADS] [--profile]` starts a Postgres of its own. Threads stand before the last two of
four empty steps; 16 are resumed at once. A round trip is a statement that the driver waits for, or a whole pipeline.
Opening sessions is left out.
"""

import argparse
import asyncio
import cProfile
import pstats
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.pq import PipelineStatus
from psycopg_pool import AsyncConnectionPool
from resume_throughput import SAVER, config, gathered, prepare
from workloads.steps import four_steps

from resumed.demo.postgres import PrivateServer
from resumed.model import PolicyLimits
from resumed.runtime.attempt import run_attempt
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.node_threads import TrackedExecutor
from resumed.runtime.worker import registration_of
from resumed.store.connection import Target
from resumed.workflows.loaded_workflow import load_workflow
from resumed.workflows.workflow import Workflow

HOUR = timedelta(hours=1)
LIMITS = PolicyLimits(timedelta(0), 24 * HOUR, 5, 50, timedelta(0), HOUR, HOUR, 16)
waits = 0


def count_round_trips() -> None:
    """Count what the driver waits for outside of pipelines, and the ends of pipelines."""
    waited, left = psycopg.AsyncConnection.wait, psycopg.AsyncPipeline.__aexit__

    async def wait(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        in_pipeline = self.pgconn.pipeline_status != PipelineStatus.OFF
        return await waited(self, gen if in_pipeline else counted(gen), *args, **kwargs)

    async def aexit(self: Any, *error: Any) -> None:
        global waits  # noqa: PLW0603
        waits += 1
        await left(self, *error)

    psycopg.AsyncConnection.wait = wait  # type: ignore[method-assign]
    psycopg.AsyncPipeline.__aexit__ = aexit  # type: ignore[method-assign]


def counted(gen: Any) -> Any:
    """Count a call of the driver that has to wait at all."""
    global waits  # noqa: PLW0603
    try:
        wanted = next(gen)
        waits += 1
        while True:
            wanted = gen.send((yield wanted))
    except StopIteration as done:
        return done.value


async def bare(dsn: str, threads: int) -> None:
    async with AsyncConnectionPool(dsn, min_size=8, max_size=8, kwargs=SAVER, open=False) as pool:
        graph = four_steps().compile(checkpointer=AsyncPostgresSaver(pool))
        await gathered(threads, lambda name: graph.ainvoke(None, config(name)))


async def attempts(dsn: str, threads: int) -> None:
    executor = TrackedExecutor(64)
    asyncio.get_running_loop().set_default_executor(executor)
    graph = four_steps()
    workflow = load_workflow("steps", Workflow(graph=graph), graph)
    assert workflow is not None
    registration = registration_of(workflow, LIMITS)
    sessions = AttemptSessions(Target(dsn), "resumed attempt")
    context = WorkerContext(Target(dsn), sessions, "bench-1", 1000, executor, lambda _: None)

    async def one(thread: str) -> None:
        result = await run_attempt(AttemptRequest(thread, workflow, registration), context)
        assert result == "tried", result

    await gathered(threads, one)


def measured(name: str, work: Callable[[], Coroutine[Any, Any, None]], threads: int, *, profile: bool) -> None:
    profiler, before = cProfile.Profile(), waits
    began, used = time.perf_counter(), time.process_time()
    if profile:
        profiler.enable()
    asyncio.run(work())
    profiler.disable()
    used, took = time.process_time() - used, time.perf_counter() - began
    trips = (waits - before) / threads
    print(f"{name:8} {threads / took:7.1f}/s  CPU {1000 * used / threads:5.2f} ms  {trips:5.1f} round trips")
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        pstats.Stats(profiler).sort_stats("cumtime").print_stats(90)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("threads", type=int, nargs="?", default=500)
    asked.add_argument("--profile", action="store_true")
    given = asked.parse_args()
    count_round_trips()
    with PrivateServer() as server:
        for name in ("prepared", "bare", "attempt"):
            with psycopg.connect(server.dsn(), autocommit=True) as session:
                session.execute(f"create database {name}" + (" template prepared" if name != "prepared" else ""))
            if name == "prepared":
                asyncio.run(prepare(server.dsn(name), given.threads))
        measured("bare", lambda: bare(server.dsn("bare"), given.threads), given.threads, profile=False)
        measured(
            "attempt", lambda: attempts(server.dsn("attempt"), given.threads), given.threads, profile=given.profile
        )


if __name__ == "__main__":
    main()
