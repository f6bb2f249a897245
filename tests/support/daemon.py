"""A daemon that a test started: its log, its metrics, its end."""

import signal
import subprocess
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.lines import GrowingLines
from support.waiting import DEADLINE, eventually


@dataclass
class Daemon:
    """A daemon that runs as the installed command."""

    process: subprocess.Popen[Any]
    log: Path
    _lines: GrowingLines = field(init=False)

    def __post_init__(self) -> None:
        self._lines = GrowingLines(self.log)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        return [line for line in self._lines.read() if event in (None, line["event"])]

    @property
    def port(self) -> int:
        return int(eventually(lambda: self.lines("http.opened"))[0]["port"])

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Read one metric's labels and values."""
        text = "".join(line for line in self._get("/metrics").splitlines(keepends=True) if line.startswith(name))
        families = text_string_to_metric_families(text)
        return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]

    def sweeps(self) -> int:
        """How many sweeps it has made."""
        return int(self.samples("resumed_sweep_duration_seconds_count")[0][1])

    def _get(self, path: str) -> str:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def until_ready(self) -> "Daemon":
        eventually(lambda: any(line["ready"] for line in self.lines("readiness.changed")))
        return self

    def workers(self) -> list[int]:
        return [line["pid"] for line in self.lines("worker.started")]

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
