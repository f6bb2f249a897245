"""Leaves by the front door: a task of its context, and its callable's thread, ask the interpreter to exit."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loading import graph


async def leave() -> None:
    await asyncio.sleep(1)
    sys.exit(0)


@asynccontextmanager
async def seen(checkpointer: Any) -> AsyncIterator[Any]:
    leaving = asyncio.ensure_future(leave())
    yield graph().compile(checkpointer=checkpointer)
    leaving.cancel()
