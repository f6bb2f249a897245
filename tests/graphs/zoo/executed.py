"""The application with the executor: `python -m zoo.executed DSN COUNT WORKFLOW…` runs COUNT threads of each workflow.

With ZOO_SUBMIT it stores the runs and writes a thread's id into that file once it has it. ZOO_DIE=`before:K` or
`after:K` kills it around the K-th statement that it sends after the executor is open, or around the first one with the
text K; with ZOO_SQL it writes each down. ZOO_GIVEN is another input, as JSON; ZOO_ANSWER a person's answer, likewise.
With ZOO_TRACE each thread runs in a span of the application, and the ids of its trace go into that file.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langgraph.types import Command
from psycopg import AsyncCursor

from resumed.library.executor import AsyncWorkflowExecutor
from zoo.app import compiled
from zoo.graphs import INPUTS


def watch_statements() -> None:
    """Count statements where they are sent, whoever sends them, and die around the one that is named."""
    edge, _, wanted = os.environ.get("ZOO_DIE", "").partition(":")
    sent = 0

    def watch(name: str) -> Any:
        original = getattr(AsyncCursor, name)

        async def watched(self: Any, query: Any, *rest: Any, **named: Any) -> Any:
            nonlocal sent
            text = " ".join((query.decode() if isinstance(query, bytes) else str(query)).split())
            if text in ("select 1", "SELECT 1") or "where run_id = any" in text:
                return await original(self, query, *rest, **named)
            sent += 1
            mine = str(sent) == wanted or (not wanted.isdigit() and bool(wanted) and wanted in text)
            if place := os.environ.get("ZOO_SQL"):
                with Path(place).open("a") as file:
                    file.write(f"{sent} {text[:90]}\n")
            if mine and edge == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            done = await original(self, query, *rest, **named)
            if mine and edge == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        setattr(AsyncCursor, name, watched)

    watch("execute")
    watch("executemany")


async def main(dsn: str, count: int, names: list[str]) -> None:
    first = int(os.environ.get("ZOO_FIRST", "0"))
    async with AsyncWorkflowExecutor(dsn) as executor:
        if "ZOO_SQL" in os.environ or "ZOO_DIE" in os.environ:
            watch_statements()
        print("started", flush=True)
        threads = [(name, f"{name}_{number}") for number in range(first, first + count) for name in names]
        if place := os.environ.get("ZOO_SUBMIT"):
            for name, thread in threads:
                done = await executor.submit(name, INPUTS.get(name, {"seen": []}), thread_id=thread)
                with Path(place).open("a") as file:
                    file.write(done + "\n")
        else:
            await asyncio.gather(*(run(executor, name, thread) for name, thread in threads))
    print("done", flush=True)


async def run(executor: AsyncWorkflowExecutor, name: str, thread: str) -> None:
    given: Any = INPUTS.get(name, {"seen": []})
    if other := os.environ.get("ZOO_GIVEN"):
        given = json.loads(other)
    if answer := os.environ.get("ZOO_ANSWER"):
        given = Command(resume=json.loads(answer))
    config: Any = {"configurable": {"tenant": "acme"}}
    with span_of(thread):
        await executor.run(name, compiled(name, executor.checkpointer), given, thread_id=thread, config=config)


@contextmanager
def span_of(thread: str) -> Iterator[None]:
    if not (place := os.environ.get("ZOO_TRACE")):
        yield
        return
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - most applications do not trace

    with TracerProvider().get_tracer("zoo").start_as_current_span(thread) as span:
        context = span.get_span_context()
        with Path(place).open("a") as file:
            file.write(f"{thread} {context.trace_id:032x} {context.span_id:016x}\n")
        yield


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
