"""One run's handle on its thread: the session that holds the lock now, what works for the run, whether it is over."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from langgraph.runtime import RunControl

from resumed.errors import LockLostError, ResumedError
from resumed.store.connection import Session, is_alive


@dataclass(slots=True)
class RunWork:
    """What works for a run, and how that is stopped.

    Attributes:
        running: The task that is cancelled when the run is over.
        lingering: A task that was cancelled and need not have ended; its end releases the lock.
        control: What is drained when the run is over, where the graph runs in a thread.
    """

    running: "asyncio.Task[Any] | None" = None
    lingering: "asyncio.Task[Any] | None" = None
    control: RunControl | None = None

    @property
    def is_lingering(self) -> bool:
        """Whether a task that was cancelled still runs."""
        return self.lingering is not None and not self.lingering.done()

    def let_linger(self, task: "asyncio.Task[Any]") -> None:
        """Keep the lock until this task has ended; its error is retrieved, or asyncio would print it and its values."""
        self.lingering = task
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def drain(self) -> None:
        """Have a graph that runs in a thread stop at its next superstep."""
        if self.control is not None:
            self.control.request_drain()

    def stop(self) -> None:
        """Drain the graph, or cancel its task."""
        self.drain()
        if self.running is not None:
            cancel_once(self.running)


@dataclass(eq=False, slots=True)
class RunHandle:
    """A registered run of this process.

    Attributes:
        run_id: The run.
        thread_id: Its thread.
        workflow: Its workflow.
        head: The root checkpoint that it saved last; before that the one it began on, empty for none.
        saving: The root checkpoint that it is saving.
        session: The session that holds the thread's lock; None while the lock is lost.
        updated_channels: The channels that the head has updated, also while that is the one it began on.
        asked_person: Whether a task has asked a person since the head was saved.
        error: What ended the run before its graph did.
        work: What works for it.
    """

    run_id: str
    thread_id: str
    workflow: str
    head: str
    session: Session | None = None
    saving: str | None = None
    updated_channels: tuple[str, ...] | None = None
    asked_person: bool = False
    error: ResumedError | None = None
    work: RunWork = field(default_factory=RunWork)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for_session(self) -> Session:
        """Return the session that holds the lock, once there is one. Raises the error that ended the run."""
        while True:
            self.raise_if_ended()
            if self.session is not None and is_alive(self.session):
                return self.session
            self._changed.clear()
            await self._changed.wait()

    def set_session(self, session: Session) -> None:
        """Note that this session holds the lock."""
        self.session = session
        self._changed.set()

    def lose_session(self) -> None:
        """Note that the lock is lost; saves wait until it is held again."""
        self.session = None

    def end(self, error: ResumedError) -> None:
        """End the run: it saves nothing any more, because another process has gone on with it or it was cancelled."""
        self.error = self.error or error
        self._changed.set()
        self.work.stop()

    def close(self) -> None:
        """Let the run save nothing any more: its lock was released."""
        self.error = self.error or LockLostError("the run is over")
        self.session = None
        self._changed.set()

    def raise_if_ended(self) -> None:
        """Raise the error that ended the run, if one has."""
        if self.error is not None:
            raise self.error


def cancel_once(running: "asyncio.Task[Any]") -> None:
    """Cancel a call of a graph: cancelled a second time, LangGraph would return before its nodes have ended."""
    if not running.cancelling():
        running.cancel()
