"""Keeps the sessions that attempts hold their locks on, from one attempt to the next.

Opening a session costs the server a backend with cold caches, more than all else an attempt asks of it. An attempt has
a session to itself, unless there may be fewer of them than attempts: then it shares the one that the fewest others use.
What the first of them is given is as good as new: every setting is made again and every lock that might be left is
released, or it is closed.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from resumed.errors import DatabaseError
from resumed.store import locks
from resumed.store.connection import PostgresError, Session, Target, connect, is_alive, is_usable, renew_session

_IDLE = timedelta(seconds=30)
_PREPARE_AFTER = 1


@dataclass(slots=True, eq=False)
class _Place:
    """Room for one session, and how many attempts use it; `turn` is held while the session is made or renewed."""

    session: Session | None = None
    users: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    expiry: asyncio.TimerHandle | None = None

    def keep_open(self) -> None:
        """Do not close the session for want of work."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None


@dataclass(slots=True)
class AttemptSessions:
    """The sessions of one worker: at most `most`, or as many as attempts at once where that is None.

    A session that waits for `idle` without work is closed.
    """

    target: Target
    name: str
    most: int | None = None
    idle: timedelta = _IDLE
    _places: list[_Place] = field(default_factory=list)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def session(self, thread_id: str) -> AsyncIterator[Session]:
        """Lend a session for the length of a block, to take the lock of this thread on and no other.

        Where a block ends by an exception the lock is released, at the latest with the session. Raises what `connect`
        raises.
        """
        place = self._least_used()
        place.users += 1
        place.keep_open()
        try:
            session = await self._session_of(place)
            try:
                yield session
            except BaseException:
                if place.users > 1:  # theirs are on it as well
                    await _complete(_release(session, thread_id))
                else:
                    await session.close()
                raise
        finally:
            place.users -= 1
            if not place.users:
                await self._rest(place)

    async def close(self) -> None:
        """Close the sessions that wait."""
        for place in [one for one in self._places if not one.users]:
            await self._vacate(place)

    def _least_used(self) -> _Place:
        """Return the place that the fewest attempts use, the one that was used last; a new one where all are in use."""
        found = min(reversed(self._places), key=lambda place: place.users, default=None)
        if found is None or (found.users and (self.most is None or len(self._places) < self.most)):
            found = _Place()
        else:
            self._places.remove(found)
        self._places.append(found)
        return found

    async def _session_of(self, place: _Place) -> Session:
        async with place.turn:
            if place.session is not None and not await self._is_good(place.session, place.users):
                await place.session.close()
                place.session = None
            if place.session is None:
                place.session = await connect(self.target, self.name, shared=self.most is not None)
                place.session.prepare_threshold = _PREPARE_AFTER
                if self.most is not None:  # others may join before it is ever renewed
                    await self._is_good(place.session, 1)
            return place.session

    async def _is_good(self, session: Session, users: int) -> bool:
        """Make the session as good as new for an only user; return False where its backend is gone."""
        if users > 1:
            return is_alive(session)
        try:
            await renew_session(session, self.target.schema)
        except (PostgresError, DatabaseError, OSError):
            return False
        except BaseException:
            await session.close()
            raise
        return True

    async def _rest(self, place: _Place) -> None:
        """Keep the session for the next attempt, or close it where it is not as good as new."""
        session = place.session
        # Where what it has prepared does not fit the tables any more, it prepares nothing from then on.
        is_good = session is not None and session.prepare_threshold is not None and await is_usable(session)
        if place.users:  # in the meantime
            return
        if is_good:
            place.keep_open()
            place.expiry = asyncio.get_running_loop().call_later(self.idle.total_seconds(), self._expire, place)
        else:
            await self._vacate(place)

    def _expire(self, place: _Place) -> None:
        task = asyncio.get_running_loop().create_task(self._vacate(place))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _vacate(self, place: _Place) -> None:
        if place in self._places and not place.users:
            self._places.remove(place)
            place.keep_open()
            if place.session is not None:
                await place.session.close()


async def _release(session: Session, thread_id: str) -> None:
    """Release the lock that an exception may have left, with the session if need be."""
    is_released = False
    try:
        with suppress(PostgresError):
            if await is_usable(session):
                await locks.unlock(session, thread_id)
                is_released = True
    finally:
        if not is_released:
            await session.close()


async def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Do this to its end, also where the task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    with suppress(asyncio.CancelledError):
        task.result()
