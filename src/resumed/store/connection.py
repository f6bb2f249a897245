"""Owns opening a session to Postgres as this product needs it, with every setting that it depends on.

Settings are made with `SET` after connecting: startup options are dropped by poolers and by some services. What they
pin is in `sql/connection.sql`; a database or a role may have defaults of its own for each of them.
"""

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, AsyncCursor, AsyncPipeline, AsyncTransaction, Connection, conninfo
from psycopg.abc import PQGen
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import DictRow, dict_row

from resumed.errors import DatabaseUnusableError
from resumed.store import text_encoding
from resumed.store.database_errors import explain, is_stale_plan
from resumed.store.sql_files import load_sql

Session = AsyncConnection[DictRow]
Cursor = AsyncCursor[DictRow]
PostgresError = psycopg.Error
RV = TypeVar("RV")

SILENCE_LIMIT = timedelta(seconds=75)
"""How long a server may take for an answer: longer than the `statement_timeout` of every session."""

_SQL = load_sql("connection")
# Every session that is open, so that a forked child can be kept from speaking on it (`standalone.let_go`).
SESSIONS: "weakref.WeakSet[Session]" = weakref.WeakSet()

_CONNECT_TIMEOUT = timedelta(seconds=10)
_SETTING_TRIES = 5
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
}


class BoundedConnection(AsyncConnection[DictRow]):
    """A session that is closed when the server has been silent for too long: nothing waits for it without limit.

    `statement_timeout` ends what the server works at; it does not help against a server that is stopped, or against a
    protocol that has come out of step. `silence` None waits for ever, for statements that may take hours.
    """

    silence: timedelta | None = SILENCE_LIMIT

    async def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Wait for the server as psycopg does, for `silence` at most.

        Where a table was changed after a statement on it was prepared, the session prepares nothing from then on; nor
        where a pipeline failed: psycopg (3.3.9) then takes for prepared what the server has skipped.
        """
        bounded = gen if self.silence is None else _bounded(self, gen, self.silence.total_seconds())
        try:
            return await super().wait(bounded, *args, **kwargs)
        except psycopg.Error as error:
            if is_stale_plan(error) or self.pgconn.pipeline_status != PipelineStatus.OFF:
                self.prepare_threshold = None
            raise


class TaskLock:
    """A lock that the task which holds it may take again."""

    def __init__(self) -> None:
        """Make one that is free."""
        self._free = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None
        self._depth = 0

    async def __aenter__(self) -> None:
        """Wait until no other task holds it."""
        if (task := asyncio.current_task()) is not self._owner:
            await self._free.acquire()
            self._owner = task
        self._depth += 1

    async def __aexit__(self, *_: object) -> None:
        """Give it back as often as it was taken."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._free.release()


class SharedConnection(BoundedConnection):
    """A session that several tasks use, a statement, a transaction or a pipeline at a time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make psycopg's own lock, which it holds for a statement, one that a whole block can hold."""
        super().__init__(*args, **kwargs)
        self.lock: Any = TaskLock()

    @asynccontextmanager
    async def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002 - psycopg's signature
    ) -> AsyncIterator[AsyncTransaction]:
        """Begin a transaction; other tasks wait for its end."""
        async with self.lock, super().transaction(savepoint_name, force_rollback) as begun:
            yield begun

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        """Begin a pipeline; other tasks wait for its end."""
        async with self.lock, super().pipeline() as begun:
            yield begun


def _bounded(session: Session, gen: PQGen[RV], silence: float) -> PQGen[RV]:
    """Pass on what psycopg waits for, which looks every moment, and close the session after too long a silence."""
    heard_at = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            heard_at = now if ready else heard_at
            if now - heard_at > silence:
                session.pgconn.finish()
                message = f"the server has not answered for {silence:g} s"
                raise psycopg.OperationalError(message)
            wanted = gen.send(ready)
    except StopIteration as done:
        return cast("RV", done.value)


@dataclass(frozen=True, slots=True)
class Target:
    """Which database, and which schema of it holds LangGraph's tables."""

    dsn: str
    schema: str = "public"


