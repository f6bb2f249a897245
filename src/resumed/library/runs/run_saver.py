"""Owns the checkpointer of an executor's run: it saves only through the session that holds the thread's lock.

Where that is lost a save waits until the lock is had again, and is made again: saving twice is saving once.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from resumed.judge.verdict import INTERRUPT
from resumed.library.runs.lock_session import MOST_CONFLICTS, LockSession
from resumed.library.runs.run_handle import RunHandle
from resumed.runtime.langgraph_internals import HookedPostgresSaver
from resumed.store.connection import Session, is_alive
from resumed.store.database_errors import is_conflict

T = TypeVar("T")
_AGAIN = 0.01


class RunSaver(HookedPostgresSaver):
    """Saves a registered run. An operation raises RunTakenOverError, or RunCancelledError, once the run is over."""

    def __init__(self, line: LockSession, hold: RunHandle, serde: SerializerProtocol | None) -> None:
        """Save for `hold`, whose lock is held on the session of `line`."""
        super().__init__(_of(hold), serde)
        self.lock = line.turn
        self._line = line
        self._hold = hold

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint; the first is the head that the run begins with."""
        loaded = await self._kept(lambda: super(RunSaver, self).aget_tuple(config))
        if loaded is not None and self._hold.left is None and _at_root(config):
            self._hold.left = _updated(loaded.checkpoint)
        return loaded

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Load the history of channels that are saved as differences."""
        load = super().aget_delta_channel_history
        return await self._kept(lambda: load(config=config, channels=channels))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint while the lock is held."""
        root = _at_root(config)
        if root:
            self._hold.saving = checkpoint["id"]
        saved = await self._kept(lambda: super(RunSaver, self).aput(config, checkpoint, metadata, new_versions))
        if root:
            self._hold.head, self._hold.saving = checkpoint["id"], None
            self._hold.left, self._hold.asked = _updated(checkpoint), False
        return saved

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save the writes of a task while the lock is held."""
        await self._kept(lambda: super(RunSaver, self).aput_writes(config, writes, task_id, task_path))
        if _at_root(config) and any(channel == INTERRUPT for channel, _ in writes):
            self._hold.asked = True

    @asynccontextmanager
    async def open_cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """Ask again in the session's turn: the lock may have been released while a save waited for that."""
        async with super().open_cursor(pipeline=pipeline) as cursor:
            self._hold.require()
            yield cursor

    async def _kept(self, work: Callable[[], Awaitable[T]]) -> T:
        conflicts = 0
        while True:
            session = await self._hold.secured()
            self.conn = session
            try:
                return await work()
            except psycopg.Error as error:
                await self._line.mend(session)
                conflicts += is_conflict(error)
                if is_conflict(error) and is_alive(session) and conflicts <= MOST_CONFLICTS:
                    await asyncio.sleep(_AGAIN * 2**conflicts * random.uniform(0.5, 1))  # noqa: S311 - jitter
                    continue
                self._hear(session, error)

    def _hear(self, session: Session, error: psycopg.Error) -> None:
        """Raise what is no fault of the session; where that is lost, the save is made again on the next one.

        What a living session refuses is the caller's to see, whether the run's values are to blame or a full disk.
        """
        self._line.hear(session, error)
        if self._hold.session is session:
            self._hold.lose()


def _at_root(config: RunnableConfig) -> bool:
    return not config["configurable"].get("checkpoint_ns")


def _updated(checkpoint: Checkpoint) -> tuple[str, ...] | None:
    updated = checkpoint.get("updated_channels")
    return tuple(updated) if updated is not None else None


def _of(hold: RunHandle) -> Any:
    return hold.session
