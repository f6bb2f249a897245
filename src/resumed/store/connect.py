"""Owns opening a session to Postgres as this product needs it, and saying what a refused one means.

Settings are made with `SET` after connecting: startup options are dropped by poolers and by some services.
"""

import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection, conninfo
from psycopg.rows import DictRow, dict_row

from resumed.errors import DatabaseError, DatabaseUnreachableError, DatabaseUnusableError

Session = AsyncConnection[DictRow]
DatabaseFault = psycopg.Error

# Every session that is open, so that a forked child can be kept from speaking on it (`standalone.let_go`).
SESSIONS: "weakref.WeakSet[Session]" = weakref.WeakSet()

_CONNECT_TIMEOUT = timedelta(seconds=10)
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3}
_SETTINGS = {
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "statement_timeout": "60000",
    "lock_timeout": "10000",
    "timezone": "UTC",
}
_PASSING = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection slots", "not yet accept")
_REFUSING = (
    "password",
    "pg_hba.conf",
    "does not exist",
    "not permitted to log in",
    "permission denied",
    "no such user",
    "authentication",
)


@dataclass(frozen=True, slots=True)
class Target:
    """Which database, and which schema of it holds LangGraph's tables."""

    dsn: str
    schema: str = "public"


async def connect(target: Target, name: str = "resumed") -> Session:
    """Open an autocommit session with every setting that a held lock depends on; the caller closes it.

    Raises DatabaseUnreachableError where trying again may help, DatabaseUnusableError where it will not.
    """
    try:
        session = await AsyncConnection.connect(
            conninfo_for(target.dsn, name), autocommit=True, prepare_threshold=None, row_factory=dict_row
        )
    except psycopg.OperationalError as error:
        raise explain(error) from None
    except psycopg.ProgrammingError:
        message = "the connection string is not one that Postgres understands: write postgresql://user@host:5432/name"
        raise DatabaseUnusableError(message) from None
    try:
        await prepare(session, target.schema)
    except psycopg.Error as error:
        await session.close()
        raise explain(error) from None
    except BaseException:
        await session.close()
        raise
    SESSIONS.add(session)
    return session


@asynccontextmanager
async def opened(target: Target, name: str = "resumed") -> AsyncIterator[Session]:
    """Open a session for the length of a block. Raises what `connect` raises."""
    session = await connect(target, name)
    try:
        yield session
    finally:
        await session.close()


async def one_row(session: Session, query: bytes, parameters: Mapping[str, object] | None = None) -> DictRow:
    """Run a query that always gives a row, and give it."""
    row = await (await session.execute(query, parameters)).fetchone()
    if row is None:
        message = "a query that always gives a row gave none"
        raise DatabaseUnusableError(message)
    return row


def alive(session: Session) -> bool:
    """Say whether the session, and so every lock it holds, is still there as far as this side knows."""
    return not (session.closed or session.broken)


def refuses_writes(error: BaseException) -> bool:
    """Say whether an error means that the database is read-only."""
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


def explain(error: psycopg.Error) -> DatabaseError:
    """Turn the driver's error into a sentence of ours; never more than its first line, which holds no password."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    said = text[0].removeprefix("connection failed: ").split("FATAL:")[-1].strip()
    if any(word in said for word in _PASSING):
        return DatabaseUnreachableError(f"the database is not ready: {said}")
    if any(word in said for word in _REFUSING):
        return DatabaseUnusableError(f"the database refuses us: {said}; correct RESUMED_DATABASE_URL or the role")
    if isinstance(error, psycopg.OperationalError):
        return DatabaseUnreachableError(f"the database cannot be reached: {said}; check that it runs, and the address")
    return DatabaseUnusableError(f"the database cannot be used: {said}")


def conninfo_for(dsn: str, name: str) -> str:
    """Complete a connection string with keepalives, a time limit and a name, where it has none of its own."""
    given = conninfo.conninfo_to_dict(dsn)
    defaults: dict[str, Any] = {"connect_timeout": int(_CONNECT_TIMEOUT.total_seconds()), **_KEEPALIVES}
    return conninfo.make_conninfo(dsn, **{**defaults, **given, "application_name": name})


async def prepare(session: Session, schema: str) -> None:
    """Make the settings of a new session; `schema` is the one of LangGraph's tables."""
    calls = ", ".join("set_config(%s, %s, false)" for _ in _SETTINGS)
    values = [part for pair in _SETTINGS.items() for part in pair]
    async with session.cursor() as cursor:
        await cursor.execute(
            f"select {calls}, set_config('search_path', quote_ident(%s), false)".encode(), [*values, schema]
        )
