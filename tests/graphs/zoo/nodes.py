"""What a node of the zoo does: log its start, take its time, log its end.

ZOO_LOG and ZOO_DELAY rule it: seconds, or a file that says how many, and may say another number at any time.
"""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig


def delay() -> float:
    given = os.environ.get("ZOO_DELAY", "0.05")
    return float(Path(given).read_text() if given.startswith("/") else given)


def log(node: str, edge: str, config: RunnableConfig) -> None:
    """Append one line in one write, so that lines of many processes do not mix."""
    path = os.environ.get("ZOO_LOG")
    if path is None:
        return
    line = {
        "thread": config["configurable"]["thread_id"],
        "node": node,
        "edge": edge,
        "at": time.time(),
        "pid": os.getpid(),
        "attempt": config.get("metadata", {}).get("attempt"),
        "tenant": config["configurable"].get("tenant"),
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def work(node: str, config: RunnableConfig) -> None:
    log(node, "start", config)
    time.sleep(delay())
    broken = os.environ.get("ZOO_BREAK")
    if broken and os.path.exists(broken) and node.startswith("fragile"):  # noqa: PTH110
        raise RuntimeError("the fragile node is broken, password=hunter2")
    log(node, "end", config)


async def awork(node: str, config: RunnableConfig) -> None:
    log(node, "start", config)
    await asyncio.sleep(delay())
    log(node, "end", config)


def sync_node(name: str) -> Any:
    def node(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        work(name, config)
        return {"seen": [name]}

    return node


def async_node(name: str) -> Any:
    async def node(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        await awork(name, config)
        return {"seen": [name]}

    return node
