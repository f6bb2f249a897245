"""Owns checkpointers with pools, one a database and process; LangGraph's tables are made when one is asked for."""

import asyncio
import os
import threading
from typing import ClassVar, Self

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from resumed.library import connection_pools
from resumed.library.event_loop import run_sync
from resumed.store.connection import Session, Target


class CheckpointerManager:
    """A checkpointer over a pool of connections; one for each DSN in a process. A context manager.

    Made by `get_or_create`. A process that was forked makes its own: connections cannot be shared over a fork.
    """

    _managers: ClassVar[dict[tuple[int, str], "CheckpointerManager"]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, dsn: str) -> None:
        """Open nothing yet; use `get_or_create`."""
        self._dsn = dsn
        self._pool_lock = threading.Lock()
        self._pool: ConnectionPool[Connection[DictRow]] | None = None
        self._saver: PostgresSaver | None = None

    @classmethod
    def get_or_create(cls, dsn: str) -> "CheckpointerManager":
        """Return this process's manager of the database, a new one where there is none or it was closed."""
        with cls._guard:
            return cls._managers.setdefault((os.getpid(), dsn), cls(dsn))

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()

    def get_checkpointer(self) -> PostgresSaver:
        """Return the checkpointer to compile graphs with; the first call makes LangGraph's tables if they are missing.

        Raises DatabaseError.
        """
        with self._pool_lock:
            if self._saver is None:
                run_sync(connection_pools.set_up(Target(self._dsn)))
                self._pool = connection_pools.pool(Target(self._dsn))
                self._saver = PostgresSaver(self._pool)
            return self._saver

    def setup(self) -> None:
        """Make LangGraph's tables where they are missing, however many processes do so at once.

        Raises DatabaseError.
        """
        self.get_checkpointer()
        run_sync(connection_pools.set_up(Target(self._dsn)))

    def close(self) -> None:
        """Close the pool; `get_or_create` makes a new manager after that."""
        with self._guard:
            if self._managers.get((os.getpid(), self._dsn)) is self:
                del self._managers[os.getpid(), self._dsn]
        with self._pool_lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = self._saver = None


class AsyncCheckpointerManager:
    """The asynchronous twin of `CheckpointerManager`; one for each DSN, process and event loop."""

    _managers: ClassVar[dict[tuple[int, int, str], "AsyncCheckpointerManager"]] = {}

    def __init__(self, dsn: str) -> None:
        """Open nothing yet; use `get_or_create`."""
        self._dsn = dsn
        self._pool_lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._pool: AsyncConnectionPool[Session] | None = None
        self._saver: AsyncPostgresSaver | None = None

    @classmethod
    def get_or_create(cls, dsn: str) -> "AsyncCheckpointerManager":
        """Return this event loop's manager of the database; made where there is none, or it was closed."""
        loop, key = asyncio.get_running_loop(), (os.getpid(), id(asyncio.get_running_loop()), dsn)
        if key not in cls._managers or cls._managers[key]._loop is not loop:  # noqa: SLF001 - an id may come again
            cls._managers[key] = cls(dsn)
        return cls._managers[key]

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool."""
        await self.close()

    async def get_checkpointer(self) -> AsyncPostgresSaver:
        """Return the checkpointer to compile with; the first call makes LangGraph's tables. Raises DatabaseError."""
        async with self._pool_lock:
            if self._saver is None:
                await connection_pools.set_up(Target(self._dsn))
                self._pool = connection_pools.async_pool(Target(self._dsn))
                await self._pool.open()
                self._saver = AsyncPostgresSaver(self._pool)
            return self._saver

    async def setup(self) -> None:
        """Make LangGraph's tables if they are missing, however many processes do so at once. Raises DatabaseError."""
        await self.get_checkpointer()
        await connection_pools.set_up(Target(self._dsn))

    async def close(self) -> None:
        """Close the pool; `get_or_create` makes a new manager after that."""
        self._managers.pop((os.getpid(), id(self._loop), self._dsn), None)
        async with self._pool_lock:
            if self._pool is not None:
                await self._pool.close()
            self._pool = self._saver = None
