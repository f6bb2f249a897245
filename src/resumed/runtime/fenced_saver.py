"""Owns the fenced checkpointer: LangGraph's own saver over the very session that holds the thread's lock.

Session gone, lock gone, next save refused: there is nothing else to check. It never reconnects and never has a pool.
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
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from resumed.errors import LockLostError, SessionFailedError, SupersededError
from resumed.judge.pending_writes import RawWrite, mark_edits, sanitise_writes, unmark_edits
from resumed.runtime.answer_delivery import deliver_answers
from resumed.runtime.breakpoints import has_run
from resumed.runtime.langgraph_loops import calling_loop, loading_in_thread
from resumed.runtime.run_guard import GuardReads, RunGuard
from resumed.store import checkpoints
from resumed.store.checkpoints import Child
from resumed.store.connection import Session, is_alive
from resumed.store.database_errors import ErrorKind, blames_statement, is_conflict, kind_of
from resumed.store.sql_files import load_sql

T = TypeVar("T")

_HEAD_MOVED = "RS001"
_REST = timedelta(seconds=5)
_TURN = timedelta(milliseconds=2)
_PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0)  # seconds before a save is made again


@dataclass(slots=True)
class _Known:
    """What copies of one saver share: under strict loading LangGraph runs the graph with a copy."""

    head: str
    saving: int = 0
    shut: bool = False
    recounts: dict[tuple[str, str], dict[str, set[str]]] = field(default_factory=dict)
    withheld: str | None = None
    guard: RunGuard | None = None


class FencedSaver(AsyncPostgresSaver):
    """Saves a thread through the session that holds its lock, and only on top of the head it knows.

    A save raises LockLostError when the session is gone, SupersededError when somebody else moved the head, and
    SessionFailedError when the database fails on a session that lives; what it refuses for the sake of the thread's own
    values is raised as it is. What is loaded of pending writes is sanitised.
    """

    UPSERT_CHECKPOINTS_SQL = load_sql("saver")["upsert_checkpoint"].decode()

    def __init__(self, session: Session, head: str, serde: SerializerProtocol | None = None) -> None:
        """Take the session for as long as the attempt lasts; `head` is the id of the newest root checkpoint."""
        super().__init__(session, serde=serde)
        self.session = session
        self._known = _Known(head)

    @property
    def head(self) -> str:
        """The newest root checkpoint that this saver, or a copy of it, loaded or saved."""
        return self._known.head

    @property
    def withheld(self) -> str | None:
        """Why an answer was not handed out to the question that was asked; None where none was withheld."""
        return self._known.withheld

    @property
    def guard(self) -> RunGuard | None:
        """What watches the loops that run under this saver; None while nothing runs."""
        return self._known.guard

    def watch(self, guard: RunGuard | None) -> None:
        """Have each loop judged as it loads, from now on; None where nothing runs any more."""
        self._known.guard = guard

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint from another thread, for the loop that asks there."""
        with loading_in_thread():
            return super().get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint; a loop is stopped here where it must not go on from it."""
        loop, guard = calling_loop(), self._known.guard
        if guard is not None and loop is not None:
            guard.asks(loop)
        loaded = await super().aget_tuple(config)
        if guard is not None and loop is not None:
            guard.require()
            await guard.admit(loop, loaded, self._reads(config))
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
        if self._known.guard is not None:
            self._known.guard.require()
            self._known.guard.saves(config)
        saved = await self._saved(lambda: super(FencedSaver, self).aput(config, checkpoint, metadata, new_versions))
        if self._known.guard is not None:
            self._known.guard.saved(config, checkpoint)
        if not config["configurable"].get("checkpoint_ns"):
            self._known.head = checkpoint["id"]
        return saved

    def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> Coroutine[Any, Any, None]:
        """Save the writes of a task while the lock is held."""
        self._known.saving += 1  # from when it is asked for: LangGraph starts it later, as a task of its own
        return self._save_writes(config, writes, task_id, task_path)

    def recount(self, config: RunnableConfig, joins: dict[str, set[str]]) -> None:
        """Load these joins of a checkpoint as having counted no other nodes than these."""
        named = config["configurable"]
        self._known.recounts[named.get("checkpoint_ns", ""), named["checkpoint_id"]] = joins

    async def rest(self) -> None:
        """Wait for saves that a failed run has left under way: on one session they must not meet our own queries."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST.total_seconds()):
                while self._known.saving:
                    await asyncio.sleep(_TURN.total_seconds())

    async def shut(self) -> None:
        """Refuse every save and load from now on, and wait for the one under way: a thread cannot be cancelled."""
        self._known.shut = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST.total_seconds()), self.lock:
                pass

    def _require_open(self) -> None:
        if self._known.shut:
            message = "the attempt is over"
            raise LockLostError(message)

    async def _save_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> None:
        try:
            self._require_open()
            if self._known.guard is not None:
                self._known.guard.require()
                self._known.guard.settles(writes, task_id)
            await self._saved(lambda: super(FencedSaver, self).aput_writes(config, writes, task_id, task_path))
        finally:
            self._known.saving -= 1

    async def _saved(self, save: Callable[[], Awaitable[T]]) -> T:
        """Save, and again where the database asks for that: saving twice is saving once."""
        for pause in _PAUSES:
            try:
                return await save()
            except SessionFailedError as error:
                if not (isinstance(error.__cause__, psycopg.Error) and is_conflict(error.__cause__)):
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
        return await save()

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """Say of whatever the database raises, at a save or a load, whose fault it is."""
        try:
            async with super()._cursor(pipeline=pipeline) as cursor:
                self._require_open()  # the session may by now be another attempt's
                yield cursor
        except psycopg.Error as error:
            if (meaning := self._meaning(error)) is None:
                raise
            raise meaning from error

    async def poll(self) -> None:
        """Ask the session for a sign of life between two saves; raises LockLostError when it is gone."""
        try:
            async with self.lock:
                self._require_open()
                await self.session.execute("select 1")
        except psycopg.Error as error:
            if not is_alive(self.session):
                raise LockLostError(LockLostError.__doc__) from error

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        """Load the state in a thread as LangGraph does the writes: a class's module may take its time to import."""
        loaded = await asyncio.to_thread(super()._load_blobs, value["channel_values"])
        recounted = self._known.recounts.get((value["checkpoint_ns"], value["checkpoint_id"]), {})
        loaded |= {name: set(members) for name, members in recounted.items() if name in loaded}
        found = await super()._load_checkpoint_tuple({**value, "channel_values": loaded})
        if self._known.guard is not None and not has_run(found):
            self._known.guard.close(found)
        return found

    def _reads(self, config: RunnableConfig) -> GuardReads:
        named = config["configurable"]

        async def load(checkpoint_id: str) -> CheckpointTuple | None:
            one: RunnableConfig = {"configurable": {**named, "checkpoint_id": checkpoint_id}}
            return await super(FencedSaver, self).aget_tuple(one)

        async def children(checkpoint_id: str) -> dict[str, Child]:
            async with self._cursor():
                return await checkpoints.children(self.session, named["thread_id"], checkpoint_id)

        return GuardReads(load, children)

    def _load_blobs(self, blob_values: Any) -> dict[str, Any]:
        return blob_values if isinstance(blob_values, dict) else super()._load_blobs(blob_values)

    def _load_writes(self, writes: list[RawWrite] | None) -> list[tuple[str, str, Any]]:
        loaded = unmark_edits(super()._load_writes(mark_edits(writes or ())))
        return deliver_answers(sanitise_writes(loaded), self.serde, self._withhold)

    def _withhold(self, why: str) -> None:
        self._known.withheld = self._known.withheld or why

    def _meaning(self, error: psycopg.Error) -> Exception | None:
        """Return what an error means for the attempt; None where the thread itself is to blame, as for any other."""
        if error.sqlstate == _HEAD_MOVED:
            return SupersededError(SupersededError.__doc__)
        if not is_alive(self.session) or kind_of(error) is ErrorKind.UNREACHABLE:
            return LockLostError(LockLostError.__doc__)
        return None if blames_statement(error) else SessionFailedError(SessionFailedError.__doc__)
