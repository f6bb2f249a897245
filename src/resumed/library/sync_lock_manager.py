"""The synchronous face of the lock manager: the same locks, for threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from resumed.library.event_loop import run_sync
from resumed.library.lock_manager import AsyncPostgresLockManager


class PostgresLockManager:
    """Takes advisory locks by name, from any thread; a context manager.

    A thread's own lock is the name `resume_<thread_id>`: while it is held the daemon leaves the thread alone. The key
    is the first eight bytes of SHA-256 of the name, big-endian, signed. The thread that holds a name may take it
    again, and has it until it has given it back as often; every other thread and process is refused. It installs no
    signal handlers: a process that ends gives its locks back by ending.

    Args:
        dsn: A direct connection to Postgres, or a pool in session mode.
        min_conn: Sessions that are kept open when nothing is locked. Default: 1.
        max_conn: Sessions, and so locks, at once. Default: 10.
        connection_timeout: Seconds to wait for one of them. Default: 30.

    Raises:
        ValueError: The numbers are impossible.
    """

    def __init__(self, dsn: str, min_conn: int = 1, max_conn: int = 10, connection_timeout: float = 30) -> None:
        """Open nothing yet."""
        self._locks = AsyncPostgresLockManager(dsn, min_conn, max_conn, connection_timeout)

    def __enter__(self) -> Self:
        """Open nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        self.close()

    @contextmanager
    def acquire_workflow_lock(
        self,
        id: str,
        timeout_seconds: float | None = None,
        blocking: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[bool]:
        """Hold a lock for the length of a block; gives False where it was not to be had.

        Args:
            id: The lock's name, as given.
            timeout_seconds: How long to wait, in seconds. Default: for ever.
            blocking: False tries once. Default: True.

        Raises:
            DatabaseUnreachableError: No session was to be had within `connection_timeout`.
            DatabaseUnusableError: The database refuses us.
        """
        owner = threading.get_ident()
        got = run_sync(self._locks.take(id, owner, timeout_seconds if blocking else 0))
        try:
            yield got
        finally:
            if got:
                run_sync(self._locks.give_back(id, owner))

    def is_locked(self, id: str) -> bool:
        """Say whether anybody holds the lock, in any process, without trying it. Raises DatabaseError."""
        return run_sync(self._locks.is_locked(id))

    def verify_lock_still_held(self, id: str) -> bool:
        """Ask the database whether this manager's own session still has the lock."""
        return run_sync(self._locks.verify_lock_still_held(id))

    def cleanup_all_locks(self) -> int:
        """Give back every lock of this manager, and none of anybody else's; says how many there were."""
        return run_sync(self._locks.cleanup_all_locks())

    def get_active_locks_count(self) -> int:
        """Count the locks that this manager holds."""
        return self._locks.get_active_locks_count()

    def health_check(self) -> bool:
        """Say whether a session is to be had and answers."""
        return run_sync(self._locks.health_check())

    def close(self) -> None:
        """Give back every lock and end every session; the manager can be used again."""
        run_sync(self._locks.close())
