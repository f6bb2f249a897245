"""What do traces cost? A replica with traces off, on, on with a collector that is away, and nested, in turn.

`python bench/traces_cost.py [THREADS] [--rounds N]` starts a Postgres of its own. In each round each contender works
off a copy of a database in which THREADS threads stand before the last two of four empty steps. The order of contenders
turns from round to round. Printed: medians of the processor time a thread, and the ratio to traces off in this run; and
what a span costs by itself, built, queued and encoded, which is less than the rounds differ on a busy machine.
"""

import argparse
import asyncio
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

import psycopg
from resume_throughput import (
    AT_ONCE,
    COMMAND,
    Result,
    copied,
    counters,
    eager,
    prepare,
    started,
    until,
    usage,
)

from resumed.demo.postgres import PrivateServer
from resumed.model import Attempt, Outcome
from resumed.observability.otel import OtlpExport
from resumed.observability.traces import Traces
from resumed.rows import AttemptOrigin

ON = {"RESUMED_TRACES": "true", "OTEL_BSP_SCHEDULE_DELAY": "500"}
NOWHERE = "http://127.0.0.1:9"


@contextmanager
def collector() -> Iterator[str]:
    """Take whatever is sent and drop it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def replica(server: PrivateServer, database: str, threads: int, traces: dict[str, str]) -> Result:
    """Work off a copy; the rate is from the start of the first attempt to the end of the last, by their own rows."""
    dsn = copied(server, database)
    settings = {
        **eager(server, dsn),
        "RESUMED_CONCURRENCY": str(AT_ONCE),
        **traces,
    }
    with psycopg.connect(dsn, autocommit=True) as watcher, (server.folder / f"{database}.log").open("wb") as log:
        before = counters(server, database)
        with started([COMMAND, "run"], settings, log) as process:
            until(watcher, "select count(*) from resumed.attempts", 1)
            used_at = usage(process)
            until(watcher, "select count(*) from resumed.attempts where outcome = 'finished'", threads)
            # Two more turns, in which the last spans are exported.
            sweeps = "select extract(epoch from clock_timestamp() - max(finished_at))::float8 from resumed.attempts"
            until(watcher, sweeps, 3)
            used = counters(server, database) - before
            used_by = {key: value - used_at[key] for key, value in usage(process).items()}
        row = watcher.execute(
            "select extract(epoch from max(finished_at) - min(started_at))::float8 from resumed.attempts"
        ).fetchone()
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        session.execute(f"drop database {database} with (force)")
    assert row is not None
    return Result(database, threads, row[0], used, used_by)


def span_cost(spans: int = 5000) -> float:
    """Return the processor time of one span in seconds; the collector is away, so no answer is read."""
    for name, value in {**ON, "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_BSP_MAX_QUEUE_SIZE": str(spans)}.items():
        os.environ[name] = value
    now = datetime.now(UTC)
    attempt = Attempt(
        "steps-1", 1, "steps", "1", "host-1-0", now, now, Outcome.FINISHED, advanced=True, before="a" * 36,
        after="b" * 36, error_type=None, error_at=None, error=None,
    )  # fmt: skip
    origin = AttemptOrigin(f"00-{5:032x}-{6:016x}-01", None, now)
    export = OtlpExport("host-1", lambda _: None, lambda _: None)
    traces, used = Traces(export, log_errors=True), time.process_time()
    for number in range(spans):
        traces.add(replace(attempt, attempt=number))
        traces.emit(traces.waiting(), {("steps-1", number): origin})
    export.close()
    return (time.process_time() - used) / spans


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("threads", type=int, nargs="?", default=1000)
    asked.add_argument("--rounds", type=int, default=4)
    given = asked.parse_args()
    results: dict[str, list[Result]] = defaultdict(list)
    with PrivateServer() as server, collector() as endpoint:
        contenders = {
            "off": {},
            "on": {**ON, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
            "away": {**ON, "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE},
            "nested": {**ON, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "RESUMED_TRACE_NEST": "true"},
        }
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute("create database prepared")
        asyncio.run(prepare(server.dsn("prepared"), given.threads))
        for number in range(given.rounds):
            names = list(contenders)[number % len(contenders) :] + list(contenders)[: number % len(contenders)]
            for name in names:
                results[name].append(replica(server, f"{name}_{number}", given.threads, contenders[name]))
    report(results, given.threads)
    own = median(sum(run.processes.values()) for run in results["off"]) / given.threads
    cost = span_cost()
    print(f"a span   {1e6 * cost:.0f} µs, {cost / own:.3f} of what an attempt costs here with traces off")


def report(results: dict[str, list[Result]], threads: int) -> None:
    print(f"{'':8} {'threads/s':>9} {'control':>9} {'workers':>9} {'all own CPU':>12} {'of off':>7}")
    base = None
    for name, runs in results.items():
        control, workers = (
            1000 * median(run.processes[part] for run in runs) / threads for part in ("control", "workers")
        )
        own = 1000 * median(sum(run.processes.values()) for run in runs) / threads
        base = base or own
        rate = median(run.rate for run in runs)
        print(f"{name:8} {rate:9.1f} {control:6.2f} ms {workers:6.2f} ms {own:9.2f} ms {own / base:7.3f}")


if __name__ == "__main__":
    main()
