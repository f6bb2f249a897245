"""Keeps the sessions that attempts hold their locks on, from one attempt to the next; each is used by one at a time.

Opening a session costs the server a backend with cold caches, more than all else an attempt asks of it. What is handed
out is as good as new: every setting is made again and every lock that might be left is released, or it is closed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from resumed.errors import DatabaseError
from resumed.store.connection import PostgresError, Session, Target, connect, is_usable, renew_session

_IDLE = timedelta(seconds=30)
_PREPARE_AFTER = 1


@dataclass(slots=True)
class AttemptSessions:
    """The idle sessions of one worker; there are never more in all than attempts at once.

    A session that waits for `idle` without work is closed.
    """

    target: Target
    name: str
    idle: timedelta = _IDLE
    _waiting: list[tuple[Session, asyncio.TimerHandle]] = field(default_factory=list)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend a session for the length of a block; one that a block leaves by an exception is closed.

        Raises what `connect` raises.
        """
        session = await self._renewed() or await self._opened()
        try:
            yield session
        except BaseException:
            await session.close()
            raise
        if session.prepare_threshold is None:  # what it has prepared does not fit the tables any more
            await session.close()
        elif await is_usable(session):
            self._keep(session)

    async def close(self) -> None:
        """Close the sessions that wait."""
        while self._waiting:
            session, timer = self._waiting.pop()
            timer.cancel()
            await session.close()

    async def _renewed(self) -> Session | None:
        """Return a session that waits, the one that was used last; those whose backend is gone are dropped."""
        while self._waiting:
            session, timer = self._waiting.pop()
            timer.cancel()
            try:
                await renew_session(session, self.target.schema)
            except (PostgresError, DatabaseError, OSError):
                await session.close()
            except BaseException:
                await session.close()
                raise
            else:
                return session
        return None

    async def _opened(self) -> Session:
        session = await connect(self.target, self.name)
        session.prepare_threshold = _PREPARE_AFTER
        return session

    def _keep(self, session: Session) -> None:
        timer = asyncio.get_running_loop().call_later(self.idle.total_seconds(), self._expire, session)
        self._waiting.append((session, timer))

    def _expire(self, session: Session) -> None:
        self._waiting = [kept for kept in self._waiting if kept[0] is not session]
        task = asyncio.get_running_loop().create_task(session.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
