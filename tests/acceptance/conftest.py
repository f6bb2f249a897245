"""The installed command and the zoo's application as real processes, to be started, watched and killed."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import dict_row

GRAPHS = Path(__file__).parent.parent / "graphs"
COMMAND = Path(sys.executable).parent / "resumed"
DEADLINE = 60.0
FAST = {
    "RESUMED_MIN_AGE": "0s",
    "RESUMED_POLL_INTERVAL": "200ms",
    "RESUMED_RETRY_BASE": "0s",
    "RESUMED_RECONNECT_GRACE": "0s",
    "RESUMED_HTTP_HOST": "127.0.0.1",
    "RESUMED_HTTP_PORT": "0",
}


def eventually(question: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """Ask until the answer is true; fails with the last answer when the deadline has passed."""
    end = time.monotonic() + deadline
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline} s: {question}")
        time.sleep(0.05)


@dataclass
class Bench:
    """One test's database, registry and side-effect log, and the processes that it started."""

    dsn: str
    folder: Path
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def effects_file(self) -> Path:
        return self.folder / "effects.log"

    def environment(self, workflows: list[str] | None = None, **settings: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUMED_", "PG"))}
        place = self.registry(workflows if workflows is not None else sorted(everything()))
        return {
            **kept,
            **FAST,
            "PYTHONPATH": os.pathsep.join([str(GRAPHS), place]),
            "RESUMED_DATABASE_URL": self.dsn,
            "ZOO_LOG": str(self.effects_file),
            **settings,
        }

    def registry(self, workflows: list[str]) -> str:
        """Make entry points for `name` of the zoo or `name=module:attribute`; gives the folder to put on the path."""
        place = self.folder / f"registry-{abs(hash(tuple(workflows)))}"
        info = place / "zoo-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1.0\n")
        lines = [entry if "=" in entry else f"{entry} = {everything()[entry]}" for entry in workflows]
        info.joinpath("entry_points.txt").write_text("[resumed.workflows]\n" + "\n".join(lines) + "\n")
        return str(place)

    def application(self, count: int, *names: str, **settings: str) -> subprocess.Popen[Any]:
        """Start the application; it begins `count` threads of each workflow."""
        command = [sys.executable, "-m", "zoo.app", self.dsn, str(count), *names]
        return self._start(command, self.environment(**settings), subprocess.DEVNULL)

    def executed(self, count: int, *names: str, log: Path | None = None, **settings: str) -> subprocess.Popen[Any]:
        """Start the application that runs its threads through the executor."""
        command = [sys.executable, "-m", "zoo.executed", self.dsn, str(count), *names]
        with (log or Path(os.devnull)).open("wb") as stderr:
            return self._start(command, self.environment(**settings), stderr)

    def crashed_application(self, count: int, *names: str, ends: int, starts: int = 0, **settings: str) -> None:
        """Start the application and kill it with SIGKILL when so many nodes have ended and started."""
        application = self.application(count, *names, **settings)
        far = {"end": ends, "start": starts}
        reached = lambda: all(len(self.effects(edge)) >= number for edge, number in far.items())  # noqa: E731
        eventually(lambda: reached() or application.poll() is not None)
        assert application.poll() is None, "the application ended before it could be killed"
        application.kill()
        application.wait()

    def daemon(self, workflows: list[str] | None = None, **settings: str) -> "Daemon":
        log = self.folder / f"daemon-{len(self.processes)}.log"
        with log.open("wb") as stderr:
            return Daemon(self._start([str(COMMAND), "run"], self.environment(workflows, **settings), stderr), log)

    def resumed(self, *arguments: str, workflows: list[str] | None = None, **settings: str) -> Any:
        """Run the command to its end."""
        return subprocess.run(
            [str(COMMAND), *arguments], env=self.environment(workflows, **settings), cwd=self.folder,
            capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def ask(self, *arguments: str, **settings: str) -> Any:
        """Run a reading command and give what its JSON says."""
        done = self.resumed(*arguments, "--json", **settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def one(self, query: str, **parameters: Any) -> Any:
        return next(iter(self.rows(query, **parameters)[0].values()))

    def execute(self, statement: str, **parameters: Any) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement, parameters or None)

    def connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def effects(self, edge: str | None = None) -> list[dict[str, Any]]:
        if not self.effects_file.exists():
            return []
        lines = [json.loads(line) for line in self.effects_file.read_text().splitlines()]
        return [line for line in lines if edge in (None, line["edge"])]

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def open_attempts(self) -> int:
        return int(self.one("select count(*) from resumed.attempts where finished_at is null"))

    def all_closed(self, threads: int) -> bool:
        count = "select count(*) from resumed.cases where state = 'closed'"
        return bool(
            self.one(count) >= threads and not self.one("select count(*) from resumed.cases where state <> 'closed'")
        )

    def _start(self, command: list[str], environment: dict[str, str], stderr: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        self.processes.append(process)
        return process


@dataclass
class Daemon:
    """A daemon that runs as the installed command."""

    process: subprocess.Popen[Any]
    log: Path

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text().splitlines():
            told = json.loads(line) if line.startswith("{") else None  # what a user's module prints is theirs
            if told is not None and event in (None, told["event"]):
                found.append(told)
        return found

    @property
    def port(self) -> int:
        return int(eventually(lambda: self.lines("http.opened"))[0]["port"])

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Read one metric's labels and values."""
        families = text_string_to_metric_families(httpx.get(f"http://127.0.0.1:{self.port}/metrics").text)
        return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]

    def sweeps(self) -> int:
        """How many sweeps it has made."""
        return int(self.samples("resumed_sweep_duration_seconds_count")[0][1])

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


def shifted(seconds: int | Path) -> dict[str, str]:
    """Settings under which a process believes another time, or what a file says; its monotonic clock is left alone."""
    places = Path(sysconfig.get_path("purelib"), "libfaketime").rglob("libfaketime*.so*")
    library = next(place for place in places if "MT" not in place.name)
    how = (
        {"FAKETIME_TIMESTAMP_FILE": str(seconds), "FAKETIME_NO_CACHE": "1"}
        if isinstance(seconds, Path)
        else {"FAKETIME": f"{seconds:+}s"}
    )
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", **how}


def everything() -> dict[str, str]:
    sys.path.insert(0, str(GRAPHS)) if str(GRAPHS) not in sys.path else None
    from zoo.graphs import ALL  # noqa: PLC0415 - the zoo is found only now

    return {name: f"zoo.graphs:{name}" for name in ALL}


@pytest.fixture
def bench(database: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(database, tmp_path)
    yield made
    made.end()
