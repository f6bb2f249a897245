"""Owns all that the demo puts on the machine, one folder and its processes: none of it outlives the demo."""

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
_PATIENCE = 60.0
_FOREIGN = ("RESUMED_", "PG", "EXAMPLE_", "LANGSMITH_", "LANGCHAIN_", "OTEL_")


class DemoError(ResumedError):
    """The demo could not go on; the message says what happened."""


@dataclass(slots=True)
class Job:
    """A process of the demo: what it prints is in `output`, what it logs in `log`."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """Give the last line that it logged."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "it said nothing"


@dataclass(slots=True)
class Household:
    """A folder and the processes of one demo, as `with Household() as household`."""

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
        told = self._watcher.stdout.read() if self._watcher.stdout is not None else b""
        if not told:
            self._dismiss()
            message = "no folder could be made for the demo: set TMPDIR to one that can be written to"
            raise DemoError(message)
        self.folder = Path(os.fsdecode(told))
        # As root the server runs as `nobody`, who has to get through to its own folder.
        self.folder.chmod(0o711)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for job in reversed(self._jobs):
                self.end(job)
        finally:
            self._dismiss()

    def watch(self, pid: int | None, number: signal.Signals) -> None:
        """Have a process ended by this signal when the demo is gone."""
        self._tell(f"+{pid} {int(number)}")

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Job:
        """Start a process with these settings and none of the caller's own; it dies with the demo."""
        output, log = self.folder / f"{name}.out", self.folder / f"{name}.log"
        owner = os.getpid()
        with _uninterrupted(), output.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - commands of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.folder,
                env=environment(settings),
                start_new_session=True,
                preexec_fn=lambda: die_with(owner, signal.SIGKILL),  # noqa: PLW1509 - prctl needs it
            )
            self.watch(process.pid, signal.SIGKILL)
            job = Job(name, process, output, log)
            self._jobs.append(job)
        return job

    def answer(self, job: Job) -> str:
        """Wait for what a process has to say on stdout; raises DemoError where it failed."""
        try:
            code = job.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            message = f"{job.name} did not end within {_PATIENCE:.0f} s"
            raise DemoError(message) from None
        self._forget(job)
        if code:
            message = f"{job.name} failed with exit code {code}: {job.last_words()}"
            raise DemoError(message)
        return job.output.read_text()

    def end(self, job: Job) -> None:
        """Kill a process at once, as SIGKILL does, and see it gone."""
        if not job.ended:
            job.process.kill()
        job.process.wait(_PATIENCE)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        self._jobs = [one for one in self._jobs if one is not job]
        self._tell(f"-{job.process.pid}")

    def _tell(self, line: str) -> None:
        if self._watcher is not None and self._watcher.stdin is not None:
            with contextlib.suppress(OSError):
                self._watcher.stdin.write(line.encode() + b"\n")
                self._watcher.stdin.flush()

    def _dismiss(self) -> None:
        """Closing its stdin tells the watcher that this is the end."""
        if self._watcher is not None:
            self._watcher.communicate(timeout=_PATIENCE)
            self._watcher = None


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: raised inside a fork it is lost, with a lock of `logging` that is still held."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


@contextlib.contextmanager
def heeding() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C: raised inside a destructor it is lost; what is given raises it again where it was."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    def apply_stop_requests() -> None:
        if heard:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield apply_stop_requests
    finally:
        signal.signal(signal.SIGINT, before)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Give these variables with the caller's, less those that would change what the demo shows or send it elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, **settings}
