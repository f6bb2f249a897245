"""The lock protocol.

A thread's lock is a session-level advisory lock whose key is the first eight bytes of SHA-256 of `resume_<thread_id>`,
big-endian, signed: public, stable, to be taken from any language.

Who holds it is the only writer of the thread's checkpoints and of its attempts, and writes them through the very
session that holds it. The session is opened for one attempt, in autocommit, and closed after it; it is never taken
from a pool (a pool retires it while somebody believes in the lock), never put inside a transaction (whose idle timeout
would end it) and never led through a transaction pooler (which would hand the lock to a stranger). When the session
dies, Postgres frees the lock and refuses every later statement on it in the same moment: that is the fence.

What this gives: no two attempts on one thread on any number of hosts, and no save by one whose lock is gone.
What it does not give: it cannot stop an application that takes no lock (the compare-and-set of the saver notices that
one), and it stops writes, not nodes (the attempt polls its session and is cancelled).

A second holder: `try_lock` says no, the attempt is `busy`, nothing is recorded but a later due time. A slow holder
keeps the lock for as long as its session lives; there is no lease that could run out under it. The same session could
take the same lock twice and would then have to give it back twice: an in-process set keeps tasks from asking.

Looking is reading `pg_locks`, never trying: a try-lock held for a moment could make an application's start fail.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import psycopg

from resumed.store.connection import Session, one_row
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
    """Take the thread's lock if it is free; say whether it was, and what the database's clock reads."""
    row = await one_row(session, _SQL["try_lock"], {"key": thread_key(thread_id)})
    return bool(row["locked"]), row["now"]


async def unlock(session: Session, thread_id: str) -> bool:
    """Give the thread's lock back; False says that this session did not hold it."""
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
    """Wait so long for the lock of any key, at least a millisecond; False where somebody else kept it."""
    milliseconds = max(round(patience.total_seconds() * 1000), 1)
    await session.execute(_SQL["patience"], {"lock_timeout": f"{milliseconds}ms"})
    try:
        await session.execute(_SQL["wait"], {"key": key})
    except psycopg.errors.LockNotAvailable:
        return False
    return True


async def unlock_key(session: Session, key: int) -> bool:
    """Give the lock of any key back; False says that this session did not hold it."""
    return bool((await one_row(session, _SQL["unlock"], {"key": key}))["unlocked"])


async def holds_key(session: Session, key: int) -> bool:
    """Say whether this very session holds the lock of the key."""
    return bool((await one_row(session, _SQL["own"], {"key": key}))["own"])


async def is_key_held(session: Session, key: int) -> bool:
    """Say whether anybody holds the lock of the key, without trying it."""
    return bool((await one_row(session, _SQL["visible"], {"key": key}))["visible"])


async def held_threads(session: Session, threads: Sequence[str]) -> frozenset[str]:
    """Which of these threads' locks somebody holds now, seen without trying one."""
    keys = [thread_key(thread) for thread in threads]
    cursor = await session.execute(_SQL["held"], {"threads": list(threads), "keys": keys})
    return frozenset([row["thread_id"] async for row in cursor])
