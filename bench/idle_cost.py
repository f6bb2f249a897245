"""What does a replica cost that has nothing to do? Sessions, statements a second, memory, processor time.

`python bench/idle_cost.py [SECONDS]` runs one with default settings and one workflow on a private Postgres for so long
(default 60). Statements are counted where Postgres has pg_stat_statements; name its folder in RESUMED_PG_BIN.
"""

import asyncio
import sys
import time

import psutil
import psycopg
from resume_throughput import (
    COMMAND,
    count_statements,
    counters,
    counts_statements,
    prepare,
    registered,
    started,
    until,
    usage,
)

from resumed.demo.postgres import PrivateServer


def main(seconds: float) -> None:
    """Print the means of the time after the first sweep."""
    options = ("shared_preload_libraries=pg_stat_statements",) if counts_statements() else ()
    with PrivateServer(options=options) as server:
        dsn = server.dsn()
        count_statements(server, dsn)
        asyncio.run(prepare(dsn, 16))
        with (
            psycopg.connect(dsn, autocommit=True) as watcher,
            (server.folder / "idle.log").open("wb") as log,
            started([COMMAND, "run"], {**registered(server, dsn), "RESUMED_MIN_AGE": "1s"}, log) as process,
        ):
            until(watcher, "select count(*) from resumed.attempts where outcome = 'finished'", 16)
            time.sleep(35)  # the sessions of the attempts are closed after 30 s without work
            before, used = counters(server, "postgres"), usage(process)
            time.sleep(seconds)
            spent = counters(server, "postgres") - before
            sessions = watcher.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and backend_type = 'client backend'"
            ).fetchone()
            control = psutil.Process(process.pid)
            times = {name: value - used[name] for name, value in usage(process).items()}
            workers = [unique(child) for child in control.children(recursive=True)]
            print(f"sessions {sessions and sessions[0]}, statements {spent.statements / seconds:.1f} a second")
            print(f"control {unique(control):.0f} MiB, {1000 * times['control'] / seconds:.1f} ms CPU a second")
            print(
                f"workers {', '.join(f'{size:.0f}' for size in workers)} MiB,"
                f" {1000 * times['workers'] / seconds:.1f} ms CPU a second"
            )


def unique(process: psutil.Process) -> float:
    """Return the memory of a process in MiB that it would free at its end."""
    return float(process.memory_full_info().uss) / 2**20


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
