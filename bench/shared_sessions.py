"""How many threads whose nodes wait can be resumed at once, with a session each and with a few that they share?

`python bench/shared_sessions.py [THREADS] [SECONDS]` leaves THREADS threads (default 400) before the last two of four
steps that take SECONDS (default 5) each, and resumes all of them at once in one worker, on a server of two hundred
connections: with a session for each attempt, and with eight that all share. Then again with steps that take no time,
sixteen at once: what sharing costs where it gains nothing. Printed: threads a second, most attempts at once, sessions.
"""

import asyncio
import sys

import psycopg
from resume_throughput import COMMAND, copied, eager, prepare, started, until

from resumed.demo.postgres import PrivateServer

SHARED = 8


def resumed(server: PrivateServer, threads: int, *, at_once: int, seconds: float, sessions: int | None) -> None:
    name = f"{'slow' if seconds else 'fast'}_{sessions or 0}"
    dsn = copied(server, name)
    settings = {
        **eager(server, dsn),
        "RESUMED_CONCURRENCY": str(at_once),
        "BENCH_STEP_SECONDS": str(seconds),
        **({"RESUMED_SESSIONS": str(sessions)} if sessions else {}),
    }
    most = {"attempts": 0, "sessions": 0}
    look = (
        "select (select count(*) from resumed.attempts where finished_at is null),"
        " (select count(*) from pg_stat_activity where application_name = 'resumed attempt'),"
        " (select count(*) from resumed.attempts where outcome = 'finished')"
    )
    with psycopg.connect(dsn, autocommit=True) as watcher, (server.folder / f"{name}.log").open("wb") as log:
        with started([COMMAND, "run"], settings, log):
            until(watcher, "select count(*) from resumed.attempts", 1)
            finished = 0
            while finished < threads:
                running, opened, finished = watcher.execute(look).fetchone() or (0, 0, 0)
                most = {"attempts": max(most["attempts"], running), "sessions": max(most["sessions"], opened)}
        row = watcher.execute(
            "select extract(epoch from max(finished_at) - min(started_at))::float8, count(*) from resumed.attempts"
        ).fetchone()
    assert row is not None
    how = f"{sessions} shared" if sessions else "one each"
    print(
        f"steps of {seconds:g} s, {how:9}: {threads / row[0]:6.1f} threads/s, {most['attempts']:4} at once over"
        f" {most['sessions']:3} sessions, {row[1]} attempts"
    )


def main(threads: int, seconds: float) -> None:
    with PrivateServer() as server:
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute("create database prepared")
        asyncio.run(prepare(server.dsn("prepared"), threads))
        for sessions in (None, SHARED):
            resumed(server, threads, at_once=threads, seconds=seconds, sessions=sessions)
        for sessions in (None, 4):
            resumed(server, threads, at_once=16, seconds=0, sessions=sessions)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400, float(sys.argv[2]) if len(sys.argv) > 2 else 5)
