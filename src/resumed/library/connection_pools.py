"""Owns pools of connections, for reading and for saving without a lock, and making LangGraph's tables just once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.postgres.base import BasePostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from resumed.errors import DatabaseUnreachableError
from resumed.store.connection import (
    BoundedConnection,
    Session,
    Target,
    conninfo_for,
    one_row,
    open_session,
    prepare_borrowed,
)
from resumed.store.database_errors import explaining
from resumed.store.locks import identifier_key
from resumed.store.sql_files import load_sql

SETUP_KEY = identifier_key("resumed setup")
_SETUP_TIMEOUT = timedelta(minutes=10)
_RETRY_INTERVAL = timedelta(milliseconds=100)
_OPTIONS: dict[str, Any] = {
    "kwargs": {"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
    "max_size": 10,
    "max_lifetime": timedelta(hours=1).total_seconds(),
    "timeout": timedelta(seconds=30).total_seconds(),
    "name": "resumed",
}
_SQL = load_sql("setup")


@asynccontextmanager
async def async_saver(target: Target, serde: SerializerProtocol | None = None) -> AsyncIterator[AsyncPostgresSaver]:
    """Open a checkpointer over a pool of autocommit connections, each checked before it is used."""
    pool = async_pool(target)
    await pool.open()
    try:
        yield AsyncPostgresSaver(pool, serde=serde)
    finally:
        await pool.close()


def async_pool(target: Target) -> "AsyncConnectionPool[Session]":
    """Make a pool that is not open yet."""

    async def configure(session: Session) -> None:
        await session.execute(*prepare_borrowed(session, target.schema))

    return AsyncConnectionPool(
        conninfo_for(target.dsn, "resumed checkpointer"),
        connection_class=BoundedConnection,
        min_size=1,
        open=False,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        **_OPTIONS,
    )


def pool(target: Target) -> "ConnectionPool[Connection[DictRow]]":
    """Make a pool for synchronous use; it opens its connections as they are needed."""

    def configure(connection: Connection[DictRow]) -> None:
        connection.execute(*prepare_borrowed(connection, target.schema))

    return ConnectionPool(
        conninfo_for(target.dsn, "resumed checkpointer"),
        connection_class=Connection[DictRow],
        min_size=0,
        open=True,
        configure=configure,
        check=ConnectionPool.check_connection,
        **_OPTIONS,
    )


@asynccontextmanager
async def session_of(saver: AsyncPostgresSaver) -> AsyncIterator[Session]:
    """Borrow a connection of a checkpointer's pool."""
    pool: Any = saver.conn
    async with pool.connection() as session:
        yield session


async def set_up(target: Target) -> None:
    """Make or upgrade LangGraph's tables, one process at a time; does nothing where they are as the release wants.

    The lock is tried in a loop: waiting for it in the database would hold up the concurrent index builds.
    Raises DatabaseError.
    """
    deadline = asyncio.get_running_loop().time() + _SETUP_TIMEOUT.total_seconds()
    with explaining():
        async with open_session(target, "resumed setup", silence=None) as session:
            while not await is_set_up(session):
                if (await one_row(session, _SQL["try_lock"], {"key": SETUP_KEY}))["locked"]:
                    await session.execute(_SQL["unlimited"])
                    await AsyncPostgresSaver(session).setup()
                    await session.execute(_SQL["unlock"], {"key": SETUP_KEY})
                elif asyncio.get_running_loop().time() > deadline:
                    message = (
                        "another process has been making LangGraph's tables for ten minutes: check whether it hangs"
                    )
                    raise DatabaseUnreachableError(message)
                else:
                    await asyncio.sleep(_RETRY_INTERVAL.total_seconds())


async def is_set_up(session: Session) -> bool:
    """Return whether LangGraph's tables have all the migrations of the installed release."""
    if not (await one_row(session, _SQL["have"]))["have"]:
        return False
    row = await one_row(session, _SQL["version"])
    return row["version"] is not None and int(row["version"]) >= len(BasePostgresSaver.MIGRATIONS) - 1
