"""A daemon whose rounds of retention come one after the other: `python -m kept.pruner ROUNDS`, until SIGTERM.

Into the file ROUNDS it writes when each round under the lock began and ended, by the clock that all processes share.
"""

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from resumed.config.settings import load_settings
from resumed.daemon import service
from resumed.daemon.retention import RetentionTask
from resumed.observability.events import Events, configure

_ROUND = RetentionTask._run_round  # noqa: SLF001 - the part of a round that is under the lock


async def _timed(self: RetentionTask, session: Any) -> bool:
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"begin {os.getpid()} {time.monotonic()}\n")
        file.flush()
        try:
            return await _ROUND(self, session)
        finally:  # SIGTERM cancels it
            file.write(f"end {os.getpid()} {time.monotonic()}\n")


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await service.Service(load_settings().settings, Events()).run(stop)


if __name__ == "__main__":
    RetentionTask._run_round = _timed  # type: ignore[method-assign]  # noqa: SLF001
    service._RETENTION_EVERY = timedelta(milliseconds=50)  # noqa: SLF001
    configure("json", "info")
    asyncio.run(main())
    os._exit(0)
