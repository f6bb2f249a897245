"""LangGraph's conformance suite for checkpointers over those that we hand out, and over those of a run and an attempt.

`python -m oracle.conformance DSN`, with the suite's folder on the path; prints one JSON object a checkpointer.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from oracle.savers import BothFaces
from resumed import AsyncCheckpointerManager, AsyncWorkflowExecutor, CheckpointerManager
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store import schema
from resumed.store.connection import Target, open_session

# An attempt saves a root checkpoint only while its parent is the head, by design (docs/reliability.md).
BY_DESIGN = {"FencedSaver": 2}
Maker = Callable[[str], AsyncIterator[Any]]


class Nothing(TypedDict):
    done: bool


async def manager(dsn: str) -> AsyncIterator[Any]:
    async with AsyncCheckpointerManager.get_or_create(dsn) as managed:
        yield await managed.get_checkpointer()


async def sync_manager(dsn: str) -> AsyncIterator[Any]:
    """The suite is asynchronous: the same checkpointer, each call in a thread."""
    managed = await asyncio.to_thread(CheckpointerManager.get_or_create, dsn)
    saver = await asyncio.to_thread(managed.get_checkpointer)
    yield BothFaces(saver.conn, serde=saver.serde)
    await asyncio.to_thread(managed.close)


async def executor(dsn: str) -> AsyncIterator[Any]:
    async with AsyncWorkflowExecutor(dsn) as opened_executor:
        yield opened_executor.checkpointer


async def attempt(dsn: str) -> AsyncIterator[Any]:
    async with open_session(Target(dsn)) as session:
        yield FencedSaver(session, "")


async def of_a_run(dsn: str) -> AsyncIterator[Any]:
    """The checkpointer of an executor's run, taken from inside a node of one, while it holds its thread's lock."""
    lent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    given_back = asyncio.Event()

    async def node(_: Nothing, config: RunnableConfig) -> dict[str, bool]:
        lent.set_result(config["configurable"]["__pregel_checkpointer"])
        await given_back.wait()
        return {"done": True}

    graph = StateGraph(Nothing).add_node("lend", node).add_edge(START, "lend").add_edge("lend", END).compile()
    async with AsyncWorkflowExecutor(dsn) as opened_executor:
        running = asyncio.ensure_future(opened_executor.run("conformance", graph, {"done": False}))
        await asyncio.wait({running, lent}, return_when=asyncio.FIRST_COMPLETED)
        yield lent.result()
        given_back.set()
        await running


async def examined(name: str, make: Maker, dsn: str) -> dict[str, Any]:
    async def made() -> AsyncIterator[Any]:
        async for saver in make(dsn):
            yield saver

    report = await validate(checkpointer_test(name=name)(made))
    failures = [failure for result in report.results.values() for failure in result.failures]
    passed = sum(result.tests_passed for result in report.results.values())
    failed = sum(result.tests_failed for result in report.results.values())
    return {
        "kind": "conformance",
        "saver": name,
        "passed": passed,
        "failed": failed,
        "allowed": BY_DESIGN.get(name, 0),
        "skipped": [capability for capability, result in report.results.items() if not result.detected],
        "failures": [str(failure)[:300] for failure in failures],
    }


async def main(dsn: str) -> None:
    """Examine each checkpointer."""
    async with AsyncCheckpointerManager.get_or_create(dsn) as managed:
        await managed.setup()
    await schema.migrate(Target(dsn))
    makers: dict[str, Maker] = {
        "AsyncWorkflowExecutor.checkpointer": executor,
        "AsyncCheckpointerManager": manager,
        "CheckpointerManager": sync_manager,
        "RunSaver": of_a_run,
        "FencedSaver": attempt,
    }
    for name, make in makers.items():
        print(json.dumps(await examined(name, make, dsn)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
