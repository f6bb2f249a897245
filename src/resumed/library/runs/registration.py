"""Begins a registered run: the thread's lock first, then the record, and what to do about an earlier run that died."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from langgraph.types import Command

from resumed.errors import RunTakenOverError, WorkflowAlreadyRunningError
from resumed.judge.verdict import ThreadSnapshot, control_part
from resumed.library.event_loop import run_to_end
from resumed.library.runs.lock_session import LockSession, unlock_after_error
from resumed.library.runs.run_handle import RunHandle
from resumed.library.runs.run_request import RunRequest
from resumed.library.thread_judgement import judge_rows
from resumed.model import RESUMABLE
from resumed.rows import Run
from resumed.store import checkpoints, locks, runs, watermark
from resumed.store.connection import Session
from resumed.store.runs import NewRun

_LOCK_TIMEOUT = timedelta(seconds=1)
_RETRY_INTERVAL = timedelta(milliseconds=50)


class RunRegistrar:
    """Begins runs on one lock session; `handles` are the runs of this process by their threads."""

    def __init__(self, lock_session: LockSession, handles: dict[str, RunHandle], owner: str) -> None:
        """`owner` names this process in the record."""
        self._lock_session = lock_session
        self._handles = handles
        self._owner = owner

    async def begin(self, request: RunRequest) -> tuple[RunHandle, Any]:
        """Return the handle on the thread and what the graph is to be given.

        The lock is tried for a second. Raises WorkflowAlreadyRunningError and RunTakenOverError.
        """
        record = request.build_record(self._owner)
        deadline = _deadline()
        while request.thread_id in self._handles:  # forgotten a moment after its lock was released
            if _is_over(deadline):
                message = "this process is running the thread already"
                raise WorkflowAlreadyRunningError(message)
            await asyncio.sleep(_RETRY_INTERVAL.total_seconds())
        handle = RunHandle(record.run_id, request.thread_id, request.workflow, "")
        self._handles[request.thread_id] = handle
        beginning = asyncio.ensure_future(self._begin(request, record, handle))
        try:
            return handle, await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # On a session that many share nothing may be cut off in the middle: what was begun is left open.
            await run_to_end(self._drop(handle, beginning))
            raise

    async def _begin(self, request: RunRequest, record: NewRun, handle: RunHandle) -> Any:
        try:
            return await self._lock_and_record(request, await self._with_rows(request, record), handle)
        except BaseException:
            del self._handles[request.thread_id]
            raise

    async def _drop(self, handle: RunHandle, beginning: "asyncio.Future[Any]") -> None:
        with suppress(Exception):
            await beginning
            await self._lock_session.release(handle, None, _LOCK_TIMEOUT)
            del self._handles[handle.thread_id]

    async def _lock_and_record(self, request: RunRequest, record: NewRun, handle: RunHandle) -> Any:
        """Take the lock and record the run, or go on with an earlier one; returns what the graph is to be given."""
        deadline = _deadline()
        while True:
            session, answer = await self._lock_session.begin_run(record)
            if answer.said == "begun":
                handle.head = answer.head or ""
                self._lock_session.attach(handle, session)
                return request.input
            earlier = await self._settle_earlier(session, request, record) if answer.said == "unfinished" else None
            if earlier is not None:
                handle.run_id, handle.head, given = earlier
                self._lock_session.attach(handle, session)
                return given
            if _is_over(deadline):
                message = "the thread's lock is held elsewhere"
                raise WorkflowAlreadyRunningError(message)
            await asyncio.sleep(_RETRY_INTERVAL.total_seconds())

    async def _settle_earlier(
        self, session: Session, request: RunRequest, record: NewRun
    ) -> tuple[str, str, Any] | None:
        """Deal with a run that has not ended though the lock is ours: go on with it, end it, or refuse.

        Returns the run to go on with, its head and its input; None where it has ended and the new one may begin. The
        lock is ours only where there is a run to go on with.
        """
        thread_id = request.thread_id
        async with self._lock_session.turn:
            try:
                snapshot = (await checkpoints.snapshots(session, [thread_id])).get(thread_id)
                run = snapshot.head.run if snapshot is not None else None
                if snapshot is not None and run is not None:
                    if run.run_id == record.run_id and run.state == "open":
                        return run.run_id, run.head_before, request.input
                    if request.input is None and await _is_resumable(session, snapshot):
                        return await _adopt(session, snapshot, run, request, record)
                await _end_earlier(session, snapshot, record)
            except BaseException:
                await unlock_after_error(session, thread_id)
                raise
            await locks.unlock(session, thread_id)
        return None

    async def _with_rows(self, request: RunRequest, record: NewRun) -> NewRun:
        if not isinstance(request.input, Command):
            return record
        session = await self._lock_session.get_session()
        async with self._lock_session.turn:
            return replace(record, rows_before=await _read_rows_before(session, request.thread_id, request.input))


async def _end_earlier(session: Session, snapshot: ThreadSnapshot | None, record: NewRun) -> None:
    run = (await runs.unended_runs(session, [record.thread_id])).get(record.thread_id)
    if run is None:
        return
    if run.run_id == record.run_id:
        raise RunTakenOverError(RunTakenOverError.__doc__)
    if snapshot is not None and await _is_resumable(session, snapshot):
        message = (
            "an earlier run of the thread died and has not ended: the daemon goes on with it; to go on with it "
            "here pass None as the input, to drop it `.cancel()` it"
        )
        raise WorkflowAlreadyRunningError(message)
    await runs.end(session, run.run_id, "finished")


async def _adopt(
    session: Session, snapshot: ThreadSnapshot, run: Run, request: RunRequest, record: NewRun
) -> tuple[str, str, Any]:
    """Make a run that died ours; its input is given where it was not applied."""
    stored = await runs.stored_call(session, run.run_id) if snapshot.head.unapplied else None
    given = await asyncio.to_thread(request.serde.loads_typed, stored.input) if stored is not None else None
    record = replace(record, rows_before=await _read_rows_before(session, run.thread_id, given))
    await runs.adopt_run(session, run.run_id, record, snapshot.head.checkpoint_id)
    return run.run_id, snapshot.head.checkpoint_id, given


async def _is_resumable(session: Session, snapshot: ThreadSnapshot) -> bool:
    return judge_rows(snapshot, await watermark.database_clock(session)).verdict in RESUMABLE


async def _read_rows_before(session: Session, thread_id: str, given: Any) -> str | None:
    """Read how the rows stand that a command changes before its first checkpoint; None where `given` is no command.

    They show later whether it has been applied. What inner graphs save is not its.
    """
    if not isinstance(given, Command):
        return None
    snapshots = await checkpoints.threads_without_run(session, [thread_id])
    return control_part(snapshots[thread_id].fingerprint) if thread_id in snapshots else None


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _LOCK_TIMEOUT.total_seconds()


def _is_over(deadline: float) -> bool:
    return asyncio.get_running_loop().time() > deadline
