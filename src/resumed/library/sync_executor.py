"""The synchronous face of the executor: the same runs, for threads; graphs run on an event loop of the library's."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.pregel import Pregel

from resumed.library.checkpointers import CheckpointerManager
from resumed.library.executor import MOST_RUNS, AsyncWorkflowExecutor
from resumed.library.locked import OnLocked, called
from resumed.library.loop import run_sync
from resumed.library.sync_locks import PostgresLockManager

_END = object()


class WorkflowExecutor:
    """Runs graphs as registered runs; a context manager. See `AsyncWorkflowExecutor` for what that promises.

    Args:
        dsn: Where LangGraph's tables are: a direct connection to Postgres, or a pool in session mode.
        max_runs: Runs at once in this process; more wait for their turn. Default: 1000.
    """

    def __init__(self, dsn: str, *, max_runs: int = MOST_RUNS) -> None:
        """Open nothing yet."""
        self._dsn = dsn
        self._executor = run_sync(_made(dsn, max_runs))
        self._locks = PostgresLockManager(dsn, min_conn=0)

    def __enter__(self) -> Self:
        """Prove that the database locks, and connect. Raises DatabaseError."""
        run_sync(self._executor.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what still runs to the daemon, and give every lock back."""
        run_sync(self._executor.__aexit__())
        self._locks.close()

    @property
    def checkpointer(self) -> PostgresSaver:
        """A checkpointer with a pool of connections, to compile graphs with and to read threads with."""
        return CheckpointerManager.get_or_create(self._dsn).get_checkpointer()

    def run(
        self,
        workflow: str,
        graph: Pregel[Any, Any, Any, Any],
        input: Any,  # noqa: A002 - LangGraph's own name
        *,
        thread_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        context: Any = None,
    ) -> Any:
        """Run a graph to its end and give what `graph.invoke` gives. See `AsyncWorkflowExecutor.run`.

        Raises what that raises. `KeyboardInterrupt` leaves the run open, and the daemon goes on with it.
        """
        return run_sync(self._executor.run(workflow, graph, input, thread_id=thread_id, config=config, context=context))

    def stream(
        self,
        workflow: str,
        graph: Pregel[Any, Any, Any, Any],
        input: Any,  # noqa: A002
        *,
        thread_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        context: Any = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Run a graph and give what `graph.stream` gives. See `AsyncWorkflowExecutor.astream`."""
        named: dict[str, Any] = {"thread_id": thread_id, "config": config, "context": context, **options}
        parts = self._executor.astream(workflow, graph, input, **named)
        try:
            while (part := run_sync(_next(parts))) is not _END:
                yield part
        finally:
            run_sync(_closed(parts))

    def submit(self, workflow: str, input: Any, *, thread_id: str | None = None) -> str:  # noqa: A002
        """Store a run for the daemon to begin, and give its thread's id. See `AsyncWorkflowExecutor.submit`."""
        return run_sync(self._executor.submit(workflow, input, thread_id=thread_id))

    def cancel(self, thread_id: str, reason: str | None = None) -> bool:
        """Stop the thread's run, wherever it runs, for good. See `AsyncWorkflowExecutor.cancel`."""
        return run_sync(self._executor.cancel(thread_id, reason))

    def execute(  # noqa: PLR0917 - the contract's
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
        """Call any function under a lock and give what it gives.

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
                return called(workflow_id, on_locked)
            return workflow_func(*args, **(kwargs or {}))


async def _made(dsn: str, most: int) -> AsyncWorkflowExecutor:
    return AsyncWorkflowExecutor(dsn, max_runs=most)


async def _next(parts: Any) -> Any:
    return await anext(parts, _END)


async def _closed(parts: Any) -> None:
    with suppress(RuntimeError):
        await parts.aclose()
