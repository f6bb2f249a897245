"""Lends event loops to user code that asks for one in a thread, as `asyncio.get_event_loop` does in a main thread.

User code of a worker never runs in the main thread, where an application may have run it. Nothing here runs a loop.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Here(threading.local):
    """Whether this thread runs user code now, and the loop that was made for it."""

    lending: bool = False
    loop: asyncio.AbstractEventLoop | None = None


_HERE = _Here()


def install_loop_policy() -> None:
    """Have `asyncio.get_event_loop` make a loop where user code asks for one; for a process that is ours alone.

    From Python 3.14 on that makes none in a main thread either, so there is nothing to do.
    """
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(_OnDemand())


@contextmanager
def lent_loop(*, kept: bool = False) -> Iterator[None]:
    """Let the code of this block have an event loop when it asks for one, in this thread.

    Args:
        kept: Leave the loop open: a module that is imported may keep it. Otherwise it is closed with the block, so
            that whoever is next in the thread finds nothing of it.
    """
    before, _HERE.lending = _HERE.lending, True
    try:
        yield
    finally:
        loop, _HERE.loop, _HERE.lending = _HERE.loop, None, before
        if loop is not None and not kept and not loop.is_running():
            loop.close()


if sys.version_info < (3, 14):

    class _OnDemand(asyncio.DefaultEventLoopPolicy):
        """Makes a loop for a thread that runs user code and has none, or only a closed one."""

        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            if not _HERE.lending:
                return super().get_event_loop()
            try:
                loop = super().get_event_loop()
            except RuntimeError:
                loop = None
            if loop is None or loop.is_closed():
                loop = _HERE.loop = self.new_event_loop()
                self.set_event_loop(loop)
            return loop
