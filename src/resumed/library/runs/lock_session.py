"""Owns one session that holds the locks of many runs: asks it for signs of life, takes the locks again when it dies.

A restart of the database frees every lock while the application lives; the daemon doubts free locks for a while then.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

import psycopg

from resumed.errors import DatabaseError, ResumedError, RunCancelledError, RunTakenOverError
from resumed.library.runs.run_handle import RunHandle
from resumed.store import locks, runs
from resumed.store.connection import Session, Target, connect, is_alive, is_usable
from resumed.store.database_errors import is_conflict
from resumed.store.runs import LockAnswer, NewRun

_POLL = timedelta(seconds=1)
_AGAIN = timedelta(milliseconds=200)
_PATIENCE = timedelta(seconds=60)
_PREPARE_AFTER = 0
MOST_CONFLICTS = 5


class LockSession:
    """A session for locks and saves, opened again whenever it is lost. One user at a time: whoever has `turn`."""

    def __init__(self, target: Target) -> None:
        """Open nothing yet."""
        self.turn = asyncio.Lock()
        self.holds: set[RunHandle] = set()
        self._target = target
        self._session: Session | None = None
        self._connected = asyncio.Event()
        self._doubted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect and keep watch. Raises DatabaseError."""
        self._session = await self._connect()
        self._connected.set()
        self._spawn(self._watch())

    async def close(self) -> None:
        """End the session, and with it every lock that it holds."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def session(self) -> Session:
        """Give the session, once there is one."""
        await self._connected.wait()
        assert self._session is not None  # noqa: S101 - what `_connected` means
        return self._session

    async def begin(self, run: NewRun) -> tuple[Session, LockAnswer]:
        """Ask for the thread's lock and register the run, on the session that is returned.

        Where the session is lost in the middle it is asked again: the answer is then `unfinished`, by this very run.
        """
        conflicts = 0
        while True:
            session = await self.session()
            try:
                async with self.turn:
                    return session, await runs.begin_run(session, run)
            except psycopg.Error as error:
                await self._unlocked(session, run.thread_id)
                conflicts += is_conflict(error)
                if not is_conflict(error) or conflicts > MOST_CONFLICTS:
                    self.hear(session, error)
                await asyncio.sleep(_AGAIN.total_seconds())

    async def _unlocked(self, session: Session, thread_id: str) -> None:
        """Give a lock back that may have been taken, on a session that many share."""
        with suppress(psycopg.Error):
            async with self.turn:
                await locks.unlock(session, thread_id)

    def attach(self, hold: RunHandle, session: Session) -> None:
        """Keep the lock of a run that was begun on this session; where that was lost since, take it again."""
        hold.secure(session)
        self.holds.add(hold)
        if session is not self._session and self._session is not None:
            hold.lose()
            self._spawn(self._regain(hold, self._session))

    async def release(self, hold: RunHandle, state: str | None, patience: timedelta) -> None:
        """Mark how the run ended (None: it has not) and give its lock back.

        Without a session it is waited for; where none comes, the daemon finds out by the rows. On a session that many
        runs use it may take longer than `patience`: it then goes on without its caller, or the lock would stay.
        """
        await asyncio.wait({self._spawn(self._released(hold, state, patience))}, timeout=patience.total_seconds())

    async def _released(self, hold: RunHandle, state: str | None, patience: timedelta) -> None:
        try:
            with suppress(TimeoutError, psycopg.Error, ResumedError):
                async with asyncio.timeout(patience.total_seconds()):
                    session = hold.session if hold.error is not None else await hold.secured()
                if session is not None and is_alive(session):
                    await self._unlocked_as(session, hold, state)
        finally:
            self.holds.discard(hold)
            hold.close()

    async def _unlocked_as(self, session: Session, hold: RunHandle, state: str | None) -> None:
        async with self.turn:
            try:
                await _ended(session, hold, state)
            except psycopg.Error:
                await self._let_go(session, hold)
                raise

    async def _let_go(self, session: Session, hold: RunHandle) -> None:
        """Give back the lock of a run whose end the database did not take: the daemon finds out by the rows.

        A session that does not even do that is closed; it takes the locks of its other runs again.
        """
        try:
            if await is_usable(session):
                await locks.unlock(session, hold.thread_id)
        except psycopg.Error:
            await session.close()
        self._doubted.set()

    async def mend(self, session: Session) -> None:
        """After an error on the session, see whether it can take another statement; it is closed where it cannot."""
        async with self.turn:
            if not await is_usable(session):
                self._doubted.set()

    def hear(self, session: Session, error: psycopg.Error) -> None:
        """Hear of an error on the session, and raise it where the session lives on: then it is about something else."""
        if session is self._session and is_alive(session):
            raise error
        self._doubted.set()

    async def _watch(self) -> None:
        while True:
            await self._poll(await self.session())
            await self._mend()

    async def _poll(self, session: Session) -> None:
        """Return when the session is gone."""
        while is_alive(session):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._doubted.wait(), _POLL.total_seconds())
            self._doubted.clear()
            with suppress(psycopg.Error):
                await self._ask(session)

    async def _ask(self, session: Session) -> None:
        """Ask for a sign of life, and which runs are no longer ours."""
        async with self.turn:
            if not await is_usable(session):
                return
            lost = await runs.find_lost(session, [hold.run_id for hold in self.holds])
        for hold in [one for one in self.holds if one.run_id in lost]:
            hold.end(_why(lost[hold.run_id]))

    async def _mend(self) -> None:
        self._connected.clear()
        for hold in self.holds:
            hold.lose()
        session = await self._reconnected()
        self._session = session
        self._connected.set()
        for hold in self.holds:
            self._spawn(self._regain(hold, session))

    async def _reconnected(self) -> Session:
        while True:
            with suppress(DatabaseError):
                return await self._connect()
            await asyncio.sleep(_AGAIN.total_seconds())

    async def _regain(self, hold: RunHandle, session: Session) -> None:
        """Take the lock of a run again; while somebody holds it who has not gone on with the run, wait.

        That may be our own old session, of which the server does not know yet that it is gone.
        """
        deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
        while hold in self.holds and is_alive(session) and hold.error is None:
            said = "locked"
            with suppress(psycopg.Error):
                said = await self._asked_again(hold, session)
            if said == "regained":
                return
            if said == "gone" or asyncio.get_running_loop().time() > deadline:
                hold.end(RunTakenOverError(RunTakenOverError.__doc__))
            await asyncio.sleep(_AGAIN.total_seconds())

    async def _asked_again(self, hold: RunHandle, session: Session) -> str:
        async with self.turn:
            said = await runs.regain_run(session, hold.run_id, hold.thread_id)
        if said.said == "regained":
            await self._regained(hold, session, said.head)
        return said.said

    async def _regained(self, hold: RunHandle, session: Session, head: str | None) -> None:
        """Go on where the head is what the run saved last; else somebody who takes no lock has moved it."""
        if head == hold.saving:
            hold.head = head or ""
        if head == hold.head:
            return hold.secure(session)
        async with self.turn:
            await runs.end(session, hold.run_id, "failed")
            await locks.unlock(session, hold.thread_id)
        return hold.end(RunTakenOverError(RunTakenOverError.__doc__))

    async def _connect(self) -> Session:
        session = await connect(self._target, "resumed executor")
        session.prepare_threshold = _PREPARE_AFTER
        return session

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _ended(session: Session, hold: RunHandle, state: str | None) -> None:
    """Mark how a run ended and give its lock back, again where the database asks for that."""
    for _ in range(MOST_CONFLICTS):
        try:
            await runs.release_run(session, hold.run_id, hold.thread_id, state)
        except psycopg.Error as error:
            if not is_conflict(error):
                raise
            await asyncio.sleep(_AGAIN.total_seconds())
        else:
            return
    await runs.release_run(session, hold.run_id, hold.thread_id, state)


def _why(state: str) -> RunCancelledError | RunTakenOverError:
    if state == "cancelled":
        return RunCancelledError(RunCancelledError.__doc__)
    return RunTakenOverError(RunTakenOverError.__doc__)
