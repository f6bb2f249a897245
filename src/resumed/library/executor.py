"""Runs graphs so that a crash is noticed at once: under the thread's lock, on record, saved through the lock's session.

A process that dies leaves an open run whose lock is free. That proves the death; the daemon waits for no silence.
"""

import asyncio
import inspect
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any, Self
from uuid import UUID

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.pregel import Pregel

from resumed.errors import WorkflowAlreadyRunningError
from resumed.library import connection_pools
from resumed.library.bound_graph import Binding, G, bound_graph
from resumed.library.lock_decorator import OnLocked, on_locked_result
from resumed.library.lock_manager import AsyncPostgresLockManager
from resumed.library.runs.coordinator import RunCoordinator
from resumed.library.runs.run_request import RunRequest, build_graph_request, build_submit_request
from resumed.library.runs.supervision import RegisteredRun, supervise, supervise_stream
from resumed.model import Via
from resumed.operations import containment
from resumed.operations.containment import OperatorCommand
from resumed.runtime.call_mode import CallMode
from resumed.store import runs, schema
from resumed.store.connection import Target, open_session
from resumed.store.database_errors import explaining
from resumed.store.lock_selftest import run_lock_selftest

MAX_RUNS = 1000
SESSIONS = 4


class AsyncWorkflowExecutor:
    """Runs graphs as registered runs; an asynchronous context manager.

    A run holds its thread's advisory lock for as long as it lasts. When its process dies the daemon goes on with the
    thread at its next sweep, whatever `RESUMED_MIN_AGE` says; while the process lives nothing else runs the thread.

    Args:
        dsn: Where LangGraph's tables are: a direct connection to Postgres, or a pool in session mode.
        schema: The schema of LangGraph's tables. Default: `public`.
        sessions: Sessions that hold locks and save, each shared by many runs. Default: 4.
        max_runs: Runs at once in this process; more wait for their turn. Default: 1000.
        serde: The serializer of inputs and checkpoints, for graphs that bring none. Default: LangGraph's.

    Entering it raises DatabaseUnusableError where the database does not lock (a transaction pooler, a standby) or lacks
    the schema that `resumed migrate` makes, and DatabaseUnreachableError where there is no connection.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "public",
        sessions: int = SESSIONS,
        max_runs: int = MAX_RUNS,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """Open nothing yet."""
        self._target = Target(dsn, schema)
        self._settings: dict[str, Any] = {"schema": schema, "sessions": sessions, "max_runs": max_runs, "serde": serde}
        self._serde = serde or JsonPlusSerializer()
        self._sessions = sessions
        self._process = os.getpid()
        self._owner = f"{socket.gethostname()}-{self._process}"
        self._coordinator = RunCoordinator(self._owner, max_runs)
        self._locks = AsyncPostgresLockManager(dsn, min_conn=0)
        self._stack = AsyncExitStack()
        self._checkpointer: AsyncPostgresSaver | None = None
        self._guard = threading.Lock()
        self._sync_face: Any = None

    def is_of_parent(self) -> bool:
        """Return whether the process was forked since this was made. For the library.

        The sessions are the parent's: a word on one of them would lose the parent's locks.
        """
        return self._process != os.getpid()

    def require_own_process(self) -> None:
        """Raise RuntimeError in a forked child. For the library."""
        if self.is_of_parent():
            message = (
                "the executor belongs to the process that this one was forked from: make and open one after the fork"
            )
            raise RuntimeError(message)

    async def __aenter__(self) -> Self:
        """Prove that the database locks, make LangGraph's tables where they are missing, connect."""
        self.require_own_process()
        with explaining():
            async with AsyncExitStack() as stack:
                await self._open(stack)
                self._stack = stack.pop_all()
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        await run_lock_selftest(self._target)
        self._checkpointer = await stack.enter_async_context(connection_pools.async_saver(self._target, self._serde))
        await connection_pools.set_up(self._target)
        async with open_session(self._target, "resumed executor") as session:
            await schema.check(session)
        await stack.enter_async_context(self._coordinator.open(self._target, self._sessions))
        stack.push_async_callback(self._locks.close)

    async def __aexit__(self, *_: object) -> None:
        """Cancel what still runs, which leaves it to the daemon, and release every lock; nothing in a forked child."""
        if self.is_of_parent():
            return
        self._checkpointer = None
        try:
            # In a thread of its own: its runs may have all those of the loop, and end only by this.
            await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), self._close_sync_face)
        finally:
            await self._stack.aclose()

    def _close_sync_face(self) -> None:
        """Close the synchronous executor, once a caller that is opening it has done so."""
        with self._guard:
            opened, self._sync_face = self._sync_face, None
        if opened is not None:
            opened.__exit__()

    @property
    def checkpointer(self) -> AsyncPostgresSaver:
        """A checkpointer with a pool of connections, to compile graphs with and to read threads with."""
        self.require_own_process()
        if self._checkpointer is None:
            message = "the executor is not open: use it with `async with`"
            raise RuntimeError(message)
        return self._checkpointer

    async def run(
        self,
        workflow: str,
        graph: Pregel[Any, Any, Any, Any],
        input: Any,  # noqa: A002 - LangGraph's own name
        *,
        thread_id: str | int | UUID | None = None,
        config: Mapping[str, Any] | None = None,
        context: Any = None,
        **options: Any,
    ) -> Any:
        """Run a graph to its end and return what `graph.ainvoke` returns.

        Args:
            workflow: The name under which the daemon has the graph registered.
            graph: A compiled graph; with this executor's checkpointer, one of the same database, or none.
            input: What `ainvoke` takes: values, a `Command`, or None to go on with the thread as it stands, and with
                the input of a run that died before it was applied.
            thread_id: The thread; a number or a UUID is taken as its text. Default: the one that `config` names, then
                the one that is bound to the graph, else a new one.
            config: LangGraph's; `metadata["version"]` names the version of the code.
            context: The run's context. It is not stored: the registration's own makes it again for the daemon.
            **options: What else `ainvoke` takes, such as `durability`, `interrupt_before`, `control` and `version`.
                Breakpoints and the recursion limit are stored with the run, so that the daemon honours them.

        Raises:
            WorkflowAlreadyRunningError: The thread's lock is held elsewhere, or a run of it that died has not ended.
            RunTakenOverError: The lock was lost, and the daemon or another writer has gone on with the thread.
            RunCancelledError: `.cancel()` was called.
            TypeError: The graph is not compiled.
            WrongDatabaseError: The graph's checkpointer is of another database.
            Exception: What the graph raises; the run has then failed.

        A run that is cancelled from outside (`asyncio.CancelledError`), or drained by its `control`, stays open, and
        the daemon goes on with it.
        """
        options |= {"thread_id": thread_id, "context": context}
        request = self.build_request(workflow, graph, input, mode=CallMode.ASYNC, config=config, options=options)
        async with self.registered_run(request) as run:
            try:
                return await supervise(run.handle, run.call_async("ainvoke"))
            except Exception as error:
                if not run.switch_mode(error):
                    raise
            return await supervise(run.handle, self._coordinator.node_threads.invoke(run))

    async def astream(
        self,
        workflow: str,
        graph: Pregel[Any, Any, Any, Any],
        input: Any,  # noqa: A002
        *,
        thread_id: str | int | UUID | None = None,
        config: Mapping[str, Any] | None = None,
        context: Any = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Run a graph and yield what `graph.astream` yields, with the guarantees and errors of `run`.

        `options` are those of `graph.astream`, such as `stream_mode` and `subgraphs`. A stream that is closed before
        its end leaves the run open, and the daemon goes on with it.
        """
        options |= {"thread_id": thread_id, "context": context}
        request = self.build_request(workflow, graph, input, mode=CallMode.ASYNC, config=config, options=options)
        async with (
            self.registered_run(request) as run,
            # Closed here, before the lock is released, not when the collector finds it.
            aclosing(supervise_stream(run.handle, run.call_async("astream"))) as parts,
        ):
            async for part in parts:
                yield part

    stream = astream

    def bind(self, workflow: str, graph: G) -> G:
        """Return the graph with its runs registered, to be handed to whatever takes a graph and calls it by itself.

        `invoke`, `stream`, `batch`, `astream_events` and their asynchronous and synchronous twins are runs of this
        executor where a call names a `thread_id`, with the guarantees and errors of `run`; without one the graph runs
        as without a checkpointer. A call inside of another graph's node is part of that graph's run. All else is the
        graph's own; threads are read with its checkpointer, or with the executor's.

        Args:
            workflow: The name under which the daemon has the graph registered.
            graph: A compiled graph; with this executor's checkpointer, one of the same database, or none.

        Returns:
            A graph of the same class. It may be bound before the executor is open, and runs while it is.

        Raises:
            TypeError: The graph is not compiled.
        """
        return bound_graph(graph, Binding(workflow, self._open_sync_face, self._this_face, lambda: self._checkpointer))

    async def _this_face(self) -> Self:
        return self

    def _open_sync_face(self) -> Any:
        """Return the synchronous executor of these settings, opened where a bound graph is first called that way."""
        self.require_own_process()
        with self._guard:
            if self._checkpointer is None:
                message = "the executor is not open: use it with `async with`"
                raise RuntimeError(message)
            if self._sync_face is None:
                from resumed.library.sync_executor import WorkflowExecutor  # noqa: PLC0415 - which imports this module

                self._sync_face = WorkflowExecutor(self._target.dsn, **self._settings).__enter__()
            return self._sync_face

    def build_request(
        self,
        workflow: str,
        graph: object,
        given: Any,
        *,
        mode: CallMode,
        config: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> RunRequest:
        """Return the request for a run of a graph; `options` may hold its thread's id and context. For the library."""
        return build_graph_request(
            workflow, graph, given, config=config, mode=mode, options=options, default_serde=self._serde
        )

    def registered_run(self, request: RunRequest) -> AbstractAsyncContextManager[RegisteredRun]:
        """Hold a thread's lock and keep its run on record for the length of a block. For the library."""
        self.require_own_process()
        return self._coordinator.registered_run(request)

    async def submit(self, workflow: str, input: Any, *, thread_id: str | int | UUID | None = None) -> str:  # noqa: A002
        """Store a run for the daemon to begin and return its thread's id; it survives all but the loss of the database.

        The same `thread_id` again returns it and does nothing, whatever became of the run. Raises
        WorkflowAlreadyRunningError where the thread has a run that was not submitted and has not ended, and ValueError
        where there is no input.
        """
        if input is None:
            message = "a submitted run needs an input"
            raise ValueError(message)
        request = build_submit_request(workflow, input, thread_id, self._serde)
        record = request.build_record(self._owner)
        with explaining():
            async with connection_pools.session_of(self.checkpointer) as session:
                if await runs.submit(session, record) or await runs.was_submitted(session, request.thread_id):
                    return request.thread_id
        message = "the thread has a run that has not ended: submit when it has"
        raise WorkflowAlreadyRunningError(message)

    async def cancel(self, thread_id: str, reason: str | None = None) -> bool:
        """Stop the thread's run, wherever it runs; it is never resumed where it stops.

        Args:
            thread_id: The thread.
            reason: Why, for the audit.

        Returns:
            False where nothing was left to cancel: the thread is finished, or there is none.
        """
        with explaining():
            async with open_session(self._target, "resumed executor") as session:
                cancelled = await containment.cancel_run(
                    session, OperatorCommand(self._owner, reason, via=Via.LIBRARY), thread_id
                )
        self._coordinator.stop_run(thread_id)
        return cancelled

    async def execute(  # noqa: PLR0917 - a documented signature
        self,
        workflow_id: str,
        workflow_func: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        blocking: bool = False,  # noqa: FBT001, FBT002
        timeout_seconds: float | None = None,
        *,
        on_locked: OnLocked = "raise",
    ) -> Any:
        """Call any function, asynchronous or not, under a lock. See `WorkflowExecutor.execute`."""
        async with self._locks.acquire_workflow_lock(workflow_id, timeout_seconds, blocking) as got:
            if not got:
                return on_locked_result(workflow_id, on_locked)
            if inspect.iscoroutinefunction(workflow_func):
                return await workflow_func(*args, **(kwargs or {}))
            return await asyncio.to_thread(workflow_func, *args, **(kwargs or {}))