async def connect(
    target: Target, name: str = "resumed", *, silence: timedelta | None = SILENCE_LIMIT, shared: bool = False
) -> Session:
    """Open an autocommit session with every setting that a held lock depends on; the caller closes it.

    `silence` is how long the server may take for an answer; a `shared` session may be used by several tasks. Raises
    DatabaseUnreachableError where trying again may help, DatabaseUnusableError where it will not.
    """
    try:
        session = await (SharedConnection if shared else BoundedConnection).connect(
            conninfo_for(target.dsn, name), autocommit=True, prepare_threshold=None, row_factory=dict_row
        )
    except psycopg.OperationalError as error:
        raise explain(error) from None
    except psycopg.ProgrammingError:
        message = "the connection string is not one that Postgres understands: write postgresql://user@host:5432/name"
        raise DatabaseUnusableError(message) from None
    session.silence = silence
    try:
        await prepare_session(session, target.schema)
    except psycopg.Error as error:
        await session.close()
        raise explain(error) from None
    except BaseException:
        await session.close()
        raise
    SESSIONS.add(session)
    return session


@asynccontextmanager
async def open_session(
    target: Target, name: str = "resumed", *, silence: timedelta | None = SILENCE_LIMIT
) -> AsyncIterator[Session]:
    """Open a session for the length of a block. Raises what `connect` raises."""
    session = await connect(target, name, silence=silence)
    try:
        yield session
    finally:
        await session.close()


async def one_row(session: Session, query: bytes, parameters: Mapping[str, object] | None = None) -> DictRow:
    """Run a query that always returns a row, and return it."""
    return await fetch_one(await session.execute(query, parameters))


async def fetch_one(cursor: Cursor) -> DictRow:
    """Return the row of a query that always returns one."""
    row = await cursor.fetchone()
    if row is None:
        message = "a query that always returns a row returned none"
        raise DatabaseUnusableError(message)
    return row


def is_alive(session: Session) -> bool:
    """Say whether the session, and so every lock it holds, is still there as far as this side knows."""
    return not (session.closed or session.broken)


async def is_usable(session: Session) -> bool:
    """Return whether the session lives and can take a statement; one that is left inside of something is closed.

    A statement on a session whose pipeline or transaction was cut off would wait for an answer that never comes.
    """
    async with session.lock if isinstance(session, SharedConnection) else nullcontext():
        return await _is_at_rest(session)


async def _is_at_rest(session: Session) -> bool:
    if not is_alive(session):
        return False
    state = session.pgconn.transaction_status, session.pgconn.pipeline_status
    if state == (TransactionStatus.IDLE, PipelineStatus.OFF):
        return True
    await session.close()
    return False


def conninfo_for(dsn: str, name: str) -> str:
    """Complete a connection string with keepalives, a time limit and a name, where it has none of its own."""
    given = {**conninfo.conninfo_to_dict(dsn), "client_encoding": "UTF8"}
    defaults: dict[str, Any] = {"connect_timeout": int(_CONNECT_TIMEOUT.total_seconds()), **_KEEPALIVES}
    return conninfo.make_conninfo(dsn, **{**defaults, **given, "application_name": name})


async def prepare_session(session: Session, schema: str) -> None:
    """Make the settings of a new session of ours; `schema` is the one of LangGraph's tables.

    A row that row-level security would hide is an error on it, never absent.
    """
    parameters = {"schema": schema, "encoding": text_encoding.adapt_text(session)}
    for tries in range(1, _SETTING_TRIES + 1):
        try:
            await session.execute(_SQL["settings"], parameters)
        except psycopg.errors.QueryCanceled:  # the role's own time limit, until ours is set
            if tries == _SETTING_TRIES:
                raise
        else:
            return


async def renew_session(session: Session, schema: str) -> None:
    """Make a session that has been used as good as a new one: no lock, every setting as it was made."""
    parameters = {"schema": schema, "encoding": text_encoding.adapt_text(session)}
    await session.execute(_SQL["renew"], parameters)


def prepare_borrowed(session: AsyncConnection[Any] | Connection[Any], schema: str) -> tuple[bytes, dict[str, str]]:
    """Return the query and its parameters that make the settings of a session of an application's pool."""
    return _SQL["lent_settings"], {"schema": schema, "encoding": text_encoding.adapt_text(session)}
