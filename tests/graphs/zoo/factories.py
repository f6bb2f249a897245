"""Workflows that are made by calling: what they open stays open as long as their worker lives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from zoo.graphs import fan, linear


async def called(checkpointer: Any) -> Any:
    return linear.compile(checkpointer=checkpointer)


@asynccontextmanager
async def entered(checkpointer: Any) -> AsyncIterator[Any]:
    yield fan.compile(checkpointer=checkpointer)


def dying(checkpointer: Any) -> Any:
    import os  # noqa: PLC0415 - what it needs for its one deed

    os._exit(4)
