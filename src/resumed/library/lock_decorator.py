"""Calls any function under a lock: what to do where somebody else holds it, and the decorator."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar

from resumed.errors import WorkflowAlreadyRunningError
from resumed.library.lock_manager import AsyncPostgresLockManager
from resumed.library.sync_lock_manager import PostgresLockManager

OnLocked = Literal["raise", "return_none", "return_dict"]
F = TypeVar("F", bound=Callable[..., Any])
_CHOICES = ("raise", "return_none", "return_dict")


def on_locked_result(workflow_id: str, on_locked: OnLocked) -> dict[str, str] | None:
    """Answer a call whose lock somebody else holds. Raises WorkflowAlreadyRunningError, or ValueError."""
    if on_locked not in _CHOICES:
        raise ValueError(f"on_locked is one of {', '.join(_CHOICES)}")
    if on_locked == "raise":
        message = "somebody else holds the lock"
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
        lock_manager: Whose locks; an `AsyncPostgresLockManager` for an asynchronous function.
        workflow_id: The lock's name, or a function that is given the call's arguments and names it. Default: the
            function's module and qualified name.
        blocking: Wait for the lock. Default: False.
        timeout_seconds: How long to wait for it, in seconds. Default: for ever.
        on_locked: What to do where it is held elsewhere, as in `WorkflowExecutor.execute`.

    Raises:
        TypeError: The manager is not of the function's kind.
    """
    on_locked_result("", on_locked) if on_locked != "raise" else None

    def decorate(function: F) -> F:
        def name(*args: Any, **kwargs: Any) -> str:
            if callable(workflow_id):
                return workflow_id(*args, **kwargs)
            return workflow_id or f"{function.__module__}.{function.__qualname__}"

        how = (timeout_seconds, blocking)
        if inspect.iscoroutinefunction(function) is not isinstance(lock_manager, AsyncPostgresLockManager):
            message = "an asynchronous function needs an AsyncPostgresLockManager, another one a PostgresLockManager"
            raise TypeError(message)
        if isinstance(lock_manager, AsyncPostgresLockManager):
            return _asynchronous(lock_manager, function, name, (how, on_locked))
        return _synchronous(lock_manager, function, name, (how, on_locked))

    return decorate


def _synchronous(manager: PostgresLockManager, function: F, name: Callable[..., str], options: Any) -> F:
    how, on_locked = options

    @wraps(function)
    def locked(*args: Any, **kwargs: Any) -> Any:
        identifier = name(*args, **kwargs)
        with manager.acquire_workflow_lock(identifier, *how) as got:
            return function(*args, **kwargs) if got else on_locked_result(identifier, on_locked)

    return locked  # type: ignore[return-value]  # of the signature that it wraps


def _asynchronous(manager: AsyncPostgresLockManager, function: F, name: Callable[..., str], options: Any) -> F:
    how, on_locked = options

    @wraps(function)
    async def locked(*args: Any, **kwargs: Any) -> Any:
        identifier = name(*args, **kwargs)
        async with manager.acquire_workflow_lock(identifier, *how) as got:
            return await function(*args, **kwargs) if got else on_locked_result(identifier, on_locked)

    return locked  # type: ignore[return-value]
