"""Says whether a graph's own checkpointer is of the executor's database: state must not be in two places."""

import asyncio
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from resumed.errors import WrongDatabaseError
from resumed.runtime.langgraph_internals import async_cursor_of, cursor_of
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_IDENTITY = load_sql("runs")["identity"]


async def require_same_database(saver: object, session: Session) -> None:
    """Make sure that a graph's checkpointer saves where `session` leads to. Raises WrongDatabaseError."""
    if not isinstance(saver, BaseCheckpointSaver):
        return
    theirs = await _identity(saver)
    ours = await (await session.execute(_IDENTITY)).fetchone()
    if theirs is None or ours is None or dict(theirs) != dict(ours):
        message = (
            f"the graph was compiled with a {type(saver).__name__} of another database than the executor's: compile it "
            "without a checkpointer, or with the executor's own `.checkpointer`"
        )
        raise WrongDatabaseError(message)


async def _identity(saver: BaseCheckpointSaver[Any]) -> dict[str, Any] | None:
    """Ask through the checkpointer itself where it leads to; None where it is no Postgres."""
    if isinstance(saver, AsyncPostgresSaver):
        async with async_cursor_of(saver) as cursor:
            return await (await cursor.execute(_IDENTITY)).fetchone()
    return await asyncio.to_thread(_asked, saver) if isinstance(saver, PostgresSaver) else None


def _asked(saver: PostgresSaver) -> dict[str, Any] | None:
    with cursor_of(saver) as cursor:
        return cursor.execute(_IDENTITY).fetchone()
