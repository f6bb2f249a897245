"""Forks while executors are open: `python -m bound.forked DSN` has parent and child call them, and tells what came."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from bound import graphs
from resumed import AsyncWorkflowExecutor, WorkflowExecutor


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def attempted(call: Callable[[], Any]) -> str:
    try:
        return str(call())
    except Exception as error:  # noqa: BLE001 - it is told
        return f"{type(error).__name__}: {error}"


def child(*calls: Callable[[], Any], leave: Callable[[int], Any] = sys.exit) -> None:
    """Make the calls in a forked child, which leaves as a program does that ends; one of a running loop cannot."""
    pid = os.fork()
    if not pid:
        for call in calls:
            print("child", attempted(call), flush=True)
        leave(0)
    os.waitpid(pid, 0)


def main(dsn: str) -> None:
    with WorkflowExecutor(dsn) as executor:
        bound = executor.bind("queued", graphs.queued)
        bound.invoke({"seen": []}, config("queued_before"))
        child(
            lambda: bound.invoke({"seen": []}, config("queued_child")),
            lambda: asyncio.run(bound.ainvoke({"seen": []}, config("queued_child"))),
            lambda: executor.submit("queued", {"seen": []}, thread_id="queued_child"),
        )
        print("parent", bound.invoke({"seen": []}, config("queued_after")), flush=True)


async def amain(dsn: str) -> None:
    async with AsyncWorkflowExecutor(dsn) as executor:
        bound = executor.bind("queued", graphs.queued)
        await bound.ainvoke({"seen": []}, config("told_before"))
        child(lambda: bound.invoke({"seen": []}, config("told_child")), leave=os._exit)
        print("parent", await bound.ainvoke({"seen": []}, config("told_after")), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
    asyncio.run(amain(sys.argv[1]))
