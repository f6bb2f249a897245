"""What a node does to the world: a line at its start, some time, a line at its end.

EXAMPLE_EFFECTS names the file of these lines, EXAMPLE_DELAY the time (seconds), and while the file named by
EXAMPLE_BREAK exists, whatever charges a customer raises.
"""

import asyncio
import json
import os
import time
from pathlib import Path

from langchain_core.runnables import RunnableConfig

_CHARGING = "charge"


class CardRefusedError(Exception):
    """The bank refuses every card for now."""


async def work(node: str, config: RunnableConfig) -> None:
    """Do the side effects of an asynchronous node."""
    tell(node, "start", config)
    await asyncio.sleep(delay())
    _charge(node)
    tell(node, "end", config)


def work_blocking(node: str, config: RunnableConfig) -> None:
    """Do the side effects of a synchronous node."""
    tell(node, "start", config)
    time.sleep(delay())
    _charge(node)
    tell(node, "end", config)


def tell(node: str, edge: str, config: RunnableConfig) -> None:
    """Append one line in one write, so that the lines of several processes never mix."""
    path = os.environ.get("EXAMPLE_EFFECTS")
    if not path:
        return
    thread = config["configurable"]["thread_id"]
    line = {"thread": thread, "node": node, "edge": edge, "at": time.time(), "pid": os.getpid()}
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def delay() -> float:
    """Say how long a node takes, in seconds."""
    return float(os.environ.get("EXAMPLE_DELAY") or "0.3")


def _charge(node: str) -> None:
    broken = os.environ.get("EXAMPLE_BREAK")
    if node == _CHARGING and broken and Path(broken).exists():
        raise CardRefusedError("the bank refuses every card")  # noqa: EM101
