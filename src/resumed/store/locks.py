"""The lock protocol.

A thread's lock is a session-level advisory lock whose key is the first eight bytes of SHA-256 of `resume_<thread_id>`,
big-endian, signed: public, stable, to be taken from any language.

Its holder is the only writer of the thread's checkpoints and attempts, and writes them through the very session that
holds the lock. The session serves one attempt at a time, in autocommit. It is never in a pool that could retire it
while the lock is relied on, never inside a transaction (whose idle timeout would end it) and never behind a transaction
pooler (which would give the lock to another client). When the session dies, Postgres frees the lock and refuses every
later statement on the session in the same moment: that is the fence.

The protocol guarantees that no two attempts run on one thread, on any number of hosts, and that none saves after its
lock is gone. It cannot stop an application that takes no lock (the compare-and-set of the saver notices that one), and
it stops writes, not nodes (the attempt polls its session and is cancelled).

Where the lock is held, `try_lock` returns False and the attempt is `busy`: only a later due time is recorded. A slow
holder keeps the lock for as long as its session lives; there is no lease that could expire. A session can take the same
lock twice and has to release it twice: an in-process set keeps tasks from doing so.

Whether a lock is held is read from `pg_locks`, never tried: a try-lock held for a moment could make an application's
start fail.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import psycopg

from resumed.store.connection import Cursor, Session, fetch_one, one_row
from resumed.store.sql_files import load_sql
from resumed.store.text_encoding import encode_text

_SQL = load_sql("locks")


def thread_key(thread_id: str) -> int:
    """Compute the key of a thread's advisory lock, a signed 64-bit number."""
    return identifier_key(f"resume_{thread_id}")


def identifier_key(identifier: str) -> int:
    """Compute the advisory key of any identifier: the first eight bytes of its SHA-256, big-endian, signed."""
    return int.from_bytes(hashlib.sha256(encode_text(identifier)).digest()[:8], "big", signed=True)


async def try_lock(session: Session, thread_id: str) -> tuple[bool, datetime]:
    """Take the thread's lock if it is free; return whether it was, and the database's time."""
    return await fetch_lock(await select_lock(session, thread_id))


async def select_lock(session: Session, thread_id: str) -> Cursor:
    """Ask for the thread's lock if it is free; in a pipeline the answer comes later."""
    return await session.execute(_SQL["try_lock"], {"key": thread_key(thread_id)})


async def fetch_lock(cursor: Cursor) -> tuple[bool, datetime]:
    """Return the answer to `select_lock`: whether it was free, and the database's time."""
    row = await fetch_one(cursor)
    return bool(row["locked"]), row["now"]


async def unlock(session: Session, thread_id: str) -> bool:
    """Release the thread's lock; return False where this session did not hold it."""
    row = await one_row(session, _SQL["unlock"], {"key": thread_key(thread_id)})
    return bool(row["unlocked"])


async def try_lock_for_transaction(session: Session, thread_id: str) -> bool:
    """Take the thread's lock until the current transaction ends, if it is free."""
    row = await one_row(session, _SQL["try_lock_for_transaction"], {"key": thread_key(thread_id)})
    return bool(row["locked"])


async def try_key(session: Session, key: int) -> bool:
    """Take the lock of any key if it is free."""
    return bool((await one_row(session, _SQL["try_lock"], {"key": key}))["locked"])


async def wait_for_key(session: Session, key: int, patience: timedelta) -> bool:
    """Wait so long, at least a millisecond, for the lock of any key; return False where it stayed held."""
    milliseconds = max(round(patience.total_seconds() * 1000), 1)
    await session.execute(_SQL["patience"], {"lock_timeout": f"{milliseconds}ms"})
    try:
        await session.execute(_SQL["wait"], {"key": key})
    except psycopg.errors.LockNotAvailable:
        return False
    return True


async def unlock_key(session: Session, key: int) -> bool:
    """Release the lock of any key; return False where this session did not hold it."""
    return bool((await one_row(session, _SQL["unlock"], {"key": key}))["unlocked"])


async def holds_key(session: Session, key: int) -> bool:
    """Return whether this session holds the lock of the key."""
    return bool((await one_row(session, _SQL["own"], {"key": key}))["own"])


async def is_key_held(session: Session, key: int) -> bool:
    """Return whether any session holds the lock of the key, without trying it."""
    return bool((await one_row(session, _SQL["visible"], {"key": key}))["visible"])


async def held_threads(session: Session, threads: Sequence[str]) -> frozenset[str]:
    """Return those of these threads whose lock is held now, without trying one."""
    keys = [thread_key(thread) for thread in threads]
    cursor = await session.execute(_SQL["held"], {"threads": list(threads), "keys": keys})
    return frozenset([row["thread_id"] async for row in cursor])
