"""Timers: what takes longer than its interval is called again when it is done, and nobody is warned of it."""

import asyncio
import logging
from datetime import timedelta

import pytest

from resumed.daemon.scheduler import ScheduledCall, run_scheduler

MOMENT = timedelta(milliseconds=10)


async def test_a_call_that_outlasts_its_interval_is_never_made_twice_at_once_and_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running, most, rounds, enough = 0, 0, 0, asyncio.Event()

    async def slow() -> None:
        nonlocal running, most, rounds
        running, rounds = running + 1, rounds + 1
        most = max(most, running)
        await asyncio.sleep(5 * MOMENT.total_seconds())
        running -= 1
        if rounds == 3:
            enough.set()

    async with run_scheduler([ScheduledCall(slow, MOMENT, timedelta(0))]):
        await enough.wait()
    assert most == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_call_that_raises_is_reported_and_made_again(caplog: pytest.LogCaptureFixture) -> None:
    rounds, enough = 0, asyncio.Event()

    async def failing() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            enough.set()
        raise ValueError("ours")

    async with run_scheduler([ScheduledCall(failing, MOMENT, timedelta(0))]):
        await enough.wait()
    assert next(record.levelname for record in caplog.records) == "ERROR"
