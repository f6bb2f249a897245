"""The threads in which synchronous nodes run, counted by the attempt that each of them works for.

A synchronous node cannot be cancelled: it may still run after its attempt was stopped, and until it has ended nothing
else may run the workflow's thread.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver

from resumed.workflows import event_loops

P = ParamSpec("P")
T = TypeVar("T")

CURRENT_THREAD_ID: ContextVar[str | None] = ContextVar("resumed_attempt", default=None)


class TrackedExecutor(ThreadPoolExecutor):
    """A thread pool that counts what is running for the attempt on `CURRENT_THREAD_ID`.

    Checkpointers serialise in threads of their own: every node may wait in its thread for a checkpoint to be loaded.
    """

    def __init__(self, max_workers: int, chosen: Executor | None = None) -> None:
        """Allow `max_workers` threads for nodes, and as many for checkpointers; they are made as they are needed.

        Args:
            max_workers: How many threads of each kind there may be.
            chosen: The executor in whose threads nodes run, where an application or its event loop has one already.
        """
        super().__init__(max_workers, thread_name_prefix="resumed-node")
        self._chosen = chosen
        self._savers = ThreadPoolExecutor(max_workers, thread_name_prefix="resumed-saver")
        self._running: Counter[str | None] = Counter()
        self._count_lock = Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread, counted for the current attempt."""
        attempt = CURRENT_THREAD_ID.get()
        with self._count_lock:
            self._running[attempt] += 1
        try:
            future = self._submitting(fn)(_call_with_loop, fn, *args, **kwargs)
        except BaseException:
            self._done(attempt)
            raise
        future.add_done_callback(lambda _: self._done(attempt))
        return future

    def _submitting(self, fn: object) -> Callable[..., Future[Any]]:
        if _is_saver_method(fn):
            return self._savers.submit
        return super().submit if self._chosen is None else self._chosen.submit

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - its base's
        """Take no more work, in the chosen executor neither: its event loop ends, and would have ended it."""
        if self._chosen is not None:
            self._chosen.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._savers.shutdown(wait, cancel_futures=cancel_futures)

    def busy(self, attempt: str) -> bool:
        """Return whether a thread still works for this attempt."""
        with self._count_lock:
            return self._running[attempt] > 0

    def _done(self, attempt: str | None) -> None:
        with self._count_lock:
            self._running[attempt] -= 1
            if not self._running[attempt]:
                del self._running[attempt]


def _is_saver_method(fn: object) -> bool:
    """Return whether this is a checkpointer's method, as `asyncio.to_thread` hands it over."""
    called = fn.args[0] if isinstance(fn, partial) and fn.args else None
    return isinstance(getattr(called, "__self__", None), BaseCheckpointSaver)


def _call_with_loop(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    with event_loops.loop_on_demand():
        return fn(*args, **kwargs)
