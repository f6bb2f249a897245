"""A process of its own that owns the demo's folder: when the demo is gone, however it went, it cleans up after it.

Run as a file, with nothing of `resumed` imported. It makes the folder, says its name on stdout, and then hears on stdin
`+PID SIGNAL` for each process to be ended and `-PID` for each that has ended; the end of stdin is the end of the demo.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_PATIENCE = 15.0
_PAUSE = 0.05


def main() -> None:
    """Make the folder, wait for the end of the demo, and leave nothing behind."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    folder = tempfile.mkdtemp(prefix="resumed-demo-")
    with contextlib.suppress(OSError):
        os.write(1, os.fsencode(folder))
        os.close(1)
    _end(_listen())
    _within(_PATIENCE, lambda: _removed(folder))


def _listen() -> dict[int, int]:
    """Hear until the demo is gone which processes it has started and not seen the end of."""
    living: dict[int, int] = {}
    for line in sys.stdin:
        pid, _, number = line.strip().lstrip("+-").partition(" ")
        if line.startswith("+"):
            living[int(pid)] = int(number)
        else:
            living.pop(int(pid), None)
    return living


def _end(living: dict[int, int]) -> None:
    for pid, number in living.items():
        _signal(pid, number)
    _within(_PATIENCE, lambda: not any(_runs(pid) for pid in living))
    for pid in living:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _runs(pid: int) -> bool:
    """A process that nobody reaps has ended too; where there is no /proc, only reaping tells."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True


def _removed(folder: str) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not Path(folder).exists()


def _within(patience: float, question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience
    while not question() and time.monotonic() < deadline:
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
