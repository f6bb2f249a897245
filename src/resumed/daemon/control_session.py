"""Owns a session of the control process: one user at a time, opened again when it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from resumed.store import watermark
from resumed.store.connection import Session, Target, connect, is_usable


class ControlSession:
    """A session that is kept open.

    For a grace after a reconnect or a restart of the server, locks that look free are not trusted: their holders may
    be about to take them again.
    """

    def __init__(self, target: Target, grace: timedelta, name: str = "resumed control") -> None:
        """Open nothing yet; `grace` is for how long free locks are not trusted, `name` is shown by the server."""
        self._target = target
        self._grace = grace
        self._name = name
        self._session: Session | None = None
        self._turn = asyncio.Lock()
        self._connects = 0
        self._trusted_from = 0.0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Use the session for a block; raises DatabaseError where none can be opened."""
        async with self._turn:
            if self._session is None or not await is_usable(self._session):
                self._session = await self._connect()
            yield self._session

    @property
    def trusts_free_locks(self) -> bool:
        """Return whether a lock that looks free counts as free."""
        return asyncio.get_running_loop().time() >= self._trusted_from

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _connect(self) -> Session:
        session = await connect(self._target, self._name)
        now = asyncio.get_running_loop().time()
        grace = self._grace if self._connects else max(self._grace - await watermark.uptime(session), timedelta(0))
        self._trusted_from = max(self._trusted_from, now + grace.total_seconds())
        self._connects += 1
        return session
