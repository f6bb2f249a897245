"""Owns what is deleted: rows of our own that are over, and LangGraph's rows of threads that a policy lets go.

Our rows are deleted by functions of the schema, which have their owner's rights and their own conditions.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from resumed.store.connection import Session, one_row
from resumed.store.locks import identifier_key
from resumed.store.sql_files import load_sql

RETENTION_KEY = identifier_key("resumed retention")
"""The advisory lock under which one replica, or one command, prunes at a time."""

_SQL = load_sql("retention")


@dataclass(frozen=True, slots=True)
class PrunePosition:
    """The newest checkpoint of the last thread that was looked at, and that thread; empty at a cycle's beginning."""

    checkpoint_id: str = ""
    thread_id: str = ""
    cycle_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class QuietThread:
    """A thread by its newest checkpoint over all namespaces."""

    checkpoint_id: str
    thread_id: str


@dataclass(frozen=True, slots=True)
class QuietPage:
    """One page of checkpoints: the threads that end in it, where it ends (None: it was empty), how many rows it had."""

    threads: tuple[QuietThread, ...]
    last: QuietThread | None
    rows: int


@dataclass(frozen=True, slots=True)
class PruneMark:
    """A thread that is to be deleted, as it stood when it was marked; `asked`: by a person, not by a policy."""

    thread_id: str
    workflow: str
    head: str
    newest_id: str
    fingerprint: str
    asked: bool
    retain: timedelta


@dataclass(frozen=True, slots=True)
class ThreadSize:
    """The rows of a thread in LangGraph's tables, and the bytes of their values as they are stored."""

    rows: int
    bytes: int

    def since(self, after: "ThreadSize") -> "ThreadSize":
        """Return how much has gone until `after` was measured."""
        return ThreadSize(self.rows - after.rows, self.bytes - after.bytes)


# Our own tables


async def forget_cases(session: Session, before: datetime, rows: int) -> int:
    """Delete at most `rows` closed cases that nobody has written since `before`; returns how many."""
    cursor = await session.execute(_SQL["old_cases"], {"before": before, "rows": rows})
    ids = [row["thread_id"] async for row in cursor]
    return await _forget(session, "forget_cases", ids=ids, before=before) if ids else 0


async def forget_attempts(session: Session, before: datetime, rows: int) -> int:
    """Delete at most `rows` attempts that ended before that and whose case has gone or is to go; returns how many."""
    return await _forget(session, "forget_attempts", before=before, rows=rows)


async def forget_runs(session: Session, before: datetime, rows: int) -> int:
    """Delete at most `rows` registered runs that ended before that; returns how many."""
    cursor = await session.execute(_SQL["old_runs"], {"before": before, "rows": rows})
    ids = [row["run_id"] async for row in cursor]
    return await _forget(session, "forget_runs", ids=ids, before=before) if ids else 0


async def forget_versions(session: Session, before: datetime) -> int:
    """Delete the workflow versions that no replica has announced since; returns how many."""
    return await _forget(session, "forget_versions", before=before)


async def forget_audit(session: Session, before: datetime, rows: int) -> int:
    """Delete at most `rows` audit entries older than that; returns how many."""
    return await _forget(session, "forget_audit", before=before, rows=rows)


async def forget_unwanted(session: Session, rows: int) -> int:
    """Delete at most `rows` notices that no replica has wanted for a week; returns how many."""
    return await _forget(session, "forget_unwanted", rows=rows)


async def forget_marks(session: Session, threads: Sequence[str]) -> int:
    """Delete the marks of these threads and what is stale of all others; returns how many marks."""
    return await _forget(session, "forget_marks", threads=list(threads))


async def _forget(session: Session, name: str, **parameters: object) -> int:
    return int((await one_row(session, _SQL[name], parameters))["rows"])


# The look for threads to prune


async def missing_rights(session: Session) -> list[str]:
    """Name those of LangGraph's tables from which this role may not delete."""
    return [row["name"] async for row in await session.execute(_SQL["missing_rights"])]


