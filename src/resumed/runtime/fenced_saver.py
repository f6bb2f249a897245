"""The fenced checkpointer: LangGraph's own saver over the very session that holds the thread's lock.

Once the session is gone, so is the lock, and the next save fails. It never reconnects and never has a pool.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from resumed.errors import LockLostError, SessionFailedError, SupersededError
from resumed.judge.pending_writes import RawWrite, mark_edits, sanitise_writes, unmark_edits
from resumed.runtime.answer_delivery import deliver_answers
from resumed.runtime.breakpoints import has_run
from resumed.runtime.langgraph_internals import HookedPostgresSaver, calling_loop, loading_in_thread
from resumed.runtime.run_guard import GuardReads, RunGuard
from resumed.runtime.save_batch import SaveBatch
from resumed.store import checkpoints
from resumed.store.checkpoints import Child
from resumed.store.connection import Session, is_alive
from resumed.store.database_errors import ErrorKind, blames_statement, is_conflict, kind_of
from resumed.store.sql_files import load_sql

T = TypeVar("T")

_UPSERT = load_sql("saver")["upsert_checkpoint"].decode()
_HEAD_MOVED = "RS001"
_SAVE_PATIENCE = timedelta(seconds=5)
_SAVE_POLL = timedelta(milliseconds=2)
_SAVE_RETRY_PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0)  # seconds


@dataclass(slots=True)
class _SharedState:
    """What copies of one saver share: under strict loading LangGraph runs the graph with a copy."""

    head: str
    saving: int = 0
    closed: bool = False
    joins: dict[tuple[str, str], dict[str, set[str]]] = field(default_factory=dict)
    withheld: str | None = None
    guard: RunGuard | None = None


class FencedSaver(HookedPostgresSaver):
    """Saves a thread through the session that holds its lock, and only on top of the head it knows.

    A save raises LockLostError when the session is gone, SupersededError when another writer moved the head, and
    SessionFailedError when the database fails on a session that lives; what it refuses because of the thread's own
    values is raised as it is. Pending writes are sanitised as they are loaded.
    """

    def __init__(self, session: Session, head: str, serde: SerializerProtocol | None = None) -> None:
        """Use the session for as long as the attempt lasts; `head` is the id of the newest root checkpoint."""
        super().__init__(session, serde, checkpoint_upsert=_UPSERT)
        self.session = session
        self._shared = _SharedState(head)

    @property
    def head(self) -> str:
        """The newest root checkpoint that this saver, or a copy of it, loaded or saved."""
        return self._shared.head

    @property
    def withheld(self) -> str | None:
        """Why an answer was not handed out to the question that was asked; None where none was withheld."""
        return self._shared.withheld

    @property
    def guard(self) -> RunGuard | None:
        """What watches the loops that run under this saver; None while nothing runs."""
        return self._shared.guard

    def watch(self, guard: RunGuard | None) -> None:
        """Have this guard judge each loop as it loads from now on; None where nothing runs any more."""
        self._shared.guard = guard

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint from another thread, for the loop that asks there."""
        with loading_in_thread():
            return super().get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint; a loop that must not continue from it is stopped here."""
        loop, guard = calling_loop(), self._shared.guard
        if guard is not None and loop is not None:
            guard.on_load(loop)
        loaded = await super().aget_tuple(config)
        if guard is not None and loop is not None:
            guard.require_open()
            await guard.admit(loop, loaded, self._guard_reads(config))
        return loaded

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint while the lock is held and, at the root, its parent is still the head."""
        self._require_open()
        if self._shared.guard is not None:
            self._shared.guard.require_open()
            self._shared.guard.on_save(config)
        saved = await self._save(lambda: super(FencedSaver, self).aput(config, checkpoint, metadata, new_versions))
        if self._shared.guard is not None:
            self._shared.guard.on_saved(config, checkpoint)
        if not config["configurable"].get("checkpoint_ns"):
            self._shared.head = checkpoint["id"]
        return saved

    def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> Coroutine[Any, Any, None]:
        """Save the writes of a task while the lock is held."""
        self._shared.saving += 1  # from the call on: LangGraph starts the save later, as a task of its own
        return self._save_writes(config, writes, task_id, task_path)

    def repair_joins(self, config: RunnableConfig, joins: dict[str, set[str]]) -> None:
        """Load these joins of a checkpoint with these nodes counted and no others."""
        named = config["configurable"]
        self._shared.joins[named.get("checkpoint_ns", ""), named["checkpoint_id"]] = joins

    async def wait_for_saves(self) -> None:
        """Wait for saves that a failed run has left under way: they must not mix with our own queries."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SAVE_PATIENCE.total_seconds()):
                while self._shared.saving:
                    await asyncio.sleep(_SAVE_POLL.total_seconds())

    async def close(self) -> None:
        """Refuse every save and load from now on, and wait for the one under way: threads go on."""
        self._shared.closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_SAVE_PATIENCE.total_seconds()), self.lock:
                pass

    def _require_open(self) -> None:
        if self._shared.closed:
            message = "the attempt is over"
            raise LockLostError(message)

    async def _save_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> None:
        try:
            self._require_open()
            if self._shared.guard is not None:
                self._shared.guard.require_open()
                self._shared.guard.on_task_writes(writes, task_id)
            await self._save(lambda: super(FencedSaver, self).aput_writes(config, writes, task_id, task_path))
        finally:
            self._shared.saving -= 1

    async def _save(self, save: Callable[[], Awaitable[T]]) -> T:
        """Save, and retry where the database asks for that: a save is idempotent."""
        for pause in _SAVE_RETRY_PAUSES:
            try:
                return await save()
            except SessionFailedError as error:
                if not (isinstance(error.__cause__, psycopg.Error) and is_conflict(error.__cause__)):
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
        return await save()

    @asynccontextmanager
    async def open_cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """Translate the errors of the database, at a save or a load, into what they mean for the attempt."""
        try:
            if pipeline:
                async with self.lock:
                    batch = SaveBatch()
                    yield batch.as_cursor()
                    async with self.session.pipeline(), self.session.cursor(binary=True) as cursor:
                        self._require_open()  # the session may by now be another attempt's
                        await batch.send(cursor)
            else:
                async with super().open_cursor() as cursor:
                    self._require_open()
                    yield cursor
        except psycopg.Error as error:
            if (meaning := self._meaning_of(error)) is None:
                raise
            raise meaning from error

    async def poll(self) -> None:
        """Check between two saves that the session lives; raises LockLostError when it is gone."""
        try:
            async with self.lock:
                self._require_open()
                await self.session.execute("select 1")
        except psycopg.Error as error:
            if not is_alive(self.session):
                raise LockLostError(LockLostError.__doc__) from error

    async def load_checkpoint(self, row: DictRow) -> CheckpointTuple:
        """Load the state in a thread as LangGraph does the writes: a class's module may take its time to import."""
        state = await asyncio.to_thread(super().load_state, row["channel_values"])
        repaired = self._shared.joins.get((row["checkpoint_ns"], row["checkpoint_id"]), {})
        state |= {name: set(members) for name, members in repaired.items() if name in state}
        loaded = await super().load_checkpoint({**row, "channel_values": state})
        if self._shared.guard is not None and not has_run(loaded):
            self._shared.guard.close(loaded)
        return loaded

    def _guard_reads(self, config: RunnableConfig) -> GuardReads:
        named = config["configurable"]

        async def load(checkpoint_id: str) -> CheckpointTuple | None:
            earlier: RunnableConfig = {"configurable": {**named, "checkpoint_id": checkpoint_id}}
            return await super(FencedSaver, self).aget_tuple(earlier)

        async def children(checkpoint_id: str) -> dict[str, Child]:
            async with self.open_cursor():
                return await checkpoints.children(self.session, named["thread_id"], checkpoint_id)

        return GuardReads(load, children)

    def load_state(self, blobs: Any) -> dict[str, Any]:
        """Load the values of the channels, unless `load_checkpoint` has loaded them already."""
        return blobs if isinstance(blobs, dict) else super().load_state(blobs)

    def load_writes(self, writes: list[RawWrite] | None) -> list[tuple[str, str, Any]]:
        """Load pending writes so that no answer reaches another question and no route is lost."""
        loaded = unmark_edits(super().load_writes(mark_edits(writes or ())))
        return deliver_answers(sanitise_writes(loaded), self.serde, self._withhold)

    def _withhold(self, why: str) -> None:
        self._shared.withheld = self._shared.withheld or why

    def _meaning_of(self, error: psycopg.Error) -> Exception | None:
        """Return what an error means for the attempt; None where the thread itself is to blame."""
        if error.sqlstate == _HEAD_MOVED:
            return SupersededError(SupersededError.__doc__)
        if not is_alive(self.session) or kind_of(error) is ErrorKind.UNREACHABLE:
            return LockLostError(LockLostError.__doc__)
        return None if blames_statement(error) else SessionFailedError(SessionFailedError.__doc__)
