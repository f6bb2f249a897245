from resumed.errors import (
    DatabaseError as DatabaseError,
)
from resumed.errors import (
    DatabaseUnreachableError as DatabaseUnreachableError,
)
from resumed.errors import (
    DatabaseUnusableError as DatabaseUnusableError,
)
from resumed.errors import (
    ExecutorClosedError as ExecutorClosedError,
)
from resumed.errors import (
    RegistrationError as RegistrationError,
)
from resumed.errors import (
    ResumedError as ResumedError,
)
from resumed.errors import (
    RunCancelledError as RunCancelledError,
)
from resumed.errors import (
    RunTakenOverError as RunTakenOverError,
)
from resumed.errors import (
    SettingsError as SettingsError,
)
from resumed.errors import (
    WorkflowAlreadyRunningError as WorkflowAlreadyRunningError,
)
from resumed.errors import (
    WrongDatabaseError as WrongDatabaseError,
)
from resumed.library.checkpointer_manager import (
    AsyncCheckpointerManager as AsyncCheckpointerManager,
)
from resumed.library.checkpointer_manager import (
    CheckpointerManager as CheckpointerManager,
)
from resumed.library.executor import AsyncWorkflowExecutor as AsyncWorkflowExecutor
from resumed.library.lock_decorator import with_workflow_lock as with_workflow_lock
from resumed.library.lock_manager import AsyncPostgresLockManager as AsyncPostgresLockManager
from resumed.library.resume import aresume_workflow as aresume_workflow
from resumed.library.resume import resume_workflow as resume_workflow
from resumed.library.sync_executor import WorkflowExecutor as WorkflowExecutor
from resumed.library.sync_lock_manager import PostgresLockManager as PostgresLockManager
from resumed.library.thread_ids import generate_thread_id as generate_thread_id
from resumed.library.thread_status import (
    WorkflowCheckpoint as WorkflowCheckpoint,
)
from resumed.library.thread_status import (
    afind_failed_workflows as afind_failed_workflows,
)
from resumed.library.thread_status import (
    aget_checkpoint_status as aget_checkpoint_status,
)
from resumed.library.thread_status import (
    aneeds_resume as aneeds_resume,
)
from resumed.library.thread_status import (
    find_failed_workflows as find_failed_workflows,
)
from resumed.library.thread_status import (
    get_checkpoint_status as get_checkpoint_status,
)
from resumed.library.thread_status import (
    needs_resume as needs_resume,
)
from resumed.workflows.workflow import Workflow as Workflow

__all__ = [
    "AsyncCheckpointerManager",
    "AsyncPostgresLockManager",
    "AsyncWorkflowExecutor",
    "CheckpointerManager",
    "DatabaseError",
    "DatabaseUnreachableError",
    "DatabaseUnusableError",
    "ExecutorClosedError",
    "PostgresLockManager",
    "RegistrationError",
    "ResumedError",
    "RunCancelledError",
    "RunTakenOverError",
    "SettingsError",
    "Workflow",
    "WorkflowAlreadyRunningError",
    "WorkflowCheckpoint",
    "WorkflowExecutor",
    "WrongDatabaseError",
    "afind_failed_workflows",
    "aget_checkpoint_status",
    "aneeds_resume",
    "aresume_workflow",
    "find_failed_workflows",
    "generate_thread_id",
    "get_checkpoint_status",
    "needs_resume",
    "resume_workflow",
    "with_workflow_lock",
]
__version__: str
