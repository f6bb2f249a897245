"""Owns the timers: calls functions at intervals for the length of a block. No other module makes timers."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler

_CHECK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """A function, how often it is called, and how long after the start it is called first."""

    function: Callable[[], object]
    every: timedelta
    first: timedelta


@asynccontextmanager
async def run_scheduler(calls: list[ScheduledCall]) -> AsyncIterator[None]:
    """Call these functions at their intervals for the length of a block; never one twice at once.

    A call that outlasts its interval is the next one as well. Metrics show it; APScheduler would log each time.
    """
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler = AsyncIOScheduler(timezone=UTC)
    options = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
    now = datetime.now(UTC)
    for call in calls:
        every = call.every.total_seconds()
        scheduler.add_job(call.function, "interval", seconds=every, next_run_time=now + call.first, **options)
    scheduler.start()
    watching = asyncio.create_task(_watch_clock(scheduler))
    try:
        yield
    finally:
        watching.cancel()
        scheduler.shutdown(wait=False)


async def _watch_clock(scheduler: AsyncIOScheduler) -> None:
    """Call everything at once when the wall clock is set back: APScheduler would stand still until it catches up."""
    offset = time.time() - time.monotonic()
    while True:
        await asyncio.sleep(_CHECK_EVERY)
        before, offset = offset, time.time() - time.monotonic()
        if offset < before - _CHECK_EVERY:
            for job in scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
