"""How fast a replica works off dead threads, beside a bare loop and beside DBOS, in one run on one server.

`python bench/resume_throughput.py [THREADS] [--only bare,one,two,dbos]` starts a Postgres of its own. Every contender
gets its own copy of a database in which THREADS threads stand before the last two of four empty steps; 16 are resumed
at once.

- bare: `graph.ainvoke(None)` in one process over one pooled saver: no lock, no record, no judging.
- one, two: `resumed run` with one and with two worker processes.
- dbos: DBOS recovering as many workflows of four steps that were killed in their third (needs `dbos` in .venv/bench).

Printed: threads a second, the ratio to the bare loop, and for what Postgres was asked: CPU, statements, transactions
and bytes of WAL a thread. DBOS recovers all of its workflows at once; it is timed from its launch.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from workloads.steps import four_steps

from resumed.demo.postgres import PrivateServer, find_binaries
from resumed.store import schema
from resumed.store.connection import Target

HERE = Path(__file__).parent
COMMAND = str(Path(sys.executable).parent / "resumed")
AT_ONCE = 16
PATIENCE = 600.0
SAVER: dict[str, Any] = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}


@dataclass(frozen=True)
class Counters:
    """What the server has counted so far. `cpu` is in seconds, with that of backends that have ended."""

    cpu: float
    statements: int
    transactions: int
    wal: int

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(
            self.cpu - other.cpu,
            self.statements - other.statements,
            self.transactions - other.transactions,
            self.wal - other.wal,
        )


@dataclass(frozen=True)
class Result:
    name: str
    threads: int
    seconds: float
    used: Counters
    processes: dict[str, float]

    @property
    def rate(self) -> float:
        return self.threads / self.seconds


def counts_statements() -> bool:
    """Return whether this Postgres has pg_stat_statements; the wheel of the demo has not, Debian's has."""
    asked = subprocess.run(
        [str(find_binaries() / "pg_config"), "--pkglibdir"], capture_output=True, text=True, check=True
    )
    return any(Path(asked.stdout.strip()).glob("pg_stat_statements.*"))


def count_statements(server: PrivateServer, dsn: str) -> None:
    if server.options:
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute("create extension pg_stat_statements")


def counters(server: PrivateServer, database: str) -> Counters:
    statements = (
        "(select coalesce(sum(calls), 0) from pg_stat_statements where dbid = d.oid)" if server.options else "0"
    )
    with psycopg.connect(server.dsn(database), autocommit=True) as session:
        row = session.execute(
            f"select {statements}::bigint, "
            "pg_stat_get_db_xact_commit(d.oid), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint "
            "from pg_database d where datname = current_database()"
        ).fetchone()
    assert row is not None
    postmaster = psutil.Process(server.pid)
    times = postmaster.cpu_times()
    living = sum(cpu(child) for child in postmaster.children())
    return Counters(times.user + times.system + times.children_user + times.children_system + living, *row)


def cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


async def prepare(dsn: str, threads: int) -> None:
    """Leave `threads` threads before their third step, as an application that died would."""
    await schema.migrate(Target(dsn))
    async with AsyncConnectionPool(dsn, min_size=8, max_size=8, kwargs=SAVER, open=False) as pool:
        await AsyncPostgresSaver(pool).setup()
        await schema.migrate(Target(dsn))
        graph = four_steps().compile(checkpointer=AsyncPostgresSaver(pool), interrupt_before=["c"])
        await gathered(threads, lambda name: graph.ainvoke({"steps": []}, config(name), durability="sync"))


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": {"workflow": "steps"}}


