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
    is the first eight bytes of SHA-256 of the name, big-endian, signed. The thread that holds a lock may
    take it again, and holds it until it has released it as often; every other thread and process is refused. It
    installs no signal handlers: a process that ends releases its locks by ending.

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
        """Release every lock and close every session."""
        self.close()

    @contextmanager
    def acquire_workflow_lock(
        self,
        id: str,
        timeout_seconds: float | None = None,
        blocking: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[bool]:
        """Hold a lock for the length of a block; yields False where it is held elsewhere.

        Args:
            id: The lock's name, as given.
            timeout_seconds: How long to wait, in seconds. Default: for ever.
            blocking: False tries once. Default: True.

        Raises:
            DatabaseUnreachableError: No session was free within `connection_timeout`.
            DatabaseUnusableError: The database refuses us.
        """
        owner = threading.get_ident()
        locked = run_sync(self._locks.acquire_for(owner, id, timeout_seconds if blocking else 0))
        try:
            yield locked
        finally:
            if locked:
                run_sync(self._locks.release_for(owner, id))

    def is_locked(self, id: str) -> bool:
        """Return whether any process holds the lock, without trying it. Raises DatabaseError."""
        return run_sync(self._locks.is_locked(id))

    def verify_lock_still_held(self, id: str) -> bool:
        """Ask the database whether this manager's own session still holds the lock."""
        return run_sync(self._locks.verify_lock_still_held(id))

    def cleanup_all_locks(self) -> int:
        """Release every lock of this manager, and no other manager's; returns how many there were."""
        return run_sync(self._locks.cleanup_all_locks())

    def get_active_locks_count(self) -> int:
        """Count the locks that this manager holds."""
        return self._locks.get_active_locks_count()

    def health_check(self) -> bool:
        """Return whether a session can be opened and answers."""
        return run_sync(self._locks.health_check())

    def close(self) -> None:
        """Release every lock and close every session; the manager can be used again."""
        run_sync(self._locks.close())
