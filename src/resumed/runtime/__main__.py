"""Starts a worker process: `python -m resumed.runtime DESCRIPTOR PARENT`."""

import gc
from collections.abc import Callable


def _import_worker() -> Callable[[], None]:
    """Import the worker, and LangGraph with it, without garbage collection.

    All of it stays, and to look through it again and again takes a tenth of the time that a worker takes to start.
    """
    gc.disable()
    from resumed.runtime.worker import main  # noqa: PLC0415 - only now

    gc.freeze()
    gc.enable()
    return main


if __name__ == "__main__":
    _import_worker()()
