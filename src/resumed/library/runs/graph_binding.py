"""Binds an application's graph to one run: its copy with the run's checkpointer, and what must be known of it first."""

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Durability

from resumed.errors import WrongDatabaseError
from resumed.judge.verdict import is_trigger
from resumed.library.runs.lock_session import LockSession
from resumed.library.runs.run_handle import RunHandle
from resumed.library.runs.run_request import RunRequest
from resumed.library.runs.run_saver import RunSaver
from resumed.library.runs.supervision import RegisteredRun
from resumed.runtime.graph_run import durability
from resumed.runtime.langgraph_internals import async_cursor_of, cursor_of
from resumed.store.sql_files import load_sql
from resumed.workflows.loaded_workflow import Graph, with_changes

_IDENTITY = load_sql("runs")["identity"]


class GraphBinder:
    """Binds graphs; what it has found out about a graph or a checkpointer is not asked again."""

    def __init__(self) -> None:
        """Know no graph yet."""
        self._durability: WeakKeyDictionary[Graph, Durability] = WeakKeyDictionary()
        self._same_database: WeakSet[Any] = WeakSet()

    async def require_same_database(self, graph: Graph, lock_session: LockSession) -> None:
        """Make sure that the graph's own checkpointer is of the executor's database. Raises WrongDatabaseError."""
        saver = graph.checkpointer
        if not isinstance(saver, BaseCheckpointSaver) or saver in self._same_database:
            return
        session = await lock_session.get_session()
        async with lock_session.turn:
            theirs = await _identify(saver)
            ours = await (await session.execute(_IDENTITY)).fetchone()
        if theirs is None or ours is None or dict(theirs) != dict(ours):
            message = (
                f"the graph was compiled with a {type(saver).__name__} of another database than the executor's: "
                "compile it without a checkpointer, or with the executor's own `.checkpointer`"
            )
            raise WrongDatabaseError(message)
        self._same_database.add(saver)

    def bind(
        self, request: RunRequest, graph: Graph, lock_session: LockSession, started: tuple[RunHandle, Any]
    ) -> RegisteredRun:
        """Return the run of a copy of the graph, which saves through the session that holds the thread's lock.

        `started` is the run's handle and what the graph is to be given.
        """
        handle, given = started
        bound = with_changes(graph, {"checkpointer": RunSaver(lock_session, handle, request.serde)})
        options = self._complete(graph, request.options)
        return RegisteredRun(bound, handle, given, request.build_config(handle.run_id), options, handle.head)

    def _complete(self, graph: Graph, options: Mapping[str, Any]) -> dict[str, Any]:
        """Add the durability where a call's options name none: save before the next superstep, if the graph can."""
        given = {name: value for name, value in options.items() if name != "durability" or value is not None}
        if "durability" in given or "checkpoint_during" in given:
            return given
        if graph not in self._durability:
            self._durability[graph] = durability(graph)
        return {"durability": self._durability[graph], **given}


def has_work_left(graph: Graph, handle: RunHandle) -> bool:
    """Return whether a run that returned has left work: at a question or a breakpoint.

    One that asks again, or comes to the next breakpoint of a subgraph, saves no checkpoint at the root: what waited in
    the head that it began with waits still. The head of an edit or a fork does not show that, a saved question does.
    """
    if handle.asked_person:
        return True
    own = [name for name in graph.trigger_to_nodes if not is_trigger(name)]
    return any(is_trigger(channel, own) for channel in handle.updated_channels or ())


async def _identify(saver: BaseCheckpointSaver[Any]) -> dict[str, Any] | None:
    """Ask through the checkpointer itself which database it saves in; None where it is no Postgres."""
    if isinstance(saver, AsyncPostgresSaver):
        async with async_cursor_of(saver) as cursor:
            return await (await cursor.execute(_IDENTITY)).fetchone()
    return await asyncio.to_thread(_identify_in_thread, saver) if isinstance(saver, PostgresSaver) else None


def _identify_in_thread(saver: PostgresSaver) -> dict[str, Any] | None:
    with cursor_of(saver) as cursor:
        return cursor.execute(_IDENTITY).fetchone()
