"""Servers of a test's own: the data directory is made once a session, and copied for each."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from resumed.demo.postgres import PrivateServer


@contextmanager
def fresh_server(*options: str) -> Iterator[PrivateServer]:
    """Start a server that nobody has used, with these options; it is stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="resumed-postgres-"))
    subprocess.run(["cp", "-a", f"{_initialised().name}/.", str(folder)], check=True)
    with PrivateServer(folder, options) as server:
        yield server


@cache
def _initialised() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="resumed-postgres-", ignore_cleanup_errors=True)
    server = PrivateServer(Path(made.name))
    server.start()
    server.stop()
    return made
