"""The agents as their application registers them, `agents.registered:<flow>`; those with a session as factories."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from agents.flows import FLOWS
from agents.shapes import in_session
from agents.tools import client as open_client
from agents.tools import tool_session

EVERY = {**FLOWS}


@asynccontextmanager
async def session(checkpointer: Any) -> AsyncIterator[Any]:
    """Open the session of the tools for as long as the worker has the workflow."""
    async with tool_session() as opened:
        yield in_session(opened.tools())


@contextmanager
def client(checkpointer: Any) -> Iterator[Any]:
    with open_client() as opened:
        yield in_session(opened.tools())


def __getattr__(name: str) -> Any:
    if name not in EVERY:
        raise AttributeError(name)
    return EVERY[name].make()
