"""Owns one session that holds the locks of many runs: checks that it lives, takes the locks again when it dies.

A restart of the database frees every lock while the application lives; for a while the daemon distrusts free locks.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

import psycopg

from resumed.errors import DatabaseError, ResumedError, RunCancelledError, RunTakenOverError
from resumed.library.runs.run_handle import RunHandle
from resumed.store import locks, runs
from resumed.store.connection import Session, Target, connect, is_alive, is_usable
from resumed.store.database_errors import is_conflict
from resumed.store.runs import LockAnswer, NewRun

MAX_CONFLICTS = 5
_CHECK_INTERVAL = timedelta(seconds=1)
_RETRY_INTERVAL = timedelta(milliseconds=200)
_REGAIN_TIMEOUT = timedelta(seconds=60)
_PREPARE_THRESHOLD = 0


class LockSession:
    """A session for locks and saves, opened again whenever it is lost. Only the holder of `turn` may use it."""

    def __init__(self, target: Target) -> None:
        """Open nothing yet."""
        self.turn = asyncio.Lock()
        self.handles: set[RunHandle] = set()
        self._target = target
        self._session: Session | None = None
        self._connected = asyncio.Event()
        self._suspected = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect and start to watch the session. Raises DatabaseError."""
        self._session = await self._connect()
        self._connected.set()
        self._spawn(self._watch())

    async def close(self) -> None:
        """End the session, and with it every lock that it holds."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def get_session(self) -> Session:
        """Return the session, once it is connected."""
        await self._connected.wait()
        assert self._session is not None  # noqa: S101 - what `_connected` means
        return self._session

    async def begin_run(self, record: NewRun) -> tuple[Session, LockAnswer]:
        """Try the thread's lock and record the run in one statement, on the session that is returned.

        Where the session is lost in the middle the statement is repeated: its answer is then `unfinished`, by this very
        run.
        """
        conflicts = 0
        while True:
            session = await self.get_session()
            try:
                async with self.turn:
                    return session, await runs.begin_run(session, record)
            except psycopg.Error as error:
                async with self.turn:
                    await unlock_after_error(session, record.thread_id)
                conflicts += is_conflict(error)
                if not is_conflict(error) or conflicts > MAX_CONFLICTS:
                    self.raise_if_alive(session, error)
                await asyncio.sleep(_RETRY_INTERVAL.total_seconds())

    def attach(self, handle: RunHandle, session: Session) -> None:
        """Keep the lock of a run that was begun on this session; where that was lost since, take the lock again."""
        handle.set_session(session)
        self.handles.add(handle)
        if session is not self._session and self._session is not None:
            handle.lose_session()
            self._spawn(self._regain(handle, self._session))

    async def release(self, handle: RunHandle, state: str | None, patience: timedelta) -> None:
        """Record how the run ended (None: it has not) and release its lock, in one statement.

        Where the session is lost, wait for the next one; if none comes, the daemon sees by the rows how the run ended.
        On a session that is busy with other runs this may take longer than `patience`: it then goes on in the
        background, or the lock would stay.
        """
        releasing = self._spawn(self._release(handle, state, patience))
        await asyncio.wait({releasing}, timeout=patience.total_seconds())

    async def _release(self, handle: RunHandle, state: str | None, patience: timedelta) -> None:
        try:
            with suppress(TimeoutError, psycopg.Error, ResumedError):
                async with asyncio.timeout(patience.total_seconds()):
                    session = handle.session if handle.error is not None else await handle.wait_for_session()
                if session is not None and is_alive(session):
                    await self._end_and_unlock(session, handle, state)
        finally:
            self.handles.discard(handle)
            handle.close()

    async def _end_and_unlock(self, session: Session, handle: RunHandle, state: str | None) -> None:
        async with self.turn:
            try:
                await _release_run(session, handle, state)
            except psycopg.Error:
                # The end is not recorded: the daemon sees it by the rows. A session that cannot even unlock is
                # closed, and takes the locks of its other runs again.
                try:
                    if await is_usable(session):
                        await locks.unlock(session, handle.thread_id)
                except psycopg.Error:
                    await session.close()
                self._suspected.set()
                raise

    async def close_if_unusable(self, session: Session) -> None:
        """After an error on the session, close it where it cannot take another statement."""
        async with self.turn:
            if not await is_usable(session):
                self._suspected.set()

    def raise_if_alive(self, session: Session, error: psycopg.Error) -> None:
        """Raise an error that a living session has reported: the statement is to blame, not the connection."""
        if session is self._session and is_alive(session):
            raise error
        self._suspected.set()

    async def _watch(self) -> None:
        while True:
            await self._wait_until_lost(await self.get_session())
            await self._reconnect()

    async def _wait_until_lost(self, session: Session) -> None:
        while is_alive(session):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._suspected.wait(), _CHECK_INTERVAL.total_seconds())
            self._suspected.clear()
            with suppress(psycopg.Error):
                await self._check(session)

    async def _check(self, session: Session) -> None:
        """Ask the session for a sign of life, and end the runs that the database no longer counts as ours."""
        async with self.turn:
            if not await is_usable(session):
                return
            lost = await runs.find_lost(session, [handle.run_id for handle in self.handles])
        for handle in list(self.handles):
            if handle.run_id in lost:
                error = RunCancelledError if lost[handle.run_id] == "cancelled" else RunTakenOverError
                handle.end(error(error.__doc__))

    async def _reconnect(self) -> None:
        self._connected.clear()
        for handle in self.handles:
            handle.lose_session()
        session = await self._connect_at_last()
        self._session = session
        self._connected.set()
        for handle in self.handles:
            self._spawn(self._regain(handle, session))

    async def _connect_at_last(self) -> Session:
        while True:
            with suppress(DatabaseError):
                return await self._connect()
            await asyncio.sleep(_RETRY_INTERVAL.total_seconds())

    async def _regain(self, handle: RunHandle, session: Session) -> None:
        """Take the lock of a run again; while another session holds it and the run is still ours, wait.

        That may be our own old session, of which the server does not know yet that it is gone.
        """
        deadline = asyncio.get_running_loop().time() + _REGAIN_TIMEOUT.total_seconds()
        while handle in self.handles and is_alive(session) and handle.error is None:
            answer = "locked"
            with suppress(psycopg.Error):
                answer = await self._try_to_regain(handle, session)
            if answer == "regained":
                return
            if answer == "gone" or asyncio.get_running_loop().time() > deadline:
                handle.end(RunTakenOverError(RunTakenOverError.__doc__))
            await asyncio.sleep(_RETRY_INTERVAL.total_seconds())

    async def _try_to_regain(self, handle: RunHandle, session: Session) -> str:
        async with self.turn:
            try:
                answer = await runs.regain_run(session, handle.run_id, handle.thread_id)
                if answer.said == "regained":
                    await self._go_on(handle, session, answer.head)
            except psycopg.Error:
                await unlock_after_error(session, handle.thread_id)
                raise
        return answer.said

    async def _go_on(self, handle: RunHandle, session: Session, head: str | None) -> None:
        """Let the run go on where the head is what it saved last; else a writer that takes no lock has moved it."""
        if handle not in self.handles:  # released in the meantime: nothing else would release this lock
            await locks.unlock(session, handle.thread_id)
            return
        if head == handle.saving:
            handle.head = head or ""
        if head == handle.head:
            handle.set_session(session)
            return
        await runs.end(session, handle.run_id, "failed")
        await locks.unlock(session, handle.thread_id)
        handle.end(RunTakenOverError(RunTakenOverError.__doc__))

    async def _connect(self) -> Session:
        session = await connect(self._target, "resumed executor")
        session.prepare_threshold = _PREPARE_THRESHOLD
        return session

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def unlock_after_error(session: Session, thread_id: str) -> None:
    """Release a lock that a failed statement may have taken: it outlives the statement, and the session is shared."""
    with suppress(psycopg.Error):
        if await is_usable(session):
            await locks.unlock(session, thread_id)


async def _release_run(session: Session, handle: RunHandle, state: str | None) -> None:
    """Record the end and unlock, again where the database asks for that."""
    for _ in range(MAX_CONFLICTS):
        try:
            await runs.release_run(session, handle.run_id, handle.thread_id, state)
        except psycopg.Error as error:
            if not is_conflict(error):
                raise
            await asyncio.sleep(_RETRY_INTERVAL.total_seconds())
        else:
            return
    await runs.release_run(session, handle.run_id, handle.thread_id, state)
