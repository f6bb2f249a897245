"""Owns the checkpointer of an executor's run: it saves only through the session that holds the thread's lock.

Where the lock is lost a save waits until the lock is held again, and is repeated: saving twice is saving once.
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
from resumed.library.runs.lock_session import MAX_CONFLICTS, LockSession
from resumed.library.runs.run_handle import RunHandle
from resumed.runtime.langgraph_internals import HookedPostgresSaver
from resumed.runtime.save_batch import SaveBatch
from resumed.store.connection import is_alive
from resumed.store.database_errors import is_conflict

T = TypeVar("T")
_FIRST_BACKOFF = 0.01


class RunSaver(HookedPostgresSaver):
    """Saves a registered run. Every operation raises RunTakenOverError or RunCancelledError once the run is over."""

    def __init__(self, lock_session: LockSession, handle: RunHandle, serde: SerializerProtocol | None) -> None:
        """Save for the run of `handle`, whose lock is held on the session of `lock_session`."""
        session: Any = handle.session
        super().__init__(session, serde=serde)
        self.lock = lock_session.turn
        self._lock_session = lock_session
        self._handle = handle
        self._saving = asyncio.Lock()  # a run saves in the order of its steps

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint; the first is the head that the run begins with."""
        loaded = await self._repeat(lambda: super(RunSaver, self).aget_tuple(config))
        if loaded is not None and self._handle.updated_channels is None and _is_root(config):
            self._handle.updated_channels = _updated_channels(loaded.checkpoint)
        return loaded

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Load the history of channels that are saved as differences."""
        load = super().aget_delta_channel_history
        return await self._repeat(lambda: load(config=config, channels=channels))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint while the lock is held."""
        handle, root = self._handle, _is_root(config)
        if root:
            handle.saving = checkpoint["id"]
        saved = await self._repeat(lambda: super(RunSaver, self).aput(config, checkpoint, metadata, new_versions))
        if root:
            handle.head, handle.saving = checkpoint["id"], None
            handle.updated_channels, handle.asked_person = _updated_channels(checkpoint), False
        return saved

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save the writes of a task while the lock is held."""
        await self._repeat(lambda: super(RunSaver, self).aput_writes(config, writes, task_id, task_path))
        if _is_root(config) and any(channel == INTERRUPT for channel, _ in writes):
            self._handle.asked_person = True

    @asynccontextmanager
    async def open_cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """Check again in the session's turn: the lock may have been released while a save waited for that."""
        if pipeline:
            async with self._saving:
                batch = SaveBatch()
                yield batch.as_cursor()
                async with super().open_cursor(pipeline=True) as cursor:
                    self._handle.raise_if_ended()
                    await batch.send(cursor)
        else:
            async with super().open_cursor() as cursor:
                self._handle.raise_if_ended()
                yield cursor

    async def _repeat(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work on the session with the lock, again where that session is lost or the database asks for it.

        What a living session refuses is the caller's to see, whether the run's values are to blame or a full disk.
        """
        conflicts = 0
        while True:
            session = await self._handle.wait_for_session()
            self.conn = session
            try:
                return await work()
            except psycopg.Error as error:
                await self._lock_session.close_if_unusable(session)
                conflicts += is_conflict(error)
                if is_conflict(error) and is_alive(session) and conflicts <= MAX_CONFLICTS:
                    await asyncio.sleep(_FIRST_BACKOFF * 2**conflicts * random.uniform(0.5, 1))  # noqa: S311 - jitter
                    continue
                self._lock_session.raise_if_alive(session, error)
                if self._handle.session is session:
                    self._handle.lose_session()


def _is_root(config: RunnableConfig) -> bool:
    return not config["configurable"].get("checkpoint_ns")


def _updated_channels(checkpoint: Checkpoint) -> tuple[str, ...] | None:
    updated = checkpoint.get("updated_channels")
    return tuple(updated) if updated is not None else None
