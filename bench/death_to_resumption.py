"""How long after its process died is a registered run resumed? Many die at once, beside an idle daemon.

`python bench/death_to_resumption.py [RUNS]` holds RUNS runs (default 1000) in one process, kills it, and reads from the
attempts' rows when each was begun again. Printed: percentiles in seconds, for 16, which die first, and for RUNS.
"""

import asyncio
import subprocess
import sys
import time
from statistics import quantiles

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from resume_throughput import COMMAND, HERE, line, registered, started, until

from resumed.demo.postgres import PrivateServer
from resumed.store import schema
from resumed.store.connection import Target

POLL_SECONDS = 5.0


def measure(server: PrivateServer, count: int) -> list[float]:
    """Return how many seconds after the kill each run's attempt began."""
    name = f"dying_{count}"
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute(f"create database {name}")
    dsn = server.dsn(name)
    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()
    asyncio.run(schema.migrate(Target(dsn)))
    settings = {**registered(server, dsn), "RESUMED_RECONNECT_GRACE": "0s"}
    with (
        psycopg.connect(dsn, autocommit=True) as watcher,
        (server.folder / f"{name}.log").open("wb") as log,
        started([COMMAND, "run"], settings, log),
    ):
        until(watcher, "select count(*) from resumed.workflows", 1)
        application = [sys.executable, "-m", "workloads.dying_runs", dsn, str(count)]
        with started(application, {"PYTHONPATH": str(HERE)}, subprocess.DEVNULL) as process:
            assert line(process).strip() == b"standing"
            died_at = time.time()
        until(watcher, "select count(*) from resumed.attempts where outcome = 'finished'", count)
        rows = watcher.execute("select extract(epoch from started_at)::float8 from resumed.attempts").fetchall()
    return [begun - died_at for (begun,) in rows]


def main(count: int) -> None:
    """Print the percentiles of both sizes."""
    with PrivateServer() as server:
        for size in (16, count):
            waited = measure(server, size)
            cuts = quantiles(waited, n=100)
            print(
                f"{size:6} died at once: p50 {cuts[49]:5.2f} s, p99 {cuts[98]:5.2f} s after the kill"
                f" (poll {POLL_SECONDS:.0f} s), {size / max(max(waited) - min(waited), 0.001):.0f} a second"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
