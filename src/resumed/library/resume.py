"""Resumes one thread with the application's own function, under the thread's lock; the rows tell how that ended."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from resumed.judge.verdict import ThreadSnapshot
from resumed.library.event_loop import run_sync
from resumed.library.lock_manager import AsyncPostgresLockManager
from resumed.library.sync_lock_manager import PostgresLockManager
from resumed.library.thread_judgement import judge_under_lock, workflow_of
from resumed.library.thread_status import read_snapshots, reading_session
from resumed.model import NEEDS_A_PERSON, RESUMABLE, Judgement, Verdict
from resumed.observability.redaction import describe_error
from resumed.workflows.loaded_workflow import LoadedWorkflow


@dataclass(frozen=True, slots=True)
class _View:
    """Where a thread stands, and its verdict; both are None where it has no checkpoint."""

    thread_id: str
    snapshot: ThreadSnapshot | None
    judgement: Judgement | None

    @property
    def head(self) -> str | None:
        return (self.snapshot.head.checkpoint_id or None) if self.snapshot is not None else None

    @property
    def progress(self) -> tuple[str, str] | None:
        """The head and the fingerprint of its rows, one of which changes with every save."""
        return (self.snapshot.head.checkpoint_id, self.snapshot.fingerprint) if self.snapshot is not None else None


@dataclass(frozen=True, slots=True)
class _Call:
    """What the application's function returned, or raised."""

    result: Any = None
    error: BaseException | None = None


def resume_workflow(  # noqa: PLR0917 - a documented signature
    thread_id: str,
    connection_string: str,
    resume_function: Callable[[str], Any],
    lock_manager: PostgresLockManager | None = None,
    blocking: bool = False,  # noqa: FBT001, FBT002
    timeout_seconds: float | None = None,
    *,
    graph: Any = None,
) -> dict[str, Any]:
    """Resume a thread that died, with the application's own function, under its lock.

    Args:
        thread_id: The thread.
        connection_string: Where LangGraph's tables are.
        resume_function: Takes the thread's id and resumes it, as `graph.invoke(None, config)` does. It is called
            only where the thread died with work left.
        lock_manager: The manager of its lock. Default: one for this call.
        blocking: Wait for the lock. Default: False.
        timeout_seconds: How long to wait for it, in seconds. Default: for ever.
        graph: The thread's compiled graph, or a `Workflow` that holds it: the thread is judged with it as the daemon
            would, so that none that stands at a breakpoint is resumed. Default: by rows alone, which cannot tell.

    Returns:
        `status`: `success` (the thread moved), `already_running` (its lock is held elsewhere), `not_found` (it has no
        checkpoint), `waiting` (a person has to decide) or `error`; `thread_id`; `result`, what the function returned;
        `before_checkpoint` and `after_checkpoint`, the heads; `completed`, whether nothing is left to run; `error`, a
        sentence where there was one, with nothing secret in it.

    Raises:
        DatabaseError: The database cannot be reached or used. Nothing that the function raises.
    """
    workflow = workflow_of(graph)
    manager = lock_manager or PostgresLockManager(connection_string, min_conn=0)
    name = f"resume_{thread_id}"
    with manager.acquire_workflow_lock(name, timeout_seconds, blocking) as locked:
        before = run_sync(_view(thread_id, connection_string, workflow))
        if (refusal := _refusal(before, locked=locked)) is not None:
            return refusal
        try:
            call = _Call(resume_function(thread_id))
        except Exception as error:  # noqa: BLE001 - returned as `error`
            call = _Call(error=error)
        held = manager.verify_lock_still_held(name)
        return _conclude(call, before, run_sync(_view(thread_id, connection_string, workflow)), held=held)


async def aresume_workflow(  # noqa: PLR0917
    thread_id: str,
    connection_string: str,
    resume_function: Callable[[str], Awaitable[Any]],
    lock_manager: AsyncPostgresLockManager | None = None,
    blocking: bool = False,  # noqa: FBT001, FBT002
    timeout_seconds: float | None = None,
    *,
    graph: Any = None,
) -> dict[str, Any]:
    """Resume a thread that died, as `resume_workflow` does, with an asynchronous function."""
    workflow = workflow_of(graph)
    manager = lock_manager or AsyncPostgresLockManager(connection_string, min_conn=0)
    name = f"resume_{thread_id}"
    async with manager.acquire_workflow_lock(name, timeout_seconds, blocking) as locked:
        before = await _view(thread_id, connection_string, workflow)
        if (refusal := _refusal(before, locked=locked)) is not None:
            return refusal
        try:
            call = _Call(await resume_function(thread_id))
        except Exception as error:  # noqa: BLE001
            call = _Call(error=error)
        held = await manager.verify_lock_still_held(name)
        return _conclude(call, before, await _view(thread_id, connection_string, workflow), held=held)


async def _view(thread_id: str, dsn: str, workflow: LoadedWorkflow | None) -> _View:
    async with reading_session(dsn) as session:
        snapshot = (await read_snapshots(session, [thread_id])).get(thread_id)
        judgement = await judge_under_lock(session, snapshot, workflow) if snapshot is not None else None
        return _View(thread_id, snapshot, judgement)


def _refusal(before: _View, *, locked: bool) -> dict[str, Any] | None:
    """Return the answer where the function is not called; None where it is."""
    if before.judgement is None:
        return _answer("not_found", before, before, error="the thread has no checkpoint")
    if not locked:
        return _answer("already_running", before, before, error="the thread's lock is held elsewhere")
    verdict = before.judgement.verdict
    if verdict in RESUMABLE:
        return None
    why = "nothing is left to run" if verdict is Verdict.FINISHED else before.judgement.reason
    return _answer("waiting" if verdict in NEEDS_A_PERSON else "error", before, before, error=why)


def _conclude(call: _Call, before: _View, after: _View, *, held: bool) -> dict[str, Any]:
    """Judge by the rows how the call ended; what it returned proves nothing."""
    if call.error is not None:
        return _answer("error", before, after, error=describe_error(call.error).error)
    status, why = "success", None
    if not held:
        status, why = "error", "the lock was lost while the thread was resumed: another process may be running it"
    elif after.judgement is not None and after.judgement.verdict in NEEDS_A_PERSON:
        status, why = "waiting", after.judgement.reason
    elif after.progress == before.progress:
        status, why = "error", "the function returned, and nothing of the thread has moved"
    return {**_answer(status, before, after, error=why), "result": call.result}


def _answer(status: str, before: _View, after: _View, error: str | None = None) -> dict[str, Any]:
    return {
        "status": status,
        "thread_id": before.thread_id,
        "result": None,
        "before_checkpoint": before.head,
        "after_checkpoint": after.head,
        "completed": after.judgement is not None and after.judgement.verdict is Verdict.FINISHED,
        "error": error,
    }
