"""A synchronous stream that may be forgotten: whatever thread the collector finds it on, its run ends."""

import threading
import weakref
from collections.abc import Generator
from typing import Any

from resumed.library.event_loop import is_loop_thread


class SyncStream(Generator[Any, Any, None]):
    """Yields what a generator of ours yields, and closes it when it is closed or forgotten.

    Closing waits for the library's event loop. The collector may find a stream that was forgotten with an exception in
    that loop's own thread, which would wait for itself for ever: there another thread closes it.
    """

    def __init__(self, parts: Generator[Any, Any, None]) -> None:
        """Begin nothing yet; `parts` must not refer to this stream."""
        self._parts = parts
        # It keeps the generator, which so is never the collector's to close, and closes it once.
        self._closed_with = weakref.finalize(self, _close, parts)
        self._closed_with.atexit = False

    def send(self, value: Any) -> Any:
        """Return the next part."""
        return self._parts.send(value)

    def throw(self, *raised: Any) -> Any:
        """Raise an error where the stream stands."""
        return self._parts.throw(*raised)

    def close(self) -> None:
        """Leave the run open to the daemon, and give its lock back."""
        self._closed_with()


def _close(parts: Generator[Any, Any, None]) -> None:
    if is_loop_thread():
        threading.Thread(target=parts.close, name="resumed-closing", daemon=True).start()
    else:
        parts.close()
