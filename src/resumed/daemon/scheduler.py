"""Makes timers: the only room that does. What they ring for is told in a list of rounds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

_LOOK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """Work that comes round again, and how long after the start it first does."""

    work: Callable[[], object]
    every: timedelta
    first: timedelta


@asynccontextmanager
async def running_scheduler(rounds: list[PeriodicTask]) -> AsyncIterator[None]:
    """Ring for these rounds for the length of a block, never twice at once for one."""
    scheduler = AsyncIOScheduler(timezone=UTC)
    options = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
    now = datetime.now(UTC)
    for one in rounds:
        every = one.every.total_seconds()
        scheduler.add_job(one.work, "interval", seconds=every, next_run_time=now + one.first, **options)
    scheduler.start()
    watching = asyncio.create_task(_watch_the_clock(scheduler))
    try:
        yield
    finally:
        watching.cancel()
        scheduler.shutdown(wait=False)


async def _watch_the_clock(scheduler: AsyncIOScheduler) -> None:
    """Timers go by the wall clock: when that is set back, have them ring now instead of standing still."""
    offset = time.time() - time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        before, offset = offset, time.time() - time.monotonic()
        if offset < before - _LOOK_EVERY:
            _ring(scheduler)


def _ring(scheduler: AsyncIOScheduler) -> None:
    for job in scheduler.get_jobs():
        job.modify(next_run_time=datetime.now(UTC))
