"""Owns what the control process waits for while workers prune: one answer a thread, or the end of its worker."""

import asyncio
from dataclasses import dataclass, field

from resumed.model import Refusal
from resumed.workers.prune_messages import PruneResult, refused


@dataclass(slots=True)
class PruneReplies:
    """The threads that workers are pruning now, each with its worker's name."""

    waiting: dict[str, tuple[str, asyncio.Future[PruneResult]]] = field(default_factory=dict)

    def expect(self, thread_id: str, worker: str) -> asyncio.Future[PruneResult]:
        """Promise what this worker will say of the thread; a thread whose worker dies is refused."""
        promised: asyncio.Future[PruneResult] = asyncio.get_running_loop().create_future()
        self.waiting[thread_id] = worker, promised
        return promised

    def heard(self, result: PruneResult) -> None:
        """Keep the promise; an answer that nobody waits for any more is dropped."""
        _, promised = self.waiting.pop(result.thread_id, ("", None))
        if promised is not None and not promised.done():
            promised.set_result(result)

    def worker_exited(self, worker: str) -> None:
        """Refuse what this worker had in hand: whether it was committed, the thread's rows say."""
        for thread_id in [thread for thread, (name, _) in self.waiting.items() if name == worker]:
            self.heard(refused(thread_id, Refusal.FAILED, "WorkerExit"))
