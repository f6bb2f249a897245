"""Owns the real daemon as the demo sees it: the command `resumed` as a process, and the log that it writes."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resumed.demo.example import WORKFLOWS, Example
from resumed.demo.household import Household, Job

MIN_AGE_SECONDS = 3.0  # above the longest silence of the example: an invoice is one step of about 1.5 s
_COMMAND = "from resumed.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Command:
    """The command `resumed` with the settings of the demo, which are fast ones."""

    household: Household
    example: Example

    @property
    def settings(self) -> dict[str, str]:
        """The variables of every command here: the database, short times, a port that is free."""
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
        """Have every unfinished thread judged; changes nothing."""
        told = json.loads(self.household.answer(self._start("scan", "scan", "--json")))
        threads: list[dict[str, Any]] = told["threads"]
        return threads

    def run(self) -> "Replica":
        """Start the daemon."""
        return Replica(self._start("daemon", "run"))

    def _start(self, name: str, *arguments: str) -> Job:
        settings = {**self.settings, "RESUMED_LOG_FORMAT": "json"}
        return self.household.start(name, [sys.executable, "-P", "-c", _COMMAND, *arguments], settings)


@dataclass(slots=True)
class Replica:
    """A daemon that runs, and how far its log has been read."""

    job: Job
    port: int | None = None
    _offset: int = field(default=0)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.job.process.pid

    def news(self) -> list[dict[str, Any]]:
        """Read the lines that it has logged since the last time."""
        whole = _whole_lines(self.job.log, self._offset)
        self._offset += len(whole)
        # What a user's module prints ends up here too, and is theirs.
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith(b'{"event"')]
        for line in lines:
            self.port = line["port"] if line["event"] == "http.opened" else self.port
        return lines


def _whole_lines(path: Path, offset: int) -> bytes:
    with path.open("rb") as log:
        log.seek(offset)
        return b"".join(line for line in log if line.endswith(b"\n"))
