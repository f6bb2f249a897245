"""The demo's folder and processes on this machine; none of them outlives the demo."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

from resumed.demo.postgres import die_with
from resumed.errors import ResumedError

_WATCHER = Path(__file__).with_name("watcher.py")
_TIMEOUT = 60.0
# Variables that would redirect the demo.
_DROPPED_PREFIXES = ("RESUMED_", "PG", "EXAMPLE_", "LANGSMITH_", "LANGCHAIN_", "OTEL_")


class DemoError(ResumedError):
    """The demo could not go on; the message says what happened and what to look at."""


@dataclass(slots=True)
class Job:
    """A process of the demo; `output` is the file of its stdout, `log` that of its stderr."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def last_log_line(self) -> str:
        """Return the last line that it logged."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "it logged nothing"


@dataclass(slots=True)
class Sandbox:
    """The folder and processes of one demo, as `with Sandbox() as sandbox`."""

    folder: Path = field(default_factory=Path)
    _watcher: subprocess.Popen[bytes] | None = None
    _jobs: list[Job] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._watcher = subprocess.Popen(  # noqa: S603 - our own file, run by our own interpreter
            [sys.executable, "-I", "-S", str(_WATCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        name = self._watcher.stdout.read() if self._watcher.stdout is not None else b""
        if not name:
            self._end_watcher()
            message = "the demo could not create its folder: set TMPDIR to a writable one"
            raise DemoError(message)
        self.folder = Path(os.fsdecode(name))
        # As root the server runs as `nobody`, which must be able to reach its own folder.
        self.folder.chmod(0o711)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for job in reversed(self._jobs):
                self.kill(job)
        finally:
            self._end_watcher()

    def watch(self, pid: int | None, number: signal.Signals) -> None:
        """Have the watcher send this signal to a process when the demo is gone."""
        self._send(f"+{pid} {int(number)}")

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Job:
        """Start a process with these settings and without the caller's own; it dies with the demo."""
        output, log = self.folder / f"{name}.out", self.folder / f"{name}.log"
        owner = os.getpid()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED_PREFIXES)}
        with _defer_interrupt(), output.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.folder,
                env={**kept, **settings},
                start_new_session=True,
                preexec_fn=lambda: die_with(owner, signal.SIGKILL),  # noqa: PLW1509 - prctl needs it
            )
            self.watch(process.pid, signal.SIGKILL)
            job = Job(name, process, output, log)
            self._jobs.append(job)
        return job

    def wait_for_output(self, job: Job) -> str:
        """Wait until a process has ended and return its stdout; raises DemoError if it failed."""
        try:
            code = job.process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            message = f"`{job.name}` did not end within {_TIMEOUT:.0f} s: run the demo again on a less busy machine"
            raise DemoError(message) from None
        self._forget(job)
        if code:
            message = f"`{job.name}` failed with exit code {code}: {job.last_log_line()}"
            raise DemoError(message)
        return job.output.read_text()

    def kill(self, job: Job) -> None:
        """Send SIGKILL to a process and wait until it has ended."""
        if not job.ended:
            job.process.kill()
        job.process.wait(_TIMEOUT)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        self._jobs = [other for other in self._jobs if other is not job]
        self._send(f"-{job.process.pid}")

    def _send(self, line: str) -> None:
        if self._watcher is not None and self._watcher.stdin is not None:
            with contextlib.suppress(OSError):
                self._watcher.stdin.write(line.encode() + b"\n")
                self._watcher.stdin.flush()

    def _end_watcher(self) -> None:
        """Close the watcher's stdin, at which it cleans up, and wait for it."""
        if self._watcher is not None:
            self._watcher.communicate(timeout=_TIMEOUT)
            self._watcher = None


@contextlib.contextmanager
def _defer_interrupt() -> Iterator[None]:
    """Defer Ctrl-C: raised inside a fork it would be lost, with a lock of `logging` still held."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def reraise_interrupt() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C, which is lost if raised inside a destructor; the yielded function raises it again."""
    received: list[int] = []

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.default_int_handler(number, frame)

    def check_interrupt() -> None:
        if received:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield check_interrupt
    finally:
        signal.signal(signal.SIGINT, before)
