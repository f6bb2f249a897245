"""How long do submitted runs wait to become cases? One sweep over a tenth of them, and over all, on one Postgres.

`python bench/discovery.py [RUNS]` submits RUNS runs (default 50 000) on a private Postgres and makes one sweep. The
ratio says whether the time grows faster than their number; only that means anything on a shared machine.
"""

import asyncio
import sys
import time

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from sweep_growth import RULES

from resumed.daemon.sweep import run_sweep
from resumed.demo.postgres import PrivateServer
from resumed.model import Registration
from resumed.store import schema, workflow_versions
from resumed.store.connection import Target, open_session
from resumed.store.watermark import database_clock

SUBMIT = """
insert into resumed.runs (run_id, thread_id, workflow, state, submitted, input_type, input, owner)
select 'run-' || n, 'orders-' || n, 'orders', 'submitted', true, 'msgpack', '\\x80', 'bench'
from generate_series(1, %s) n
"""


async def discover(dsn: str, count: int) -> float:
    """Submit so many runs and return how many seconds a sweep takes to make a case of each."""
    target = Target(dsn)
    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()
    await schema.migrate(target)
    async with open_session(target) as session:
        registration = Registration("orders", "1", (), (), RULES.defaults, await database_clock(session))
        await workflow_versions.announce_versions(session, [registration])
        await run_sweep(session, RULES)
        await session.execute(SUBMIT, [count])
        await session.execute("analyze resumed.runs")
        began = time.perf_counter()
        report = await run_sweep(session, RULES)
        took = time.perf_counter() - began
    if report is None or report.written != count:
        message = f"a sweep made {report and report.written} cases of {count} runs"
        raise RuntimeError(message)
    return took


async def main(count: int) -> None:
    """Print what a sweep over a tenth of the runs took, and over all of them."""
    with PrivateServer() as server:
        times = {}
        for size in (count // 10, count):
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"create database runs_{size}")
            times[size] = await discover(server.dsn(f"runs_{size}"), size)
            print(f"{size:8} submitted runs: {times[size]:6.2f} s, {size / times[size]:8.0f} a second")
        small, large = times.values()
        print(f"ratio of the times for ten times as many: {large / small:.2f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
