"""Owns the sessions of a lock manager: how many there may be, how many are kept, and how long a caller waits for one.

No pool of psycopg_pool: docs/decisions.md says why.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg

from resumed.errors import DatabaseUnreachableError
from resumed.store.connection import Session, Target, connect, is_usable


class SessionPool:
    """At most `max_sessions` sessions at once, of which `min_sessions` stay open while they are not used.

    A session is opened in its caller's task, so that the caller gets the reason at once where there is none. Nothing is
    bound to an event loop before that, and no task runs in the background.
    """

    def __init__(self, target: Target, min_sessions: int, max_sessions: int, wait_seconds: float) -> None:
        """Open nothing yet; a caller waits `wait_seconds` for one of the sessions. Raises ValueError."""
        if not 0 <= min_sessions <= max_sessions or max_sessions < 1:
            message = "min_conn is at least 0, max_conn at least 1 and not below min_conn"
            raise ValueError(message)
        self._target = target
        self._min_sessions = min_sessions
        self._wait_seconds = wait_seconds
        self._room = asyncio.Semaphore(max_sessions)
        self._idle: list[Session] = []

    async def acquire(self) -> Session:
        """Return a session that answers, for its caller alone. Raises DatabaseError."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._room.acquire()
        except TimeoutError:
            message = (
                f"no session was free within {self._wait_seconds:g} s: raise max_conn, or hold fewer locks at once"
            )
            raise DatabaseUnreachableError(message) from None
        try:
            return await self._idle_session() or await connect(self._target, "resumed locks")
        except BaseException:
            self._room.release()
            raise

    async def release(self, session: Session) -> None:
        """Keep a session for the next caller, or close it where it is not usable or enough are kept."""
        self._room.release()
        if await is_usable(session) and len(self._idle) < self._min_sessions:
            self._idle.append(session)
        else:
            await session.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Use a session for the length of a block. Raises DatabaseError."""
        session = await self.acquire()
        try:
            yield session
        finally:
            await self.release(session)

    async def close(self) -> None:
        """Close the sessions that are not in use; the pool can be used again."""
        while self._idle:
            await self._idle.pop().close()

    async def _idle_session(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            with suppress(psycopg.Error):
                await session.execute("select 1")
                return session
            await session.close()
        return None
