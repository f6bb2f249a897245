"""Every error that `resumed` raises on purpose; the class says which exit code the command ends with."""


class ResumedError(Exception):
    """The thing asked for did not happen."""

    exit_code = 1


class SettingsError(ResumedError):
    """A setting is missing, unknown or impossible; the message says what to change."""

    exit_code = 2


class DatabaseError(ResumedError):
    """The database cannot serve; the message says why and what to do."""

    exit_code = 3


class DatabaseUnreachableError(DatabaseError):
    """No connection could be made; another try later may succeed."""


class DatabaseUnusableError(DatabaseError):
    """The database answers and cannot be used as it is: schema, pooler, standby, password, locks."""


class LockLostError(ResumedError):
    """The session that held the thread's lock is gone, and the lock with it."""


class SessionFailedError(LockLostError):
    """The database failed the session that holds the thread's lock; the session lives, the thread is not to blame."""


class SupersededError(ResumedError):
    """Another process moved the thread's head while the attempt was running."""


class WorkflowAlreadyRunningError(ResumedError):
    """Another process is running the thread, or an earlier run of it has not ended; the message says which."""


class RunTakenOverError(ResumedError):
    """The run lost its thread's lock, and another process has continued the thread; nothing more was saved here."""


class RunCancelledError(ResumedError):
    """The run was cancelled by `.cancel()`; it is never resumed where it stopped."""


class ExecutorClosedError(ResumedError):
    """The executor was closed during the run; the run stays open, and the daemon continues it."""


class WrongDatabaseError(ResumedError):
    """The graph was compiled with a checkpointer that is not of the executor's database."""


class NotReadyError(ResumedError):
    """No attempt can be made now; the message says why."""


class RegistrationError(ResumedError):
    """A registered workflow cannot be used; the message says why."""


class GraphNotMadeError(ResumedError):
    """The factory of a workflow made no graph for a thread; the message says why, and a later attempt may succeed."""


class WorkersUnavailableError(ResumedError):
    """No worker process has announced its workflows in time."""
