"""Owns what the periodic tasks of one replica share: its parts, its session, and outliving what fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from resumed.daemon.control_session import ControlSession
from resumed.daemon.readiness import Blocker, Readiness
from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.errors import DatabaseError
from resumed.observability.events import Events
from resumed.operations.assess import SweepRules
from resumed.store.connection import PostgresError, Session, Target
from resumed.store.database_errors import explain, refuses_writes
from resumed.workers.pool import WorkerPool

_SESSION_LIMIT = timedelta(seconds=90)

# The label by which `resumed_database_errors_total` counts a failure.
Operation = Literal["sweep", "dispatch", "close", "self_test"]


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The parts of one replica; `claimant` is the name under which it claims cases."""

    target: Target
    control_session: ControlSession
    pool: WorkerPool
    monitor: WorkerMonitor
    readiness: Readiness
    events: Events
    rules: SweepRules
    claimant: str

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Use the control session for a block, for at most 90 s. Raises DatabaseError, TimeoutError."""
        async with asyncio.timeout(_SESSION_LIMIT.total_seconds()), self.control_session.session() as session:
            yield session
        self.readiness.unblock(Blocker.DATABASE)

    @asynccontextmanager
    async def surviving(self, blocker: Blocker, operation: Operation) -> AsyncIterator[None]:
        """Report what fails in a block instead of raising it; it blocks readiness until the block succeeds."""
        try:
            yield
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            self.events.database_failed(operation, error)
            self.readiness.block(blocker, database_failure(error))
        except Exception as error:  # noqa: BLE001 - an error of ours must neither end the daemon nor stay hidden
            self.events.round_failed(operation, error)
            self.readiness.block(blocker, f"{blocker} failed: {type(error).__name__}; the log says where")
        else:
            self.readiness.unblock(blocker)


def database_failure(error: BaseException) -> str:
    """Return one sentence on what keeps the database from serving."""
    if refuses_writes(error):
        return "the database is read-only: it refuses our writes; connect to the primary"
    if isinstance(error, PostgresError):
        return str(explain(error))
    if isinstance(error, TimeoutError):
        return f"the database did not answer within {_SESSION_LIMIT.total_seconds():.0f} s: see what it is waiting for"
    return str(error) or f"the database failed: {type(error).__name__}"
