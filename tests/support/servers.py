"""Servers of a test's own: the data directory is made once a session, and copied for each.

They are kept in memory where there is room: on a disk, each database that is created costs a tenth of a second of
processor time.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from resumed.demo.postgres import PrivateServer

_MEMORY = Path("/dev/shm")  # noqa: S108 - each server has a folder of its own, with a name that nobody can guess
_ROOM = 4 * 2**30  # bytes, for the servers of all test processes together
_OPTIONS = ("max_wal_size=128MB",)


@contextmanager
def fresh_server(*options: str) -> Iterator[PrivateServer]:
    """Start a server that nobody has used, with these options; it is stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="resumed-postgres-", dir=_place()))
    subprocess.run(["cp", "-a", f"{_initialised().name}/.", str(folder)], check=True)
    with PrivateServer(folder, (*_OPTIONS, *options)) as server:
        yield server


@cache
def _initialised() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="resumed-postgres-", dir=_place(), ignore_cleanup_errors=True)
    server = PrivateServer(Path(made.name))
    server.start()
    server.stop()
    return made


def _place() -> str | None:
    """Return a folder in memory, where there is one with room in which binaries may be run; None for the usual one."""
    if not os.access(_MEMORY, os.W_OK) or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return str(_MEMORY) if shutil.disk_usage(_MEMORY).free > _ROOM else None
