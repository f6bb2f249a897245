"""The real daemon: the command `resumed` as a process, and the log that it writes."""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from resumed.demo.example import WORKFLOWS, Example
from resumed.demo.sandbox import Job, Sandbox

MIN_AGE_SECONDS = 3.0  # above the longest silence of the example: an invoice is one step of about 1.5 s
_COMMAND = "from resumed.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Command:
    """The command `resumed` with the demo's settings, which are short ones."""

    sandbox: Sandbox
    example: Example

    @property
    def settings(self) -> dict[str, str]:
        """The variables of every command: the database, short times, a free port."""
        return {
            "RESUMED_DATABASE_URL": self.example.dsn,
            "RESUMED_WORKFLOWS": ",".join(WORKFLOWS),
            "RESUMED_MIN_AGE": f"{MIN_AGE_SECONDS:.0f}s",
            "RESUMED_POLL_INTERVAL": "1s",
            "RESUMED_RETRY_BASE": "0s",
            "RESUMED_RECONNECT_GRACE": "0s",
            "RESUMED_HTTP_HOST": "127.0.0.1",
            "RESUMED_HTTP_PORT": "0",
            **self.example.settings,
        }

    def scan(self) -> list[dict[str, Any]]:
        """Run `resumed scan` and return its threads; it changes nothing."""
        found = json.loads(self.sandbox.wait_for_output(self._start("scan", "scan", "--json")))
        threads: list[dict[str, Any]] = found["threads"]
        return threads

    def run(self) -> "Replica":
        """Start the daemon."""
        return Replica(self._start("daemon", "run"))

    def _start(self, name: str, *arguments: str) -> Job:
        settings = {**self.settings, "RESUMED_LOG_FORMAT": "json"}
        return self.sandbox.start(name, [sys.executable, "-P", "-c", _COMMAND, *arguments], settings)


@dataclass(slots=True)
class Replica:
    """A running daemon, and how far its log has been read."""

    job: Job
    port: int | None = None
    _offset: int = field(default=0)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.job.process.pid

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines logged since the last call."""
        with self.job.log.open("rb") as log:
            log.seek(self._offset)
            whole = b"".join(line for line in log if line.endswith(b"\n"))
        self._offset += len(whole)
        # What a user's module prints ends up here as well.
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith(b'{"event"')]
        for line in lines:
            self.port = line["port"] if line["event"] == "http.opened" else self.port
        return lines
