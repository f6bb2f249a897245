"""`resumed`, the resume daemon for LangGraph: what an application imports of it, and nothing else.

A name is loaded when it is first asked for: what only the daemon needs, such as its timers and its web server, is never
loaded by an application. `__init__.pyi` says the same to type checkers.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

_PLACES = {
    "AsyncCheckpointerManager": "resumed.library.checkpointer_manager",
    "AsyncPostgresLockManager": "resumed.library.lock_manager",
    "AsyncWorkflowExecutor": "resumed.library.executor",
    "CheckpointerManager": "resumed.library.checkpointer_manager",
    "DatabaseError": "resumed.errors",
    "DatabaseUnreachableError": "resumed.errors",
    "DatabaseUnusableError": "resumed.errors",
    "ExecutorClosedError": "resumed.errors",
    "PostgresLockManager": "resumed.library.sync_lock_manager",
    "RegistrationError": "resumed.errors",
    "ResumedError": "resumed.errors",
    "RunCancelledError": "resumed.errors",
    "RunTakenOverError": "resumed.errors",
    "SettingsError": "resumed.errors",
    "Workflow": "resumed.workflows.workflow",
    "WorkflowAlreadyRunningError": "resumed.errors",
    "WorkflowCheckpoint": "resumed.library.thread_status",
    "WorkflowExecutor": "resumed.library.sync_executor",
    "WrongDatabaseError": "resumed.errors",
    "afind_failed_workflows": "resumed.library.thread_status",
    "aget_checkpoint_status": "resumed.library.thread_status",
    "aneeds_resume": "resumed.library.thread_status",
    "aresume_workflow": "resumed.library.resume",
    "find_failed_workflows": "resumed.library.thread_status",
    "generate_thread_id": "resumed.library.thread_ids",
    "get_checkpoint_status": "resumed.library.thread_status",
    "needs_resume": "resumed.library.thread_status",
    "resume_workflow": "resumed.library.resume",
    "with_workflow_lock": "resumed.library.lock_decorator",
}
__all__ = sorted(_PLACES)  # noqa: PLE0605 - the table above is the list
__version__ = version("resumed")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'resumed' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
