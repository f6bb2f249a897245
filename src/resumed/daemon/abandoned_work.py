"""Owns what workers had in hand when they ended, until the control process has settled it in the database.

Threads are taken for a block; what the block could not settle comes back.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from resumed.model import Attempt, Outcome


@dataclass(slots=True)
class AbandonedWork:
    """Threads that came to nothing, those that may have killed their worker, and open attempts whose end we know.

    `_retired` maps threads whose worker we ended to that worker, whose name its replacement has too. `_left_open` holds
    attempts that lost their session, and that their worker lived to report and could not close.
    """

    _unstarted: set[str] = field(default_factory=set)
    _suspects: dict[str, bool] = field(default_factory=dict)
    _retired: dict[str, str] = field(default_factory=dict)
    _left_open: set[tuple[str, int]] = field(default_factory=set)

    def add_unstarted(self, threads: Collection[str]) -> None:
        """Note threads that were handed out and came to nothing."""
        self._unstarted |= set(threads)

    def add_suspects(self, threads: Collection[str], *, alone: bool) -> None:
        """Note threads that a worker had in hand when it died; `alone`: it was the isolation worker."""
        self._suspects |= dict.fromkeys(threads, alone)

    def add_retired(self, threads: Collection[str], worker: str) -> None:
        """Note threads that a worker had in hand when we ended it because of a stuck node."""
        self._retired |= dict.fromkeys(threads, worker)

    def add_left_open(self, thread_id: str, attempt: int) -> None:
        """Note an attempt that lost its session, and that its worker could not close."""
        self._left_open.add((thread_id, attempt))

    def discard_retired(self, thread_id: str) -> None:
        """Forget that a thread's worker was retired: its attempt is closed, or the next one has begun."""
        self._retired.pop(thread_id, None)

    def discard_attempt(self, attempt: Attempt) -> None:
        """Forget an attempt that is closed."""
        self.discard_retired(attempt.thread_id)
        self._left_open.discard((attempt.thread_id, attempt.attempt))

    def outcome_of(self, attempt: Attempt) -> Outcome | None:
        """Return how this open attempt ended, where it did not end by the death of its worker."""
        if self._retired.get(attempt.thread_id) == attempt.worker:
            return Outcome.DRAINED
        return Outcome.LOCK_LOST if (attempt.thread_id, attempt.attempt) in self._left_open else None

    @contextmanager
    def take_suspects(self) -> Iterator[dict[str, bool]]:
        """Take the threads that a worker had in hand when it died, and whether each was alone in it.

        What the block leaves in the dictionary comes back.
        """
        taken, self._suspects = self._suspects, {}
        try:
            yield taken
        finally:
            self._suspects = taken | self._suspects

    @contextmanager
    def take_unstarted(self, inflight: Collection[str]) -> Iterator[set[str]]:
        """Take the threads that were handed out and came to nothing, except suspects and those in flight again.

        They come back if the block raises.
        """
        taken = self._unstarted - set(inflight) - self._suspects.keys()
        self._unstarted -= taken
        try:
            yield taken
        except BaseException:
            self._unstarted |= taken
            raise
