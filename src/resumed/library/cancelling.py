"""Cancels a thread's run for good, wherever it runs: nobody resumes the head where it stops."""

import asyncio
from datetime import timedelta

import psycopg

from resumed.daemon.acts import Office, Word
from resumed.daemon.acts import cancel as cancel_case
from resumed.daemon.sweep import Rules
from resumed.errors import RunCancelledError
from resumed.library.hold import Hold
from resumed.library.line import Line
from resumed.model import Numbers
from resumed.store import runs
from resumed.store.connect import Session, alive

_PATIENCE = timedelta(seconds=10)
_AGAIN = timedelta(milliseconds=200)
_AGE = timedelta(0)
_LONG = timedelta(days=36500)
# Of what a sweep asks, cancelling needs nothing: its case counts whatever the ages are.
_RULES = Rules(Numbers(_AGE, _LONG, 1, 1, _AGE, _AGE, _LONG, 1), None, _AGE)


async def cancel(session: Session, thread_id: str, actor: str, reason: str | None) -> bool:
    """Cancel the thread's head as it is now and end its run, with an audit entry; False where nothing was left."""
    async with session.transaction():
        answer = await cancel_case(Office(session, _RULES, Word(actor, reason)), thread_id)
        ended = await runs.cancel(session, thread_id)
    return answer.done or ended


async def stopped(line: Line, hold: Hold) -> None:
    """Where a cancelled run has stopped, that is the cancelled head; its lock is still held."""
    session = hold.session
    deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
    while isinstance(hold.error, RunCancelledError) and hold.head and session is not None and alive(session):
        try:
            async with line.turn:
                return await runs.cancel_head(session, hold.thread_id, hold.workflow, hold.head)
        except psycopg.Error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_AGAIN.total_seconds())
    return None
