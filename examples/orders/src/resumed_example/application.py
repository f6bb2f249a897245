"""The application itself: starts threads, answers questions, and reads what became of them.

It knows nothing of resumed but two words of metadata: which workflow a thread is of, and of which version.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.pregel import Pregel
from langgraph.types import Command
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from resumed_example import approvals, documents, effects, invoices, orders

_SESSIONS = 8
_MODULES = {"orders": orders, "documents": documents, "invoices": invoices, "approvals": approvals}


@dataclass(frozen=True)
class Thread:
    """One thread: its number says which workflow it is of and what it is about."""

    number: int

    @property
    def workflow(self) -> str:
        """The name of its workflow; the four take turns."""
        return list(_MODULES)[(self.number - 1) % len(_MODULES)]

    @property
    def thread_id(self) -> str:
        """Its id, which begins with the name of its workflow."""
        return f"{self.workflow}_{self.number:02}"

    @property
    def config(self) -> Any:
        """What every call on it is given."""
        policy = _MODULES[self.workflow].workflow
        metadata = {"workflow": self.workflow, "version": policy.version}
        return {"configurable": {"thread_id": self.thread_id}, "metadata": metadata}

    def graph(self, saver: BaseCheckpointSaver[Any]) -> Any:
        """Its workflow, saving with `saver`."""
        graph = _MODULES[self.workflow].workflow.graph
        if isinstance(graph, Pregel):
            return graph.copy(update={"checkpointer": saver})
        return graph.compile(checkpointer=saver)

    async def run(self, saver: BaseCheckpointSaver[Any]) -> None:
        """Begin it, and run it to its end or to its question."""
        request = _MODULES[self.workflow].request(self.number)
        await self.graph(saver).ainvoke(request, self.config, durability="sync")

    async def answer(self, saver: BaseCheckpointSaver[Any], text: str) -> None:
        """Answer its question, and run it to its end."""
        await self.graph(saver).ainvoke(Command(resume=text), self.config, durability="sync")

    async def state(self, saver: BaseCheckpointSaver[Any]) -> dict[str, Any] | None:
        """Read where it stands: its head, what is next, its questions and values; None where it saved nothing."""
        async for one in self.graph(saver).aget_state_history(self.config, limit=1):
            questions = [asked.value for task in one.tasks for asked in task.interrupts]
            head = one.config["configurable"]["checkpoint_id"]
            return {"head": head, "next": list(one.next), "questions": questions, "values": one.values}
        return None


def first(number: int, count: int) -> list[Thread]:
    """Name `count` threads from `number` on."""
    return [Thread(one) for one in range(number, number + count)]


def of_id(thread_id: str) -> Thread | None:
    """Find the thread of this id; None where no thread has it."""
    number = thread_id.rpartition("_")[2]
    thread = Thread(int(number)) if number.isdecimal() else None
    return thread if thread is not None and thread.thread_id == thread_id else None


@asynccontextmanager
async def saving(dsn: str) -> AsyncIterator[AsyncPostgresSaver]:
    """Open a saver over a pool, as applications do."""
    options = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    async with AsyncConnectionPool(dsn, min_size=1, max_size=_SESSIONS, kwargs=options, open=False) as pool:
        yield AsyncPostgresSaver(pool)


async def set_up(dsn: str) -> None:
    """Make LangGraph's tables; the application that owns them does it once."""
    async with saving(dsn) as saver:
        await saver.setup()


async def run(dsn: str, threads: list[Thread]) -> dict[str, BaseException]:
    """Run these threads, each beginning a little after the one before; gives what those that failed raised."""
    # A node that blocks has a thread of its own for as long: forty at a time must not wait for each other.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(threads)))
    async with saving(dsn) as saver:
        ended = await asyncio.gather(
            *(_begin(one, place, saver) for place, one in enumerate(threads)), return_exceptions=True
        )
    pairs = zip(threads, ended, strict=True)
    return {thread.thread_id: raised for thread, raised in pairs if isinstance(raised, BaseException)}


async def _begin(thread: Thread, place: int, saver: BaseCheckpointSaver[Any]) -> None:
    await asyncio.sleep(place * effects.delay() / 6)
    await thread.run(saver)


async def undisturbed(threads: list[Thread]) -> dict[str, Any]:
    """Run these threads in memory, where nobody kills them, and read where they stand."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(threads)))
    saver = InMemorySaver()
    await asyncio.gather(*(one.run(saver) for one in threads))
    return {one.thread_id: await one.state(saver) for one in threads}


async def states(dsn: str, threads: list[Thread]) -> dict[str, Any]:
    """Read where these threads stand."""
    async with saving(dsn) as saver:
        return {one.thread_id: await one.state(saver) for one in threads}


async def answer(dsn: str, thread: Thread, text: str) -> None:
    """Answer the question of a thread."""
    async with saving(dsn) as saver:
        await thread.answer(saver, text)
