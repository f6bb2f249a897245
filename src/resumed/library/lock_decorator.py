"""Calls any function under a lock: what to return where it is held elsewhere, and the decorator."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar, cast

from resumed.errors import WorkflowAlreadyRunningError
from resumed.library.lock_manager import AsyncPostgresLockManager
from resumed.library.sync_lock_manager import PostgresLockManager

OnLocked = Literal["raise", "return_none", "return_dict"]
F = TypeVar("F", bound=Callable[..., Any])
_CHOICES = ("raise", "return_none", "return_dict")


def on_locked_result(workflow_id: str, on_locked: OnLocked) -> dict[str, str] | None:
    """Return what a call returns whose lock is held elsewhere. Raises WorkflowAlreadyRunningError, or ValueError."""
    if on_locked not in _CHOICES:
        raise ValueError(f"on_locked is one of {', '.join(_CHOICES)}")
    if on_locked == "raise":
        message = "the lock is held elsewhere"
        raise WorkflowAlreadyRunningError(message)
    return {"status": "already_running", "workflow_id": workflow_id} if on_locked == "return_dict" else None


def with_workflow_lock(
    lock_manager: PostgresLockManager | AsyncPostgresLockManager,
    workflow_id: str | Callable[..., str] | None = None,
    *,
    blocking: bool = False,
    timeout_seconds: float | None = None,
    on_locked: OnLocked = "raise",
) -> Callable[[F], F]:
    """Decorate a function so that it runs only while it holds a lock.

    Args:
        lock_manager: The manager of the locks; an `AsyncPostgresLockManager` for an asynchronous function.
        workflow_id: The lock's name, or a function that takes the call's arguments and returns it. Default: the
            function's module and qualified name.
        blocking: Wait for the lock. Default: False.
        timeout_seconds: How long to wait for it, in seconds. Default: for ever.
        on_locked: What to do where it is held elsewhere, as in `WorkflowExecutor.execute`.

    Raises:
        TypeError: The manager is not of the function's kind.
    """
    if on_locked != "raise":
        on_locked_result("", on_locked)  # refuses an unknown word before the first call

    def decorate(function: F) -> F:
        def name(*args: Any, **kwargs: Any) -> str:
            if callable(workflow_id):
                return workflow_id(*args, **kwargs)
            return workflow_id or f"{function.__module__}.{function.__qualname__}"

        is_async = isinstance(lock_manager, AsyncPostgresLockManager)
        if inspect.iscoroutinefunction(function) is not is_async:
            message = "an asynchronous function needs an AsyncPostgresLockManager, another one a PostgresLockManager"
            raise TypeError(message)
        acquire: Any = lock_manager.acquire_workflow_lock

        @wraps(function)
        def call_locked(*args: Any, **kwargs: Any) -> Any:
            identifier = name(*args, **kwargs)
            with acquire(identifier, timeout_seconds, blocking) as held:
                return function(*args, **kwargs) if held else on_locked_result(identifier, on_locked)

        @wraps(function)
        async def call_locked_async(*args: Any, **kwargs: Any) -> Any:
            identifier = name(*args, **kwargs)
            async with acquire(identifier, timeout_seconds, blocking) as held:
                return await function(*args, **kwargs) if held else on_locked_result(identifier, on_locked)

        return cast("F", call_locked_async if is_async else call_locked)

    return decorate
