"""Do four replicas share a backlog evenly, with nothing done twice and nothing left, and does their memory stay flat?

`python bench/replica_shares.py [THREADS] [REPLICAS]` starts a Postgres of its own (default 200 000 threads, twenty
minutes on two cores), copies one thread that stands before the last two of four empty steps so many times, lets paused
replicas find them, and ends the pause. Each step of each thread writes a line; lines and attempts are counted.
"""

import asyncio
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import psycopg
from resume_throughput import COMMAND, counters, counts_statements, eager, prepare, started

from resumed.demo.postgres import PrivateServer

COPIES = """
create function pg_temp.uuid6(made timestamptz, n bigint) returns text language sql immutable as $$
    select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-6' || substr(h, 13, 3) || '-8000-' || lpad(to_hex(n), 12, '0')
    from (select lpad(to_hex((extract(epoch from made) * 1000000)::bigint * 10 + 122192928000000000), 15, '0')) x (h)
$$;
create temp table numbers as
    select n, clock_timestamp() - interval '10 minutes' - (%(threads)s::int - n) * interval '0.1 ms' as made
    from generate_series(1, %(threads)s::int) n;
create temp table model as select k.*, row_number() over (order by checkpoint_id) as place
    from checkpoints k where thread_id = 'steps-0';
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
select 'steps-' || n, '', pg_temp.uuid6(made, n * 10 + place),
    case when place > 1 then pg_temp.uuid6(made, n * 10 + place - 1) end, type,
    jsonb_set(checkpoint, '{id}', to_jsonb(pg_temp.uuid6(made, n * 10 + place))), metadata
from numbers, model;
insert into checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
select 'steps-' || n, '', channel, version, type, blob from numbers, checkpoint_blobs where thread_id = 'steps-0';
insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
select 'steps-' || n, '', pg_temp.uuid6(made, n * 10 + place), task_id, task_path, idx, channel, w.type, blob
from numbers, model join checkpoint_writes w using (thread_id, checkpoint_ns, checkpoint_id);
"""
FINISHED = "select count(*) from resumed.attempts where outcome = 'finished'"
PATIENCE = 3 * 3600


def fill(dsn: str, threads: int) -> None:
    asyncio.run(prepare(dsn, 1))
    with psycopg.connect(dsn) as session, psycopg.ClientCursor(session) as cursor:
        cursor.execute(COPIES, {"threads": threads})
        cursor.execute("delete from checkpoints where thread_id = 'steps-0'")
        cursor.execute("delete from checkpoint_writes where thread_id = 'steps-0'")
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("vacuum analyze checkpoints, checkpoint_blobs, checkpoint_writes")


def count(session: Any, query: str) -> int:
    return int(session.execute(query).fetchone()[0])


def reach(session: Any, query: str, wanted: int, every: float = 2.0) -> None:
    end = time.monotonic() + PATIENCE
    while count(session, query) < wanted:
        if time.monotonic() > end:
            raise TimeoutError(query)
        time.sleep(every)


def megabytes(processes: list[psutil.Process]) -> str:
    return ", ".join(f"{one.memory_info().rss / 2**20:.0f}" for one in processes)


def work_off(server: PrivateServer, dsn: str, threads: int, replicas: int) -> None:
    steps = server.folder / "steps"
    steps.mkdir()
    settings = {**eager(server, dsn), "RESUMED_POLL_INTERVAL": "5s", "BENCH_STEP_LOG": str(steps)}
    with psycopg.connect(dsn, autocommit=True) as session, ExitStack() as stack:
        session.execute(
            "insert into resumed.pauses (workflow, paused, reason, actor, since)"
            " values ('', true, 'bench', 'bench', clock_timestamp())"
        )
        began, log = time.monotonic(), stack.enter_context((server.folder / "replicas.log").open("wb"))
        running = [stack.enter_context(started([COMMAND, "run"], settings, log)) for _ in range(replicas)]
        processes = [psutil.Process(one.pid) for one in running]
        reach(session, "select count(*) from resumed.cases where state = 'due'", threads)
        print(
            f"{threads} threads found in {time.monotonic() - began:.0f} s; control MiB: {megabytes(processes)}",
            flush=True,
        )
        session.execute("update resumed.pauses set paused = false")
        began, before = time.monotonic(), counters(server, "bench")
        for part in range(1, 11):
            reach(session, FINISHED, threads * part // 10)
            print(
                f"{part * 10:3} % after {time.monotonic() - began:5.0f} s; control MiB: {megabytes(processes)}",
                flush=True,
            )
        seconds, used = time.monotonic() - began, counters(server, "bench") - before
        print(
            f"{threads / seconds:.0f} threads/s; each {1000 * used.cpu / threads:.1f} ms of Postgres' CPU and "
            f"{used.wal / threads / 1000:.1f} kB of WAL"
        )
        report(session, steps, threads)


def report(session: Any, steps: Path, threads: int) -> None:
    """Print each worker's share, and what was done twice or not at all."""
    shares = session.execute("select worker, count(*) from resumed.attempts group by 1 order by 1").fetchall()
    even = threads / len(shares)
    print("shares: " + ", ".join(f"{number} ({100 * (number / even - 1):+.1f} %)" for _, number in shares))
    ran: Counter[str] = Counter()
    for file in steps.iterdir():
        ran.update(file.read_text().splitlines())
    twice = sum(number > 1 for number in ran.values())
    wanted = {f"steps-{thread} {step}" for thread in range(1, threads + 1) for step in "cd"}
    attempts = count(session, "select count(*) from resumed.attempts")
    left = count(session, "select count(*) from resumed.cases where state <> 'closed'")
    print(f"steps run twice {twice}, not at all {len(wanted - ran.keys())}, unasked {len(ran.keys() - wanted)};")
    print(f"attempts {attempts} for {threads} threads, cases still open {left}")


def main(threads: int, replicas: int) -> None:
    options = ("shared_buffers=1GB", "max_wal_size=4GB", "max_connections=200")
    options += ("shared_preload_libraries=pg_stat_statements",) if counts_statements() else ()
    with PrivateServer(options=options) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute("create database bench")
        if counts_statements():
            with psycopg.connect(server.dsn("bench"), autocommit=True) as session:
                session.execute("create extension pg_stat_statements")
        fill(server.dsn("bench"), threads)
        work_off(server, server.dsn("bench"), threads, replicas)


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 200_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 4,
    )
