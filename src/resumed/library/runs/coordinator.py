"""Owns the runs of one process: the sessions that hold their locks, how each begins, and how each ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta

import psycopg
from langgraph.errors import GraphDrained

from resumed.errors import ExecutorClosedError, RunCancelledError, RunTakenOverError
from resumed.library.event_loop import run_to_end
from resumed.library.runs.graph_binding import GraphBinder, has_work_left
from resumed.library.runs.lock_session import LockSession
from resumed.library.runs.registration import RunRegistrar
from resumed.library.runs.run_handle import RunHandle
from resumed.library.runs.run_request import RunRequest
from resumed.library.runs.supervision import NodeThreads, RegisteredRun
from resumed.store import runs
from resumed.store.connection import Target, is_alive

_RELEASE_PATIENCE = timedelta(seconds=10)
_CLOSE_CHECK_INTERVAL = timedelta(milliseconds=10)
_RETRY_INTERVAL = timedelta(milliseconds=200)


class RunCoordinator:
    """Runs side by side on a few sessions; at most `max_runs` at once, more wait for their turn."""

    def __init__(self, owner: str, max_runs: int) -> None:
        """Open nothing yet; `owner` names this process in the records of its runs."""
        self.lock_sessions: list[LockSession] = []
        self._owner = owner
        self._room = asyncio.Semaphore(max_runs)
        self._binder = GraphBinder()
        self.node_threads = NodeThreads()
        self._handles: dict[str, RunHandle] = {}
        self._releases: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, target: Target, sessions: int) -> AsyncIterator[None]:
        """Keep the sessions for the length of a block; what still runs at its end is left to the daemon."""
        async with AsyncExitStack() as stack:
            for _ in range(sessions):
                lock_session = LockSession(target)
                stack.push_async_callback(lock_session.close)
                await lock_session.open()
                self.lock_sessions.append(lock_session)
            try:
                yield
            finally:
                self.lock_sessions.clear()
                await self._end_all()

    @asynccontextmanager
    async def registered_run(self, request: RunRequest) -> AsyncIterator[RegisteredRun]:
        """Lock the thread and record the run for the length of a block; then record how it ended, and unlock.

        A block that is cancelled, drained or overtaken leaves the run open, and the daemon goes on with it.
        """
        graph = request.graph
        assert graph is not None  # noqa: S101 - only what the daemon is to begin has none
        if not self.lock_sessions:
            message = "the executor is not open: use it with `async with`"
            raise RuntimeError(message)
        self.node_threads.track(asyncio.get_running_loop())
        lock_session = min(self.lock_sessions, key=lambda lock_session: len(lock_session.handles))
        await self._binder.require_same_database(graph, lock_session)
        async with self._room:
            started = await RunRegistrar(lock_session, self._handles, self._owner).begin(request)
            handle, ending = started[0], None
            try:
                yield self._binder.bind(request, graph, lock_session, started)
                ending = "waiting" if has_work_left(graph, handle) else "finished"
            except (RunTakenOverError, RunCancelledError, ExecutorClosedError, GraphDrained):
                raise
            except Exception:
                ending = "failed"
                raise
            finally:
                await run_to_end(self._finish(lock_session, handle, ending))

    def stop_run(self, thread_id: str) -> None:
        """Stop this process's run of the thread as cancelled, if there is one."""
        if thread_id in self._handles:
            self._handles[thread_id].end(RunCancelledError(RunCancelledError.__doc__))

    async def _finish(self, lock_session: LockSession, handle: RunHandle, ending: str | None) -> None:
        """Record the end and release the lock, in the background where something still works for the run."""
        if ending is None and (handle.work.is_lingering or self.node_threads.is_busy(handle.run_id)):
            task = asyncio.create_task(self._release_when_idle(lock_session, handle))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)
            return
        await self._release(lock_session, handle, ending)

    async def _release_when_idle(self, lock_session: LockSession, handle: RunHandle) -> None:
        if handle.work.lingering is not None:
            await asyncio.wait({handle.work.lingering})
        await self.node_threads.wait_until_idle(handle.run_id)
        await self._release(lock_session, handle, None)

    async def _release(self, lock_session: LockSession, handle: RunHandle, ending: str | None) -> None:
        """Release the lock, and forget the run only then: within this process nothing else keeps the next run out.

        Runs share sessions, and a session is granted an advisory lock again that it holds already.
        """
        try:
            if isinstance(handle.error, RunCancelledError):
                await _record_cancelled_head(lock_session, handle)
        finally:
            try:
                await lock_session.release(handle, ending, _RELEASE_PATIENCE)
            finally:
                self._handles.pop(handle.thread_id, None)

    async def _end_all(self) -> None:
        """Leave what still runs to the daemon; a synchronous node keeps its lock until the session is closed."""
        for handle in list(self._handles.values()):
            handle.end(ExecutorClosedError(ExecutorClosedError.__doc__))
        with suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_PATIENCE.total_seconds()):
                while self._handles or self._releases:
                    await asyncio.sleep(_CLOSE_CHECK_INTERVAL.total_seconds())


async def _record_cancelled_head(lock_session: LockSession, handle: RunHandle) -> None:
    """Record where a cancelled run has stopped, while its lock is held: that head is never resumed."""
    session = handle.session
    deadline = asyncio.get_running_loop().time() + _RELEASE_PATIENCE.total_seconds()
    while handle.head and session is not None and is_alive(session):
        try:
            async with lock_session.turn:
                return await runs.cancel_head(session, handle.thread_id, handle.workflow, handle.head)
        except psycopg.Error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_RETRY_INTERVAL.total_seconds())
    return None
