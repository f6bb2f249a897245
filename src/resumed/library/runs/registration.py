"""Begins a registered run: the thread's lock first, then the record, and what to do about an earlier run that died."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Command

from resumed.errors import RunTakenOverError, WorkflowAlreadyRunningError
from resumed.judge.verdict import ThreadSnapshot
from resumed.library.runs.lock_session import LockSession
from resumed.library.runs.run_call import RunCall
from resumed.library.runs.run_handle import RunHandle
from resumed.library.runs.supervision import run_to_end
from resumed.library.thread_judgement import judge_rows
from resumed.model import RESUMABLE
from resumed.rows import Run
from resumed.store import checkpoints, locks, runs, watermark
from resumed.store.connection import Session
from resumed.store.runs import NewRun

_PATIENCE = timedelta(seconds=1)
_AGAIN = timedelta(milliseconds=50)


class RunRegistrar:
    """Begins runs on one line; `holds` are the runs of this process by their threads."""

    def __init__(self, line: LockSession, holds: dict[str, RunHandle], serde: SerializerProtocol) -> None:
        """`serde` loads the input of a run that is gone on with."""
        self._line = line
        self._holds = holds
        self._serde = serde

    async def begin(self, call: RunCall, new: NewRun) -> tuple[RunHandle, Any]:
        """Give the hold on the thread and what the graph is to be given.

        The lock is tried for a second. Raises WorkflowAlreadyRunningError and RunTakenOverError.
        """
        deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
        while call.thread_id in self._holds:  # a run that has just released the lock is forgotten a moment later
            if asyncio.get_running_loop().time() > deadline:
                message = "this process is at the thread already"
                raise WorkflowAlreadyRunningError(message)
            await asyncio.sleep(_AGAIN.total_seconds())
        hold = self._holds[call.thread_id] = RunHandle(new.run_id, call.thread_id, call.workflow, "")
        beginning = asyncio.ensure_future(self._begin(call, new, hold))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # On a session that many share nothing may be cut off in the middle: what was begun is left open.
            await run_to_end(self._dropped(beginning))
            raise

    async def _begin(self, call: RunCall, new: NewRun, hold: RunHandle) -> tuple[RunHandle, Any]:
        try:
            return await self._begun(call, await self._with_rows(call, new), hold)
        except BaseException:
            del self._holds[call.thread_id]
            raise

    async def _dropped(self, beginning: "asyncio.Future[tuple[RunHandle, Any]]") -> None:
        with suppress(Exception):
            hold, _ = await beginning
            await self._line.release(hold, None, _PATIENCE)
            del self._holds[hold.thread_id]

    async def _begun(self, call: RunCall, new: NewRun, hold: RunHandle) -> tuple[RunHandle, Any]:
        deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
        while True:
            session, said = await self._line.begin(new)
            if said.said == "begun":
                hold.head = said.head or ""
                self._line.attach(hold, session)
                return hold, call.input
            earlier = await self._asked(session, call, new) if said.said == "unfinished" else None
            if earlier is not None:
                hold.run_id, hold.head, given = earlier
                self._line.attach(hold, session)
                return hold, given
            if asyncio.get_running_loop().time() > deadline:
                message = "somebody else holds the thread's lock"
                raise WorkflowAlreadyRunningError(message)
            await asyncio.sleep(_AGAIN.total_seconds())

    async def _asked(self, session: Session, call: RunCall, new: NewRun) -> tuple[str, str, Any] | None:
        async with self._line.turn:
            return await self._earlier(session, call, new)

    async def _earlier(self, session: Session, call: RunCall, new: NewRun) -> tuple[str, str, Any] | None:
        """Deal with a run that has not ended though the lock is ours: go on with it, end it, or refuse.

        Gives the run to go on with, its head and its input; None where it is over and the new one may begin.
        """
        found = (await checkpoints.snapshots(session, [call.thread_id])).get(call.thread_id)
        run = found.head.run if found is not None else None
        if found is not None and run is not None:
            if run.run_id == new.run_id and run.state == "open":
                return run.run_id, run.head_before, call.input
            if call.input is None and await self._unfinished(session, found):
                return await self._adopted(session, found, run, new)
        try:
            await self._end_earlier(session, call.thread_id, found, new)
        finally:
            await locks.unlock(session, call.thread_id)
        return None

    async def _end_earlier(self, session: Session, thread_id: str, found: ThreadSnapshot | None, new: NewRun) -> None:
        run = (await runs.unended_runs(session, [thread_id])).get(thread_id)
        if run is None:
            return
        if run.run_id == new.run_id:
            raise RunTakenOverError(RunTakenOverError.__doc__)
        if found is not None and await self._unfinished(session, found):
            message = (
                "an earlier run of the thread died and has not ended: the daemon goes on with it; to go on with it "
                "here give None as the input, to drop it `.cancel()` it"
            )
            raise WorkflowAlreadyRunningError(message)
        await runs.end(session, run.run_id, "finished")

    async def _adopted(self, session: Session, found: ThreadSnapshot, run: Run, new: NewRun) -> tuple[str, str, Any]:
        kept = await runs.stored_call(session, run.run_id) if found.head.unapplied else None
        await runs.adopt_run(session, run.run_id, new, found.head.checkpoint_id)
        given = await asyncio.to_thread(self._serde.loads_typed, kept.input) if kept is not None else None
        return run.run_id, found.head.checkpoint_id, given

    async def _unfinished(self, session: Session, found: ThreadSnapshot) -> bool:
        return judge_rows(found, await watermark.database_clock(session)).verdict in RESUMABLE

    async def _with_rows(self, call: RunCall, new: NewRun) -> NewRun:
        """A command saves rows before its first checkpoint: how the rows stand now tells later whether it has."""
        if not isinstance(call.input, Command):
            return new
        session = await self._line.session()
        async with self._line.turn:
            found = (await checkpoints.snapshots(session, [call.thread_id])).get(call.thread_id)
        return replace(new, rows_before=found.fingerprint if found is not None else None)