async def gathered(threads: int, call: Callable[[str], Any]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with gate:
            await call(name)

    await asyncio.gather(*(one(f"steps-{number}") for number in range(threads)))


def copied(server: PrivateServer, name: str) -> str:
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute(f"create database {name} template prepared")
    return server.dsn(name)


async def bare(server: PrivateServer, threads: int) -> Result:
    dsn = copied(server, "bare")
    async with AsyncConnectionPool(dsn, min_size=8, max_size=8, kwargs=SAVER, open=False) as pool:
        graph = four_steps().compile(checkpointer=AsyncPostgresSaver(pool))
        before, own = counters(server, "bare"), cpu(psutil.Process())
        began = time.perf_counter()
        await gathered(threads, lambda name: graph.ainvoke(None, config(name)))
        seconds = time.perf_counter() - began
    used = counters(server, "bare") - before
    return Result("bare", threads, seconds, used, {"application": cpu(psutil.Process()) - own})


def replica(server: PrivateServer, threads: int, processes: int) -> Result:
    """Time from the start of the first attempt to the end of the last, by the attempts' own rows."""
    name = f"replica_{processes}"
    dsn = copied(server, name)
    settings = {
        **eager(server, dsn),
        "RESUMED_CONCURRENCY": str(AT_ONCE // processes),
        "RESUMED_PROCESSES": str(processes),
    }
    left = "select count(*) from resumed.attempts where outcome = 'finished'"
    with psycopg.connect(dsn, autocommit=True) as watcher, (server.folder / f"{name}.log").open("wb") as log:
        before = counters(server, name)
        with started([COMMAND, "run"], settings, log) as process:
            until(watcher, "select count(*) from resumed.attempts", 1)
            used_at = usage(process)
            until(watcher, left, threads)
            used = counters(server, name) - before
            used_by = {key: value - used_at.get(key, 0.0) for key, value in usage(process).items()}
        seconds = watcher.execute(
            "select extract(epoch from max(finished_at) - min(started_at))::float8, count(*) from resumed.attempts"
        ).fetchone()
    assert seconds is not None
    assert seconds[1] == threads, f"{seconds[1]} attempts for {threads} threads"
    return Result(f"replica, {processes} worker{'s'[: processes - 1]}", threads, seconds[0], used, used_by)


def eager(server: PrivateServer, dsn: str) -> dict[str, str]:
    """Register the workflow, for a replica that waits for nothing before it resumes a thread."""
    waits = {"RESUMED_MIN_AGE": "0s", "RESUMED_POLL_INTERVAL": "1s", "RESUMED_RECONNECT_GRACE": "0s"}
    return {**registered(server, dsn), **waits}


def registered(server: PrivateServer, dsn: str) -> dict[str, str]:
    """Register the workflow `steps` for the processes with these settings."""
    registry = server.folder / "registry" / "bench-1.0.dist-info"
    registry.mkdir(parents=True, exist_ok=True)
    registry.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: bench\nVersion: 1.0\n")
    registry.joinpath("entry_points.txt").write_text("[resumed.workflows]\nsteps = workloads.steps:four_steps_graph\n")
    return {
        "RESUMED_DATABASE_URL": dsn,
        "RESUMED_HTTP_HOST": "127.0.0.1",
        "RESUMED_HTTP_PORT": "0",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(registry.parent)]),
    }


def usage(control: subprocess.Popen[bytes]) -> dict[str, float]:
    process = psutil.Process(control.pid)
    return {"control": cpu(process), "workers": sum(cpu(child) for child in process.children(recursive=True))}


def dbos(server: PrivateServer, threads: int) -> Result:
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute("create database dbos")
    dsn = server.dsn("dbos")
    count_statements(server, dsn)
    settings = {"PYTHONPATH": str(Path(sys.prefix) / "bench")}
    app = [sys.executable, str(HERE / "workloads" / "dbos_app.py")]
    with started([*app, "start", dsn, str(threads)], settings, subprocess.DEVNULL) as process:
        assert json.loads(line(process))["reached"] == threads
    with psycopg.connect(dsn, autocommit=True) as watcher:
        before = counters(server, "dbos")
        with started([*app, "recover", dsn, str(threads)], settings, subprocess.DEVNULL) as process:
            line(process)
            used_at, began = usage(process), time.perf_counter()
            until(watcher, "select count(*) from dbos.workflow_status where status = 'SUCCESS'", threads)
            seconds = time.perf_counter() - began
            used = counters(server, "dbos") - before
            application = usage(process)["control"] - used_at["control"]
    return Result("dbos", threads, seconds, used, {"application": application})


def until(watcher: Any, question: str, reached: int) -> None:
    end = time.monotonic() + PATIENCE
    while watcher.execute(question).fetchone()[0] < reached:
        if time.monotonic() > end:
            message = f"not within {PATIENCE:.0f} s: {question}"
            raise TimeoutError(message)
        time.sleep(0.05)


@contextmanager
def started(command: list[str], settings: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUMED_", "PG", "PYTHON"))}
    process = subprocess.Popen(command, env={**kept, **settings}, stdout=subprocess.PIPE, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def report(results: list[Result]) -> None:
    base = next((one.rate for one in results if one.name == "bare"), None)
    heads = f"{'threads/s':>9} {'of bare':>8} {'server CPU':>11} {'statements':>10} {'commits':>8} {'WAL':>8}"
    print(f"{'':20} {heads}  own CPU")
    for one in results:
        ratio = f"{one.rate / base:.2f}" if base else "-"
        own = ", ".join(f"{name} {1000 * value / one.threads:.1f} ms" for name, value in one.processes.items())
        print(
            f"{one.name:20} {one.rate:9.1f} {ratio:>8} {1000 * one.used.cpu / one.threads:8.1f} ms "
            f"{one.used.statements / one.threads:10.1f} {one.used.transactions / one.threads:8.1f} "
            f"{one.used.wal / one.threads / 1000:6.1f}kB  {own}"
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("threads", type=int, nargs="?", default=1500)
    asked.add_argument("--only", default="bare,one,two,dbos")
    given = asked.parse_args()
    chosen = given.only.split(",")
    options = ("shared_preload_libraries=pg_stat_statements",) if counts_statements() else ()
    with PrivateServer(options=options) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute("create database prepared")
        count_statements(server, server.dsn("prepared"))
        asyncio.run(prepare(server.dsn("prepared"), given.threads))
        results = []
        if "bare" in chosen:
            results.append(asyncio.run(bare(server, given.threads)))
        results += [
            replica(server, given.threads, number) for name, number in (("one", 1), ("two", 2)) if name in chosen
        ]
        if "dbos" in chosen:
            results.append(dbos(server, given.threads))
    report(results)


if __name__ == "__main__":
    main()
