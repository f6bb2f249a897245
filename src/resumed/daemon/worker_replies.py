"""Owns what workers were asked about single threads, and hands each answer to the one who waits for it."""

import asyncio
from dataclasses import dataclass, field

from resumed.model import Judgement, Refusal
from resumed.workers.protocol import ThreadInspected
from resumed.workers.prune_messages import ThreadPruned, refused


class NotInspectedError(Exception):
    """A worker could not read what a thread's values and graph say; the message is the class of the error."""


@dataclass(slots=True)
class WorkerReplies:
    """The threads that workers are inspecting and pruning now; an answer that nobody waits for any more is dropped."""

    _inspections: dict[str, asyncio.Future[Judgement | None]] = field(default_factory=dict)
    _prunes: dict[str, tuple[str, asyncio.Future[ThreadPruned]]] = field(default_factory=dict)

    def inspection(self, thread_id: str) -> asyncio.Future[Judgement | None]:
        """Return the future judgement of a thread that a worker was asked to inspect. It raises NotInspectedError."""
        future = self._inspections.get(thread_id)
        if future is None or future.done():  # a command that waited for it has given up
            future = self._inspections[thread_id] = asyncio.get_running_loop().create_future()
        return future

    def set_inspected(self, message: ThreadInspected) -> None:
        """Hand over what a worker has said of a thread."""
        future = self._inspections.pop(message.thread_id, None)
        if future is None or future.done():
            return
        if message.error_type is not None:
            future.set_exception(NotInspectedError(message.error_type))
        elif message.judgement is None:
            future.set_result(None)
        else:  # a verdict of values and graph is sure and has no end, whatever the rows left open
            future.set_result(Judgement(message.judgement.verdict, message.judgement.reason))

    def prune(self, thread_id: str, worker: str) -> asyncio.Future[ThreadPruned]:
        """Return the future result of a thread that this worker was asked to prune; refused where the worker ends."""
        future: asyncio.Future[ThreadPruned] = asyncio.get_running_loop().create_future()
        self._prunes[thread_id] = worker, future
        return future

    def set_pruned(self, message: ThreadPruned) -> None:
        """Hand over what became of a thread."""
        _, future = self._prunes.pop(message.thread_id, ("", None))
        if future is not None and not future.done():
            future.set_result(message)

    def refuse_prunes_of(self, worker: str) -> None:
        """Refuse what a worker that has ended was to prune: whether it was committed, the thread's rows say."""
        for thread_id in [thread for thread, (name, _) in self._prunes.items() if name == worker]:
            self.set_pruned(refused(thread_id, Refusal.FAILED, "WorkerExit"))
