"""Owns what workers had in hand when they ended, until the control process has settled it in the database.

Each kind is taken for a block; what the block could not settle comes back.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class AbandonedWork:
    """Threads that came to nothing, threads that may have killed their worker, and workers that we ended ourselves."""

    _unstarted: set[str] = field(default_factory=set)
    _suspects: dict[str, bool] = field(default_factory=dict)
    _retired: set[str] = field(default_factory=set)

    def add_unstarted(self, threads: Collection[str]) -> None:
        """Note threads that were handed out and came to nothing."""
        self._unstarted |= set(threads)

    def add_suspects(self, threads: Collection[str], *, alone: bool) -> None:
        """Note threads that a worker had in hand when it died; `alone`: it was the isolation worker."""
        self._suspects |= dict.fromkeys(threads, alone)

    def add_retired(self, worker: str) -> None:
        """Note a worker that we ended because of a stuck node."""
        self._retired.add(worker)

    @contextmanager
    def take_retired(self) -> Iterator[set[str]]:
        """Take the names of workers that we ended because of a stuck node; they come back if the block raises."""
        taken, self._retired = self._retired, set()
        try:
            yield taken
        except BaseException:
            self._retired |= taken
            raise

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
