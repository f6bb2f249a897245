"""Owns the control process's session: one user at a time, opened again when it is lost, doubted after that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from resumed.store import watermark
from resumed.store.connection import Session, Target, connect, is_usable


class ControlSession:
    """A session that is kept open. For a while after a reconnect or a server's restart it believes no free lock."""

    def __init__(self, target: Target, grace: timedelta) -> None:
        """Open nothing yet; `grace` is how long free locks are doubted."""
        self._target = target
        self._grace = grace
        self._session: Session | None = None
        self._turn = asyncio.Lock()
        self._connects = 0
        self._doubt_until = 0.0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Take the session for a block; raises DatabaseError where none can be had."""
        async with self._turn:
            if self._session is None or not await is_usable(self._session):
                self._session = await self._connect()
            yield self._session

    @property
    def believes_locks(self) -> bool:
        """Say whether a lock that looks free may be taken for free."""
        return asyncio.get_running_loop().time() >= self._doubt_until

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _connect(self) -> Session:
        session = await connect(self._target, "resumed control")
        now = asyncio.get_running_loop().time()
        doubt = self._grace if self._connects else max(self._grace - await watermark.uptime(session), timedelta(0))
        self._doubt_until = max(self._doubt_until, now + doubt.total_seconds())
        self._connects += 1
        return session
