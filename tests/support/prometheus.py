"""A real Prometheus that scrapes a test's daemons each second; the project's rules in a thirtieth of their time."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon
from support.deployment import RULES
from support.waiting import DEADLINE, eventually

SECONDS = {"m": 60, "h": 3600}
FASTER = 30
WAIT = "3s"  # the `for` of each alert

needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is not installed (apt: prometheus)"
)

_CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: resumed
    static_configs: [{{targets: [{targets}]}}]
"""


def hurried(rules: str) -> str:
    """The rules with each range, limit of age and `for` shortened."""

    def shorter(match: re.Match[str]) -> str:
        return f"[{int(match[1]) * SECONDS[match[2]] // FASTER}s]"

    rules = re.sub(r"\[(\d+)([mh])\]", shorter, rules)
    rules = re.sub(r"([<>]) (300|120)\b", lambda match: f"{match[1]} {int(match[2]) // FASTER}", rules)
    return re.sub(r"\bfor: \w+", f"for: {WAIT}", rules)


class Prometheus:
    """A server that a test started."""

    def __init__(self, folder: Path, *daemons: Daemon) -> None:
        """Start it; what it scrapes is fixed. Returns when it has scraped."""
        folder.mkdir()
        targets = ", ".join(f'"127.0.0.1:{daemon.port}"' for daemon in daemons)
        folder.joinpath("prometheus.yml").write_text(_CONFIGURATION.format(targets=targets))
        folder.joinpath("rules.yml").write_text(hurried(RULES.read_text()))
        self._port, self._log = _free_port(), folder / "log"
        with self._log.open("wb") as log:
            options = ["--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"]
            command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{self._port}"]
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        eventually(self._is_up)
        # It takes five seconds to find out what to scrape, and until then all looks down.
        eventually(lambda: self.query("up") and not self.firing())
        self._began = time.time()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Ask for the present value of each series."""
        asked = urllib.parse.urlencode({"query": expression})
        result = self._get(f"/api/v1/query?{asked}")["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def firing(self) -> dict[str, list[str]]:
        """Name the alerts that fire now, each with the workflows or instances that it fires for."""
        alerts = [one for one in self._get("/api/v1/alerts")["data"]["alerts"] if one["state"] == "firing"]
        found: dict[str, list[str]] = {}
        for one in alerts:
            subject = one["labels"].get("workflow") or one["labels"].get("instance") or ""
            found.setdefault(one["labels"]["alertname"].removeprefix("Resumed"), []).append(subject)
        return found

    def until_firing(self, *names: str, deadline: float = DEADLINE) -> dict[str, list[str]]:
        """Wait until each of these alerts fires."""
        return self._until(lambda firing: firing if set(names) <= firing.keys() else None, deadline)

    def fired(self) -> set[str]:
        """Name the alerts that have fired since its start."""
        since = int(time.time() - self._began)
        found = self.query(f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{since}s]))')
        return {labels["alertname"].removeprefix("Resumed") for labels, _ in found}

    def _until(self, answer: Callable[[dict[str, list[str]]], Any], deadline: float) -> dict[str, list[str]]:
        found: dict[str, list[str]] = eventually(lambda: answer(self.firing()), deadline)
        return found

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return bool(self._get("/api/v1/status/runtimeinfo"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=DEADLINE) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
