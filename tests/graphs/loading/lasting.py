"""A context that does not end when it is left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loading import two


@asynccontextmanager
async def seen(checkpointer: Any) -> AsyncIterator[Any]:
    yield two().compile(checkpointer=checkpointer)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
