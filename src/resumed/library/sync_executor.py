"""The synchronous face of the executor: the same runs, for threads.

A graph runs in its caller's own thread, as by `invoke`. Locks, saves and nodes that can only be awaited are the work
of an event loop of the library's.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Self
from uuid import UUID

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel
from psycopg import Connection
from psycopg.rows import DictRow
from psycopg_pool import ConnectionPool

from resumed.library import connection_pools
from resumed.library.bound_graph import Binding, G, bound_graph
from resumed.library.checkpointer_manager import CheckpointerManager
from resumed.library.event_loop import END, next_part, run_sync
from resumed.library.executor import MAX_RUNS, SESSIONS, AsyncWorkflowExecutor
from resumed.library.lock_decorator import OnLocked, on_locked_result
from resumed.library.loop_executors import LoopExecutors
from resumed.library.runs.run_request import RunRequest
from resumed.library.runs.supervision import RegisteredRun, supervise, supervise_stream
from resumed.library.sync_lock_manager import PostgresLockManager
from resumed.library.sync_stream import SyncStream
from resumed.runtime.call_mode import CallMode
from resumed.store.connection import Target


class WorkflowExecutor:
    """Runs graphs as registered runs; a context manager. See `AsyncWorkflowExecutor` for what that promises.

    Args:
        dsn: Where LangGraph's tables are: a direct connection to Postgres, or a pool in session mode.
        schema: The schema of LangGraph's tables. Default: `public`.
        sessions: Sessions that hold locks and save, each shared by many runs. Default: 4.
        max_runs: Runs at once in this process; more wait for their turn. Default: 1000.
        serde: The serializer of inputs and checkpoints, for graphs that bring none. Default: LangGraph's.
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
        self._serde = serde
        self._guard = threading.Lock()
        self._pool: ConnectionPool[Connection[DictRow]] | None = None
        self._saver: PostgresSaver | None = None
        build = partial(AsyncWorkflowExecutor, dsn, schema=schema, sessions=sessions, max_runs=max_runs, serde=serde)
        self._executor = run_sync(_on_this_loop(build))
        self._loop_executors = LoopExecutors(build)
        self._is_open = False
        self._locks = PostgresLockManager(dsn, min_conn=0)

    def __enter__(self) -> Self:
        """Prove that the database locks, and connect. Raises DatabaseError."""
        run_sync(self._executor.__aenter__())
        self._is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what still runs to the daemon, and release every lock; nothing in a forked child."""
        if self._executor.is_of_parent():
            return
        self._is_open = False
        self._loop_executors.close()
        run_sync(self._executor.__aexit__())
        self._locks.close()
        with self._guard:
            if self._pool is not None:
                self._pool.close()
            self._pool = self._saver = None

    @property
    def checkpointer(self) -> PostgresSaver:
        """A checkpointer with a pool of connections, to compile graphs with and to read threads with."""
        if self._serde is None and self._target == Target(self._target.dsn):
            return CheckpointerManager.get_or_create(self._target.dsn).get_checkpointer()
        with self._guard:
            if self._saver is None:
                run_sync(connection_pools.set_up(self._target))
                self._pool = connection_pools.pool(self._target)
                self._saver = PostgresSaver(self._pool, serde=self._serde)
            return self._saver

    def run(
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
        """Run a graph to its end in this thread and return what `graph.invoke` returns.

        See `AsyncWorkflowExecutor.run` for what it takes and raises. A node that runs when the run is over is not
        interrupted: `run` raises when it has ended. From the first node that can only be awaited on, the graph runs by
        `ainvoke` on the library's event loop, where awaited nodes are cancelled. `KeyboardInterrupt` leaves the run
        open, and the daemon goes on with it.
        """
        options |= {"thread_id": thread_id, "context": context}
        request = self._executor.build_request(
            workflow, graph, input, mode=CallMode.SYNC, config=config, options=options
        )
        with self._registered_run(request) as run:
            try:
                returned = run.call("invoke")
            except Exception as error:
                if not run.switch_mode(error):
                    raise
            else:
                return returned
            return run_sync(supervise(run.handle, run.call_async("ainvoke")))

    def stream(
        self,
        workflow: str,
        graph: Pregel[Any, Any, Any, Any],
        input: Any,  # noqa: A002
        *,
        thread_id: str | int | UUID | None = None,
        config: Mapping[str, Any] | None = None,
        context: Any = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Run a graph and return what `graph.stream` returns. See `AsyncWorkflowExecutor.astream`."""
        options |= {"thread_id": thread_id, "context": context}
        return SyncStream(self._parts(workflow, graph, input, config, options))

    def _parts(
        self, workflow: str, graph: object, given: Any, config: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Generator[Any, None, None]:
        request = self._executor.build_request(
            workflow, graph, given, mode=CallMode.SYNC, config=config, options=options
        )
        with self._registered_run(request) as run:
            try:
                yield from _stream(run)
            except Exception as error:
                if not run.switch_mode(error):
                    raise
            else:
                return
            parts = supervise_stream(run.handle, run.call_async("astream"))
            try:
                while (part := run_sync(next_part(parts))) is not END:
                    yield part
            finally:
                run_sync(_close(parts))

    def bind(self, workflow: str, graph: G) -> G:
        """Return the graph with its runs registered, for whatever takes a graph. See `AsyncWorkflowExecutor.bind`.

        An asynchronous call runs on its caller's event loop, by an executor of that loop which is closed with this one.
        """
        return bound_graph(graph, Binding(workflow, lambda: self, self._async_face, self._reading_saver))

    async def _async_face(self) -> AsyncWorkflowExecutor:
        self._executor.require_own_process()
        if not self._is_open:
            message = "the executor is not open: use it with `with`"
            raise RuntimeError(message)
        return await self._loop_executors.on_this_loop()

    def _reading_saver(self) -> PostgresSaver | None:
        return self.checkpointer if self._is_open else None

    @contextmanager
    def _registered_run(self, request: RunRequest) -> Iterator[RegisteredRun]:
        """Hold the thread's lock for the length of a block; raises what ended the run, whatever the graph raised."""
        entered = self._executor.registered_run(request)
        run = run_sync(entered.__aenter__())
        try:
            yield run
            run.handle.raise_if_ended()
        except BaseException as raised:
            error = run.handle.error or raised
            # What ends the caller's thread would end the event loop too: there it is what leaves a run open.
            ending = error if isinstance(error, Exception) else asyncio.CancelledError()
            with suppress(type(ending)):
                run_sync(entered.__aexit__(type(ending), ending, ending.__traceback__))
            if error is not raised:
                raise error from raised
            raise
        run_sync(entered.__aexit__(None, None, None))

    def submit(self, workflow: str, input: Any, *, thread_id: str | int | UUID | None = None) -> str:  # noqa: A002
        """Store a run for the daemon to begin, and return its thread's id. See `AsyncWorkflowExecutor.submit`."""
        return run_sync(self._executor.submit(workflow, input, thread_id=thread_id))

    def cancel(self, thread_id: str, reason: str | None = None) -> bool:
        """Stop the thread's run, wherever it runs, for good. See `AsyncWorkflowExecutor.cancel`."""
        return run_sync(self._executor.cancel(thread_id, reason))

    def execute(  # noqa: PLR0917 - a documented signature
        self,
        workflow_id: str,
        workflow_func: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        blocking: bool = False,  # noqa: FBT001, FBT002
        timeout_seconds: float | None = None,
        *,
        on_locked: OnLocked = "raise",
    ) -> Any:
        """Call any function under a lock and return what it returns.

        Args:
            workflow_id: The lock's name as given; `resume_<thread_id>` excludes the daemon from a thread.
            workflow_func: What is called.
            args: Its positional arguments.
            kwargs: Its named arguments.
            blocking: Wait for the lock. Default: False.
            timeout_seconds: How long to wait for it, in seconds. Default: for ever.
            on_locked: What to do where it is held elsewhere: `raise` WorkflowAlreadyRunningError, `return_none`, or
                `return_dict`: `{"status": "already_running", "workflow_id": …}`.
        """
        with self._locks.acquire_workflow_lock(workflow_id, timeout_seconds, blocking) as got:
            if not got:
                return on_locked_result(workflow_id, on_locked)
            return workflow_func(*args, **(kwargs or {}))


async def _on_this_loop(build: Callable[[], AsyncWorkflowExecutor]) -> AsyncWorkflowExecutor:
    return build()


def _stream(run: RegisteredRun) -> Iterator[Any]:
    """Yield the parts of a synchronous stream for as long as the run is ours."""
    for part in run.call("stream"):
        run.handle.raise_if_ended()
        yield part


async def _close(parts: Any) -> None:
    with suppress(RuntimeError):
        await parts.aclose()
