"""The checkpointers that LangGraph's tests are given: made as those that we hand out, each over journalled tables."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from oracle.journal import Journal
from resumed.library import connection_pools

# The journal of this process, and the schema of each checkpointer made over it.
PLACE: dict[str, Journal] = {}
OPEN: list[tuple[Any, str]] = []
ON_SAVE: list[Callable[[Any, Any], None]] = []


def source_of(saver: object) -> str | None:
    """Name the journalled schema in which a checkpointer saves; None for any other."""
    return getattr(saver, "oracle_source", None)


def _heard(saver: Any, config: Any) -> None:
    for hear in ON_SAVE:
        hear(saver, config)


class Heard(PostgresSaver):
    """Says when it has saved."""

    def put(self, config: Any, *arguments: Any) -> Any:
        saved = super().put(config, *arguments)
        _heard(self, config)
        return saved

    def put_writes(
        self, config: Any, writes: Any, task_id: str, task_path: str = ""
    ) -> None:  # it is asked for the path
        super().put_writes(config, writes, task_id, task_path)
        _heard(self, config)


class AsyncHeard(AsyncPostgresSaver):
    """Says when it has saved."""

    async def aput(self, config: Any, *arguments: Any) -> Any:
        saved = await super().aput(config, *arguments)
        _heard(self, config)
        return saved

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await super().aput_writes(config, writes, task_id, task_path)
        _heard(self, config)


class BothFaces(Heard):
    """A synchronous checkpointer that serves asynchronous graphs as well, as LangGraph's in memory does."""

    async def aget_tuple(self, config: Any) -> Any:
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(self, config: Any, **limits: Any) -> AsyncIterator[Any]:
        for found in await asyncio.to_thread(lambda: list(self.list(config, **limits))):
            yield found

    async def aput(self, *arguments: Any) -> Any:
        return await asyncio.to_thread(self.put, *arguments)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def aprune(self, *arguments: Any, **named: Any) -> None:
        await asyncio.to_thread(self.prune, *arguments, **named)

    async def aget_delta_channel_history(self, **named: Any) -> Any:
        return await asyncio.to_thread(lambda: self.get_delta_channel_history(**named))


def in_memory_no_more(serde: Any = None, **_: Any) -> BothFaces:
    """Stand in for `InMemorySaver()`; closed when the test ends."""
    journal = PLACE["journal"]
    source = journal.new_source()
    pool = connection_pools.pool(journal.target(source))
    saver = BothFaces(pool, serde=serde)
    saver.oracle_source = source  # type: ignore[attr-defined]
    OPEN.append((pool, source))
    return saver


@contextmanager
def journalled() -> Iterator[PostgresSaver]:
    journal = PLACE["journal"]
    source = journal.new_source()
    with connection_pools.pool(journal.target(source)) as pool:
        saver = Heard(pool)
        saver.oracle_source = source  # type: ignore[attr-defined]
        yield saver
    journal.drop(source)


@asynccontextmanager
async def ajournalled() -> AsyncIterator[AsyncPostgresSaver]:
    journal = PLACE["journal"]
    source = journal.new_source()
    async with connection_pools.async_saver(journal.target(source)) as handed_out:
        saver = AsyncHeard(handed_out.conn)
        saver.oracle_source = source  # type: ignore[attr-defined]
        yield saver
    journal.drop(source)


def close_left_open() -> None:
    while OPEN:
        pool, source = OPEN.pop()
        pool.close()
        PLACE["journal"].drop(source)
