"""Advisory locks for applications: the same keys as the daemon's, each on a session of its own, in autocommit.

A session that dies loses one lock and no other. No statement waits in the database for longer than a second: a longer
wait would keep vacuum, and every concurrent index build, from its work.
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
from resumed.library.session_pool import SessionPool
from resumed.store import locks
from resumed.store.connection import Session, Target, is_alive, is_usable
from resumed.store.database_errors import explain, explaining
from resumed.store.locks import identifier_key

_MAX_WAIT = timedelta(seconds=1)


@dataclass(slots=True)
class _HeldLock:
    """A lock of this manager: its session, and how often its owner has taken it."""

    session: Session
    count: int = 1


class AsyncPostgresLockManager:
    """Takes advisory locks by name; an asynchronous context manager.

    A thread's own lock is the name `resume_<thread_id>`: while it is held the daemon leaves the thread alone. The key
    is the first eight bytes of SHA-256 of the name, big-endian, signed.

    The owner of a lock may take it again, and holds it until it has released it as often: an owner is an asyncio task
    here, a thread in `PostgresLockManager`. Every other one is refused, in this process too.

    Args:
        dsn: A direct connection to Postgres, or a pool in session mode.
        min_conn: Sessions that are kept open when nothing is locked. Default: 1.
        max_conn: Sessions, and so locks, at once. Default: 10.
        connection_timeout: Seconds to wait for one of them. Default: 30.
    """

    def __init__(self, dsn: str, min_conn: int = 1, max_conn: int = 10, connection_timeout: float = 30) -> None:
        """Open nothing yet. Raises ValueError for impossible numbers."""
        self._pool_arguments = (Target(dsn), min_conn, max_conn, connection_timeout)
        self._pool = SessionPool(*self._pool_arguments)
        self._held: dict[tuple[str, object], _HeldLock] = {}
        self._process = os.getpid()

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release every lock and close every session."""
        await self.close()

    @asynccontextmanager
    async def acquire_workflow_lock(
        self,
        id: str,
        timeout_seconds: float | None = None,
        blocking: bool = True,  # noqa: FBT001, FBT002
    ) -> AsyncIterator[bool]:
        """Hold a lock for the length of a block; yields False where it is held elsewhere.

        Args:
            id: The lock's name, as given.
            timeout_seconds: How long to wait, in seconds. Default: for ever.
            blocking: False tries once. Default: True.

        Raises:
            DatabaseUnreachableError: No session was free within `connection_timeout`.
            DatabaseUnusableError: The database refuses us.
        """
        owner = asyncio.current_task()
        locked = await self.acquire_for(owner, id, timeout_seconds if blocking else 0)
        try:
            yield locked
        finally:
            if locked:
                await run_to_end(self.release_for(owner, id))

    async def acquire_for(self, owner: object, identifier: str, wait_seconds: float | None) -> bool:
        """Take a lock for `owner`, waiting for `wait_seconds` (None: for ever); returns whether it is held now."""
        self._forget_parent()
        held = self._held.get((identifier, owner))
        if held is not None and is_alive(held.session):
            held.count += 1
            return True
        if held is not None:
            await self._drop(identifier, owner)
        session = await self._pool.acquire()
        locked = False
        try:
            locked = await _lock(session, identifier_key(identifier), wait_seconds)
        finally:
            if not locked:
                await self._pool.release(session)
        if locked:
            self._held[identifier, owner] = _HeldLock(session)
        return locked

    async def release_for(self, owner: object, identifier: str) -> bool:
        """Release a lock of `owner` once; returns False where it had been lost."""
        held = self._held.get((identifier, owner))
        if held is None:
            return False
        held.count -= 1
        return await self._drop(identifier, owner) if held.count == 0 else True

    async def is_locked(self, id: str) -> bool:
        """Return whether any process holds the lock, without trying it."""
        self._forget_parent()
        async with self._pool.session() as session:
            with explaining():
                return await locks.is_key_held(session, identifier_key(id))

    async def verify_lock_still_held(self, id: str) -> bool:
        """Ask the database whether this manager's own session still holds the lock."""
        # Where a session died unnoticed, its owner and the next one both have an entry.
        sessions = [held.session for (name, _), held in self._held.items() if name == id]
        for session in sessions:
            with suppress(psycopg.Error):
                if is_alive(session) and await locks.holds_key(session, identifier_key(id)):
                    return True
        return False

    async def cleanup_all_locks(self) -> int:
        """Release every lock of this manager, and no other manager's; returns how many there were."""
        held = list(self._held)
        for identifier, owner in held:
            await self._drop(identifier, owner)
        return len(held)

    def get_active_locks_count(self) -> int:
        """Count the locks that this manager holds."""
        self._forget_parent()
        return len(self._held)

    async def health_check(self) -> bool:
        """Return whether a session can be opened and answers."""
        self._forget_parent()
        try:
            async with self._pool.session() as session:
                with explaining():
                    await locks.is_key_held(session, 0)
        except DatabaseError:
            return False
        return True

    async def close(self) -> None:
        """Release every lock and close every session."""
        await self.cleanup_all_locks()
        await self._pool.close()

    async def _drop(self, identifier: str, owner: object) -> bool:
        """Release a lock however often it was taken; returns False where it had been lost."""
        held = self._held.pop((identifier, owner), None)
        if held is None:
            return False
        unlocked = False
        with suppress(psycopg.Error):
            unlocked = is_alive(held.session) and await locks.unlock_key(held.session, identifier_key(identifier))
        if not unlocked:
            await held.session.close()
        await self._pool.release(held.session)
        return unlocked

    def _forget_parent(self) -> None:
        """In a forked child the sessions are its parent's: leave them alone, and begin with none."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._held, self._pool = {}, SessionPool(*self._pool_arguments)


async def _lock(session: Session, key: int, wait_seconds: float | None) -> bool:
    """Try a lock, and wait for it. An error closes the session, which releases a lock that it may have taken."""
    try:
        return await locks.try_key(session, key) or await _wait_for_lock(session, key, wait_seconds)
    except psycopg.Error as error:
        lost = not is_alive(session)
        await session.close()
        if lost:
            message = "the session was lost while it waited for a lock: ask for it again"
            raise DatabaseUnreachableError(message) from error
        raise explain(error) from error
    except BaseException:
        await run_to_end(_unlock_and_close(session, key))
        raise


async def _wait_for_lock(session: Session, key: int, wait_seconds: float | None) -> bool:
    """Wait in slices of a second at most."""
    loop = asyncio.get_running_loop()
    deadline = math.inf if wait_seconds is None else loop.time() + wait_seconds
    while (left := deadline - loop.time()) > 0:
        if await locks.wait_for_key(session, key, min(_MAX_WAIT, timedelta(seconds=min(left, 1)))):
            return True
    return False


async def _unlock_and_close(session: Session, key: int) -> None:
    """End a session whose wait was cut off: it may have the lock, and the server notices a closed socket late."""
    with suppress(psycopg.Error):
        if await is_usable(session):
            await locks.unlock_key(session, key)
    await session.close()
