"""Event loops for user code that asks for one in a thread, as `asyncio.get_event_loop` makes one in a main thread.

User code of a worker never runs in the main thread, where an application may have run it. Nothing here runs a loop.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _ThreadState(threading.local):
    """Whether this thread runs user code now, and the loop that was made for it."""

    in_user_code: bool = False
    loop: asyncio.AbstractEventLoop | None = None


_THREAD = _ThreadState()


def install_loop_policy() -> None:
    """Have `asyncio.get_event_loop` make a loop where user code asks for one; for a process that is ours alone.

    From Python 3.14 on that makes none in a main thread either, so there is nothing to do.
    """
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(_OnDemand())


@contextmanager
def loop_on_demand(*, kept: bool = False) -> Iterator[None]:
    """Make an event loop for the code of this block, in this thread, when it asks for one.

    Args:
        kept: Leave the loop open: a module that is imported may keep it. Otherwise it is closed with the block, so
            that the next work in the thread does not find it.
    """
    before, _THREAD.in_user_code = _THREAD.in_user_code, True
    try:
        yield
    finally:
        loop, _THREAD.loop, _THREAD.in_user_code = _THREAD.loop, None, before
        if loop is not None and not kept and not loop.is_running():
            loop.close()


if sys.version_info < (3, 14):

    class _OnDemand(asyncio.DefaultEventLoopPolicy):
        """Makes a loop for a thread that runs user code and has none, or only a closed one."""

        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            if not _THREAD.in_user_code:
                return super().get_event_loop()
            try:
                loop = super().get_event_loop()
            except RuntimeError:
                loop = None
            if loop is None or loop.is_closed():
                loop = _THREAD.loop = self.new_event_loop()
                self.set_event_loop(loop)
            return loop