async def prune_position(session: Session, policies: str) -> PrunePosition:
    """Read how far the look under these policies has come; the beginning where there was none."""
    row = await (await session.execute(_SQL["position"], {"policies": policies})).fetchone()
    return PrunePosition(**row) if row else PrunePosition()


async def move_position(session: Session, policies: str, position: PrunePosition) -> None:
    """Record how far the look under these policies has come; the empty position begins a cycle."""
    where = {"checkpoint_id": position.checkpoint_id, "thread_id": position.thread_id}
    await session.execute(_SQL["move"], {"policies": policies, **where})


async def quiet_page(session: Session, after: PrunePosition, upper: str, rows: int) -> QuietPage:
    """Read the next `rows` checkpoints after a position with ids below `upper`, and which threads end in them."""
    parameters = {"after": after.checkpoint_id, "thread": after.thread_id, "upper": upper, "rows": rows}
    found = await (await session.execute(_SQL["page"], parameters)).fetchall()
    threads = [(QuietThread(row["checkpoint_id"], row["thread_id"]), row["ends"]) for row in found]
    last = threads[-1][0] if threads else None
    return QuietPage(tuple(one for one, ends in threads if ends), last, found[0]["rows"] if found else 0)


async def timeless_threads(session: Session, cut: datetime, after: str, rows: int) -> list[str]:
    """Name the next threads after one whose head tells no time and was first seen before the cut."""
    cursor = await session.execute(_SQL["timeless"], {"cut": cut, "after": after, "rows": rows})
    return [row["thread_id"] async for row in cursor]


async def prunable_threads(session: Session, threads: Sequence[str]) -> set[str]:
    """Keep the threads that `keep_latest` has something to delete of."""
    cursor = await session.execute(_SQL["prunable"], {"threads": list(threads)})
    return {row["thread_id"] async for row in cursor}


# One thread, under its lock


async def begin_snapshot(session: Session) -> None:
    """Have the transaction that has just begun see one snapshot to its end."""
    await session.execute(_SQL["snapshot"])


async def thread_size(session: Session, thread_id: str) -> ThreadSize:
    """Measure a thread's rows in LangGraph's tables."""
    return ThreadSize(**await one_row(session, _SQL["size"], {"thread": thread_id}))


async def delete_rows(session: Session, thread_id: str) -> None:
    """Delete every row of a thread that this transaction's snapshot shows, in the order in which runs write them."""
    for name in ("delete_checkpoints", "delete_blobs", "delete_writes"):
        await session.execute(_SQL[name], {"thread": thread_id})


async def is_there(session: Session, thread_id: str) -> bool:
    """Return whether a thread has any row in LangGraph's tables."""
    return bool((await one_row(session, _SQL["still_there"], {"thread": thread_id}))["there"])


# Marks of threads that are to be deleted


async def mark_thread(session: Session, mark: PruneMark) -> None:
    """Mark a thread as to be deleted from how it stands now, in place of an older mark."""
    await session.execute(_SQL["mark"], asdict(mark))


async def marked_threads(session: Session, threads: Sequence[str]) -> set[str]:
    """Keep the threads that are marked and not yet deleted."""
    cursor = await session.execute(_SQL["marked"], {"threads": list(threads)})
    return {row["thread_id"] async for row in cursor}


async def ripe_marks(session: Session, before: datetime, workflows: Sequence[str], rows: int) -> list[PruneMark]:
    """Read the marks of these workflows that were made before that, the oldest first."""
    parameters = {"before": before, "workflows": list(workflows), "rows": rows}
    cursor = await session.execute(_SQL["ripe"], parameters)
    names = PruneMark.__dataclass_fields__
    return [PruneMark(**{name: row[name] for name in names}) async for row in cursor]


async def note_deleted(session: Session, thread_id: str) -> None:
    """Keep the mark as the memory of a deletion, in the transaction of that."""
    await session.execute(_SQL["deleted"], {"thread": thread_id})


async def raced_threads(session: Session, rows: int) -> dict[str, str]:
    """Map threads that an unlocked run has saved again after they were deleted to their workflows."""
    cursor = await session.execute(_SQL["raced"], {"rows": rows})
    return {row["thread_id"]: row["workflow"] async for row in cursor}
