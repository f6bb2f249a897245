"""One test's database, registry and side effects, and the processes that it starts: applications, daemons, commands."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.rows import dict_row

from resumed.store import schema
from resumed.store.connection import Target
from support.command import COMMAND, Done, may_run_here, run_here, run_process
from support.daemon import Daemon
from support.databases import outliving_sessions
from support.lines import GrowingLines
from support.preloaded import Application, may_fork, start
from support.waiting import eventually

GRAPHS = Path(__file__).parents[1] / "graphs"
Process = subprocess.Popen[Any] | Application
FAST = {
    "RESUMED_MIN_AGE": "0s",
    "RESUMED_POLL_INTERVAL": "200ms",
    "RESUMED_RETRY_BASE": "0s",
    "RESUMED_RECONNECT_GRACE": "0s",
    "RESUMED_HTTP_HOST": "127.0.0.1",
    "RESUMED_HTTP_PORT": "0",
}


@dataclass
class Bench:
    """One test's database, registry and side-effect log, and the processes that it started."""

    dsn: str
    folder: Path
    processes: list[Process] = field(default_factory=list)
    _effects: GrowingLines = field(init=False)
    _session: tuple[str, psycopg.Connection[dict[str, Any]]] | None = None

    def __post_init__(self) -> None:
        self._effects = GrowingLines(self.effects_file)

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

    def application(self, count: int, *names: str, **settings: str) -> Process:
        """Start the application; it begins `count` threads of each workflow."""
        return self.module("zoo.app", self.dsn, str(count), *names, **settings)

    def executed(self, count: int, *names: str, log: Path | None = None, **settings: str) -> Process:
        """Start the application that runs its threads through the executor."""
        return self.module("zoo.executed", self.dsn, str(count), *names, log=log, **settings)

    def module(self, name: str, *arguments: str, log: Path | None = None, **settings: Any) -> Process:
        """Start a module of `tests/graphs` as a process of its own; `log` is where its stderr goes."""
        environment, log = self.environment(**settings), log or Path(os.devnull)
        if may_fork(environment):
            self.processes.append(start(name, arguments, environment, self.folder, log))
            return self.processes[-1]
        with log.open("wb") as stderr:
            return self._start([sys.executable, "-m", name, *arguments], environment, stderr)

    def crashed_application(self, count: int, *names: str, ends: int, starts: int = 0, **settings: str) -> None:
        """Start the application and kill it with SIGKILL when so many nodes have ended and started."""
        with outliving_sessions(self.dsn) as named:
            application = self.application(count, *names, **named, **settings)
            far = {"end": ends, "start": starts}
            reached = lambda: all(len(self.effects(edge)) >= number for edge, number in far.items())  # noqa: E731
            eventually(lambda: reached() or application.poll() is not None, last_look=0.02)
            assert application.poll() is None, "the application ended before it could be killed"
            application.kill()
            application.wait()

    def daemon(self, workflows: list[str] | None = None, **settings: str) -> "Daemon":
        log = self.folder / f"daemon-{len(self.processes)}.log"
        with log.open("wb") as stderr:
            return Daemon(self._start([str(COMMAND), "run"], self.environment(workflows, **settings), stderr), log)

    def resumed(
        self, *arguments: str, workflows: list[str] | None = None, given: str = "", process: bool = False,
        **settings: str,
    ) -> Done:  # fmt: skip
        """Run the command to its end, with these lines on stdin; as a process of its own where that is asked for."""
        environment = self.environment(workflows, **settings)
        run = run_here if may_run_here(environment) and not process else run_process
        return run(arguments, environment, self.folder, given)

    def ask(self, *arguments: str, **settings: str) -> Any:
        """Run a reading command and give what its JSON says."""
        done = self.resumed(*arguments, "--json", **settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """Read rows in the session that this keeps open; a session that was lost is replaced once."""
        try:
            return self._kept().execute(query, parameters).fetchall()
        except psycopg.OperationalError:
            self.disconnect()
            return self._kept().execute(query, parameters).fetchall()

    def _kept(self) -> psycopg.Connection[dict[str, Any]]:
        if self._session is None or self._session[0] != self.dsn or self._session[1].closed:
            self.disconnect()
            made = psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None)
            self._session = self.dsn, made
        return self._session[1]

    def disconnect(self) -> None:
        """Close the session in which rows are read."""
        if self._session is not None:
            self._session[1].close()
            self._session = None

    def one(self, query: str, **parameters: Any) -> Any:
        return next(iter(self.rows(query, **parameters)[0].values()))

    def execute(self, statement: str, **parameters: Any) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement, parameters or None)

    def connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def effects(self, edge: str | None = None) -> list[dict[str, Any]]:
        return [line for line in self._effects.read() if edge in (None, line["edge"])]

    def end(self) -> None:
        """Kill what still runs."""
        self.disconnect()
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


def everything() -> dict[str, str]:
    sys.path.insert(0, str(GRAPHS)) if str(GRAPHS) not in sys.path else None
    from zoo.graphs import ALL  # noqa: PLC0415 - the zoo is found only now

    return {name: f"zoo.graphs:{name}" for name in ALL}


@contextmanager
def prepared_bench(dsn: str, folder: Path) -> Iterator[Bench]:
    """Have a bench on a server of the test's own, whose database gets LangGraph's tables and ours."""
    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()
    asyncio.run(schema.migrate(Target(dsn)))
    bench = Bench(dsn, folder)
    try:
        yield bench
    finally:
        bench.end()
