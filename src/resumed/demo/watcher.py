"""A separate process that owns the demo's folder and cleans up when the demo is gone, however it ended.

Run as a file, with nothing of `resumed` imported. It creates the folder, prints its name on stdout, and reads
from stdin `+PID SIGNAL` for each process to end and `-PID` for each that has ended. End of stdin ends the demo.
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

_TIMEOUT = 15.0
_POLL_INTERVAL = 0.05


def main() -> None:
    """Create the folder, wait for the end of the demo, and remove everything."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    folder = tempfile.mkdtemp(prefix="resumed-demo-")
    with contextlib.suppress(OSError):
        os.write(1, os.fsencode(folder))
        os.close(1)
    _end_processes(_read_processes())
    _wait_until(_TIMEOUT, lambda: _remove(folder))


def _read_processes() -> dict[int, int]:
    """Read until the demo is gone; return the signal for each process that is still running, by pid."""
    living: dict[int, int] = {}
    for line in sys.stdin:
        pid, _, number = line.strip().lstrip("+-").partition(" ")
        if line.startswith("+"):
            living[int(pid)] = int(number)
        else:
            living.pop(int(pid), None)
    return living


def _end_processes(living: dict[int, int]) -> None:
    for pid, number in living.items():
        _signal(pid, number)
    _wait_until(_TIMEOUT, lambda: not any(_is_running(pid) for pid in living))
    for pid in living:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not. Without /proc a zombie counts as running."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True


def _remove(folder: str) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not Path(folder).exists()


def _wait_until(patience: float, question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience
    while not question() and time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL)


if __name__ == "__main__":
    main()
