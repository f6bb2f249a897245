"""Owns how much of a large result is worked at without a break: the loop has other things to do meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

_SLICE = 100


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items one by one and let other tasks run after every 100; each may take a tenth of a millisecond."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % _SLICE == 0:
            await asyncio.sleep(0)
