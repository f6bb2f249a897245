"""Advisory locks for applications: the same keys as the daemon's, each on a session of its own, in autocommit.

A session that dies loses one lock and no other. Nothing waits in the database for longer than a second at a time: a
longer wait would keep vacuum, and every concurrent index build, from its work.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import psycopg

from resumed.errors import DatabaseError, DatabaseUnreachableError
from resumed.library.event_loop import run_to_end
from resumed.store import locks
from resumed.store.connection import Session, Target, connect, is_alive, is_usable
from resumed.store.database_errors import explain, explaining
from resumed.store.locks import identifier_key

_SLICE = timedelta(seconds=1)


@dataclass(slots=True)
class _Held:
    """A lock of this manager: its session, and how often its owner has taken it."""

    session: Session
    times: int = 1


class AsyncPostgresLockManager:
    """Takes advisory locks by name; an asynchronous context manager.

    A thread's own lock is the name `resume_<thread_id>`: while it is held the daemon leaves the thread alone. The key
    is the first eight bytes of SHA-256 of the name, big-endian, signed.

    Who holds a name may take it again, and has it until it has given it back as often: that is the asyncio task here,
    the thread in `PostgresLockManager`. Everybody else is refused, in this process too.

    Args:
        dsn: A direct connection to Postgres, or a pool in session mode.
        min_conn: Sessions that are kept open when nothing is locked. Default: 1.
        max_conn: Sessions, and so locks, at once. Default: 10.
        connection_timeout: Seconds to wait for one of them. Default: 30.
    """

    def __init__(self, dsn: str, min_conn: int = 1, max_conn: int = 10, connection_timeout: float = 30) -> None:
        """Open nothing yet. Raises ValueError for impossible numbers."""
        if not 0 <= min_conn <= max_conn or max_conn < 1:
            message = "min_conn is at least 0, max_conn at least 1 and not below min_conn"
            raise ValueError(message)
        self._target = Target(dsn)
        self._kept = min_conn
        self._timeout = connection_timeout
        self._most = max_conn
        self._room = asyncio.Semaphore(max_conn)
        self._idle: list[Session] = []
        self._held: dict[tuple[str, object], _Held] = {}
        self._process = os.getpid()

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give everything back."""
        await self.close()

    @asynccontextmanager
    async def acquire_workflow_lock(
        self,
        id: str,
        timeout_seconds: float | None = None,
        blocking: bool = True,  # noqa: FBT001, FBT002
    ) -> AsyncIterator[bool]:
        """Hold a lock for the length of a block; gives False where it was not to be had.

        Args:
            id: The lock's name, as given.
            timeout_seconds: How long to wait, in seconds. Default: for ever.
            blocking: False tries once. Default: True.

        Raises:
            DatabaseUnreachableError: No session was to be had within `connection_timeout`.
            DatabaseUnusableError: The database refuses us.
        """
        owner = asyncio.current_task()
        got = await self.take(id, owner, timeout_seconds if blocking else 0)
        try:
            yield got
        finally:
            if got:
                await run_to_end(self.give_back(id, owner))

    async def take(self, identifier: str, owner: object, patience: float | None) -> bool:
        """Take a lock for `owner`, waiting for `patience` seconds (None: for ever); says whether it was had."""
        self._leave_parents()
        held = self._held.get((identifier, owner))
        if held is not None and is_alive(held.session):
            held.times += 1
            return True
        if held is not None:
            await self._drop(identifier, owner)
        await self._enter()
        try:
            session = await self._session()
            if not await self._locked(session, identifier_key(identifier), patience):
                await self._put_back(session)
                return False
        except BaseException:
            self._room.release()
            raise
        self._held[identifier, owner] = _Held(session)
        return True

    async def give_back(self, identifier: str, owner: object) -> bool:
        """Give a lock back; False where it had been lost."""
        held = self._held.get((identifier, owner))
        if held is None:
            return False
        held.times -= 1
        return await self._drop(identifier, owner) if held.times == 0 else True

    async def is_locked(self, id: str) -> bool:
        """Say whether anybody holds the lock, in any process, without trying it."""
        async with self._borrowed() as session:
            return await locks.is_key_held(session, identifier_key(id))

    async def verify_lock_still_held(self, id: str) -> bool:
        """Ask the database whether this manager's own session still has the lock."""
        # Where a session died unnoticed, its owner and the next one both have an entry.
        entries = [one.session for (name, _), one in self._held.items() if name == id]
        return True in [await _has(session, identifier_key(id)) for session in entries]

    async def cleanup_all_locks(self) -> int:
        """Give back every lock of this manager, and none of anybody else's; says how many there were."""
        held = list(self._held)
        for identifier, owner in held:
            await self._drop(identifier, owner)
        return len(held)

    def get_active_locks_count(self) -> int:
        """Count the locks that this manager holds."""
        self._leave_parents()
        return len(self._held)

    async def health_check(self) -> bool:
        """Say whether a session is to be had and answers."""
        try:
            async with self._borrowed() as session:
                await locks.is_key_held(session, 0)
        except DatabaseError:
            return False
        return True

    async def close(self) -> None:
        """Give back every lock and end every session."""
        await self.cleanup_all_locks()
        while self._idle:
            await self._idle.pop().close()

    async def _locked(self, session: Session, key: int, patience: float | None) -> bool:
        """Wait for a lock. Whatever goes wrong, the session takes what it may have got with it."""
        try:
            return await locks.try_key(session, key) or await _waited(session, key, patience)
        except psycopg.Error as error:
            lost = not is_alive(session)
            await session.close()
            if lost:
                message = "the session was lost while it waited for a lock: ask for it again"
                raise DatabaseUnreachableError(message) from error
            raise explain(error) from error
        except BaseException:
            await run_to_end(_left(session, key))
            raise

    async def _drop(self, identifier: str, owner: object) -> bool:
        held = self._held.pop((identifier, owner), None)
        unlocked = False
        if held is None:
            return unlocked
        with suppress(psycopg.Error):
            unlocked = is_alive(held.session) and await locks.unlock_key(held.session, identifier_key(identifier))
        if not unlocked:
            await held.session.close()
        await self._put_back(held.session)
        return unlocked

    async def _enter(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._room.acquire()
        except TimeoutError:
            message = f"no session was free within {self._timeout:g} s: raise max_conn, or hold fewer locks at once"
            raise DatabaseUnreachableError(message) from None

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Session]:
        self._leave_parents()
        await self._enter()
        try:
            session = await self._session()
        except BaseException:
            self._room.release()
            raise
        try:
            with explaining():
                yield session
        finally:
            await self._put_back(session)

    async def _session(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            with suppress(psycopg.Error):
                await session.execute("select 1")
                return session
            await session.close()
        return await connect(self._target, "resumed locks")

    async def _put_back(self, session: Session) -> None:
        """Keep a session for the next lock, or end it where enough are kept; makes room for somebody else."""
        self._room.release()
        if await is_usable(session) and len(self._idle) < self._kept:
            self._idle.append(session)
        else:
            await session.close()

    def _leave_parents(self) -> None:
        """In a forked child the sessions are its parent's: leave them alone."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._held, self._idle, self._room = {}, [], asyncio.Semaphore(self._most)


async def _has(session: Session, key: int) -> bool:
    with suppress(psycopg.Error):
        return is_alive(session) and await locks.holds_key(session, key)
    return False


async def _left(session: Session, key: int) -> None:
    """End a session whose wait was cut off. The lock may have come meanwhile: a closed socket is noticed later."""
    with suppress(psycopg.Error):
        if await is_usable(session):
            await locks.unlock_key(session, key)
    await session.close()


async def _waited(session: Session, key: int, patience: float | None) -> bool:
    """Wait in slices of a second at most."""
    loop = asyncio.get_running_loop()
    deadline = math.inf if patience is None else loop.time() + patience
    while (left := deadline - loop.time()) > 0:
        if await locks.wait_for_key(session, key, min(_SLICE, timedelta(seconds=min(left, 1)))):
            return True
    return False
