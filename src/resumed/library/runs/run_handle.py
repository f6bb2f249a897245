"""One run's hold on its thread: the session that has its lock now, and whether the run is over. No effects."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from langgraph.runtime import RunControl

from resumed.errors import LockLostError, ResumedError
from resumed.store.connection import Session, is_alive


@dataclass(eq=False, slots=True)
class RunHandle:
    """A registered run of this process. `head` is what it saved last, `saving` what it is saving.

    `session` is the one that holds the thread's lock, None while it is lost. `left` are the channels that the head
    has updated, the one it began with too, `asked` says whether a task has asked a person since, for whoever asks
    whether work is left; `running` is what is cancelled when the run is over, `control`
    what is drained then, where it runs in a thread. `lasting` was cancelled and need not have ended.
    """

    run_id: str
    thread_id: str
    workflow: str
    head: str
    session: Session | None = None
    saving: str | None = None
    left: tuple[str, ...] | None = None
    asked: bool = False
    error: ResumedError | None = None
    running: "asyncio.Task[Any] | None" = None
    lasting: "asyncio.Task[Any] | None" = None
    control: RunControl | None = None
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def working(self) -> bool:
        """Whether something that was cancelled still runs."""
        return self.lasting is not None and not self.lasting.done()

    async def secured(self) -> Session:
        """Give the session that holds the lock, once there is one. Raises what `end` was given."""
        while True:
            if self.error is not None:
                raise self.error
            if self.session is not None and is_alive(self.session):
                return self.session
            self._told.clear()
            await self._told.wait()

    def secure(self, session: Session) -> None:
        """Note that the lock is held on this session."""
        self.session = session
        self._told.set()

    def lose(self) -> None:
        """Note that the lock is lost; saves wait until it is had again."""
        self.session = None

    def end(self, error: ResumedError) -> None:
        """Let nothing be saved any more: the run is somebody else's, or cancelled."""
        self.error = self.error or error
        self._told.set()
        if self.control is not None:
            self.control.request_drain()
        if self.running is not None:
            cancel_once(self.running)

    def close(self) -> None:
        """Let nothing be saved any more: the lock was released."""
        self.error = self.error or LockLostError("the run is over")
        self.session = None
        self._told.set()

    def require(self) -> None:
        """Raise what ended the hold, where something has."""
        if self.error is not None:
            raise self.error


def cancel_once(running: "asyncio.Task[Any]") -> None:
    """Cancel a call of a graph: cancelled a second time, LangGraph would return before its nodes have ended."""
    if not running.cancelling():
        running.cancel()
