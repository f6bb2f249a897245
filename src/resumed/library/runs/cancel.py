"""Cancels a thread's run for good, wherever it runs: nobody resumes the head where it stops."""

import asyncio
from datetime import timedelta

import psycopg

from resumed.errors import RunCancelledError
from resumed.library.runs.lock_session import LockSession
from resumed.library.runs.run_handle import RunHandle
from resumed.model import PolicyLimits
from resumed.operations.assess import SweepRules
from resumed.operations.containment import OperatorCommand, OperatorContext
from resumed.operations.containment import cancel_thread as cancel_case
from resumed.store import runs
from resumed.store.connection import Session, is_alive

_PATIENCE = timedelta(seconds=10)
_AGAIN = timedelta(milliseconds=200)
_AGE = timedelta(0)
_LONG = timedelta(days=36500)
# Of what a sweep asks, cancelling needs nothing: its case counts whatever the ages are.
_RULES = SweepRules(PolicyLimits(_AGE, _LONG, 1, 1, _AGE, _AGE, _LONG, 1), None, _AGE)


async def cancel_run(session: Session, thread_id: str, actor: str, reason: str | None) -> bool:
    """Cancel the thread's head as it is now and end its run, with an audit entry; False where nothing was left."""
    async with session.transaction():
        answer = await cancel_case(OperatorContext(session, _RULES, OperatorCommand(actor, reason)), thread_id)
        ended = await runs.cancel(session, thread_id)
    return answer.done or ended


async def wait_until_stopped(line: LockSession, hold: RunHandle) -> None:
    """Where a cancelled run has stopped, that is the cancelled head; its lock is still held."""
    session = hold.session
    deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
    while isinstance(hold.error, RunCancelledError) and hold.head and session is not None and is_alive(session):
        try:
            async with line.turn:
                return await runs.cancel_head(session, hold.thread_id, hold.workflow, hold.head)
        except psycopg.Error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_AGAIN.total_seconds())
    return None
