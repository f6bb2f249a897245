"""Where the runs of one process are: the sessions that hold their locks, who begins them, how they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from langgraph.errors import GraphDrained

from resumed.errors import ExecutorClosedError, RunCancelledError, RunTakenOverError
from resumed.library.runs import cancel
from resumed.library.runs.graph_binding import GraphBinder, outlives_run
from resumed.library.runs.lock_session import LockSession
from resumed.library.runs.node_threads import NodeThreads
from resumed.library.runs.registered_run import RegisteredRun, drain_run
from resumed.library.runs.registration import RunRegistrar
from resumed.library.runs.run_call import RunCall
from resumed.library.runs.run_handle import RunHandle
from resumed.library.runs.supervision import run_to_end
from resumed.store.connection import Target
from resumed.store.runs import NewRun

_RELEASE_PATIENCE = timedelta(seconds=10)
_LOOK = timedelta(milliseconds=10)


class RunCoordinator:
    """Runs side by side on a few sessions; at most `most` at once, more wait for their turn."""

    def __init__(self, lender: GraphBinder, most: int) -> None:
        """Open nothing yet."""
        self._lender = lender
        self._room = asyncio.Semaphore(most)
        self._nodes = NodeThreads()
        self._lines: list[LockSession] = []
        self._holds: dict[str, RunHandle] = {}
        self._endings: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def opened(self, target: Target, sessions: int) -> AsyncIterator[None]:
        """Keep the sessions for the length of a block; what still runs at its end is left to the daemon."""
        async with AsyncExitStack() as stack:
            self._nodes.adopt(asyncio.get_running_loop())
            for _ in range(sessions):
                line = LockSession(target)
                stack.push_async_callback(line.close)
                await line.open()
                self._lines.append(line)
            try:
                yield
            finally:
                self._lines.clear()
                await self._end_all()

    @asynccontextmanager
    async def registered(self, new: NewRun, call: RunCall) -> AsyncIterator[RegisteredRun]:
        """Hold the thread's lock and have the run on record for the length of a block, and mark how it ended."""
        graph = call.graph
        assert graph is not None  # noqa: S101 - only what the daemon is to begin has none
        line = self._line()
        await self._lender.require_home(graph, line)
        async with self._room:
            hold, given = await RunRegistrar(line, self._holds, self._lender.serde_of(graph)).begin(call, new)
            ending: str | None = None
            try:
                lent, config = self._lender.lend(graph, line, hold), call.stamped(hold.run_id)
                yield RegisteredRun(lent, hold, given, config, self._lender.options(graph, call.options), hold.head)
                ending = "waiting" if outlives_run(graph, hold) else "finished"
            except (RunTakenOverError, RunCancelledError, ExecutorClosedError, GraphDrained):
                raise
            except Exception:
                ending = "failed"
                raise
            finally:
                await run_to_end(self._let_go(line, hold, ending))

    async def in_thread(self, run: RegisteredRun) -> Any:
        """Run the graph by its synchronous face, in a thread that counts for the run."""
        return await drain_run(run, self._nodes.run(lambda: run.call("invoke")))

    async def _end_all(self) -> None:
        """Leave what still runs to the daemon; a synchronous node keeps its lock until the session is closed."""
        for hold in list(self._holds.values()):
            hold.end(ExecutorClosedError(ExecutorClosedError.__doc__))
        with suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_PATIENCE.total_seconds()):
                while self._holds or self._endings:
                    await asyncio.sleep(_LOOK.total_seconds())

    def cancelled(self, thread_id: str) -> None:
        """Stop this process's run of the thread, if there is one."""
        if thread_id in self._holds:
            self._holds[thread_id].end(RunCancelledError(RunCancelledError.__doc__))

    def _line(self) -> LockSession:
        """Give the session with the fewest runs."""
        if not self._lines:
            message = "the executor is not open: use it with `async with`"
            raise RuntimeError(message)
        return min(self._lines, key=lambda line: len(line.holds))

    async def _let_go(self, line: LockSession, hold: RunHandle, ending: str | None) -> None:
        """Mark the end and give the lock back, once nothing works for the run any more."""
        if ending is None and (hold.working or self._nodes.busy(hold.run_id)):
            task = asyncio.create_task(self._when_quiet(line, hold))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)
            return
        await self._released(line, hold, ending)

    async def _when_quiet(self, line: LockSession, hold: RunHandle) -> None:
        if hold.lasting is not None:
            await asyncio.wait({hold.lasting})
        await self._nodes.quiet(hold.run_id)
        await self._released(line, hold, None)

    async def _released(self, line: LockSession, hold: RunHandle, ending: str | None) -> None:
        """Release the lock, and forget the run only then: within this process nothing else keeps the next run out.

        Runs share sessions, and a session is granted an advisory lock again that it holds already.
        """
        try:
            await cancel.wait_until_stopped(line, hold)
        finally:
            try:
                await line.release(hold, ending, _RELEASE_PATIENCE)
            finally:
                self._holds.pop(hold.thread_id, None)
