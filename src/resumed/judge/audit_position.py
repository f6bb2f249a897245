"""Owns how far the audit has been read, so that each entry is told once, however late its transaction commits.

Ids are given before the transaction commits, so a lower one may appear after a higher one. Who writes to the audit
holds a lock on the table from before its rows get their ids until its transaction ends: what was given out while a
transaction held it may still appear, and nothing else.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

MOST_KNOWN = 100_000


@dataclass(slots=True)
class AuditPosition:
    """Every id up to `settled` has appeared or never will; `known` are those above it that were told.

    `writers` are the transactions that may still bring ids up to `mark`; None: not asked since the mark was made.
    """

    settled: int = 0
    known: set[int] = field(default_factory=set)
    mark: int = 0
    writers: AbstractSet[str] | None = None

    @classmethod
    def behind(cls, newest: Iterable[int], rows: int) -> "AuditPosition":
        """Return the position of one who begins now: `newest` are at most `rows` ids, and none of them is told."""
        known = set(newest)
        settled = min(known) - 1 if len(known) >= rows else 0
        return cls(settled, known, max(known, default=settled))

    @property
    def awaits_writers(self) -> bool:
        """Return whether to ask for the writers before the next read."""
        return bool(self.known)

    def see_writers(self, now: AbstractSet[str]) -> None:
        """Note who holds the lock, asked after the last read and before the next one."""
        self.writers = now if self.writers is None else self.writers & now

    def take(self, read: Iterable[int]) -> set[int]:
        """Return the ids that are new of those that were read above `settled`, and move on as far as is sure.

        A writer that never ends is waited for until a hundred thousand ids have to be kept for it.
        """
        new = set(read) - self.known
        self.known |= new
        if (self.writers is not None and not self.writers) or len(self.known) > MOST_KNOWN:
            self.settled = self.mark
            self.known = {one for one in self.known if one > self.settled}
            self.writers = None
        if self.writers is None:
            self.mark = max(self.known, default=self.settled)
        return new
