"""A context whose background task dies a while after it was entered, and takes the task that entered it along."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from loading import two


async def listen() -> None:
    await anyio.sleep(float(os.environ.get("FLAKY_AFTER", "2")))
    raise ConnectionError("the broker closed the connection, token=hunter2")


@asynccontextmanager
async def seen(checkpointer: Any) -> AsyncIterator[Any]:
    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        try:
            yield two().compile(checkpointer=checkpointer)
        finally:
            group.cancel_scope.cancel()
