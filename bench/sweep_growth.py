"""Does a sweep's time grow with the table? Two tables at one write rate, the second ten times as long.

`python bench/sweep_growth.py [ROWS]` fills both on a private Postgres (default 100 000 and 1 000 000 checkpoints),
drives two minutes of sweeps over each in turn, and prints the ratio, and how many checkpoints were read and threads
judged (four checkpoints each) for one that was written. Only ratios mean anything on a shared machine.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver

from resumed.daemon.sweep import run_sweep
from resumed.daemon.sweep_memory import SweepMemory
from resumed.demo.postgres import PrivateServer
from resumed.model import PolicyLimits
from resumed.operations.assess import SweepRules
from resumed.store import schema, watermark
from resumed.store.connection import Target, open_session

END = datetime(2026, 6, 1, 12, tzinfo=UTC)
A_SECOND = 50
EVERY = timedelta(seconds=5)
SWEEPS = 26
ROUNDS = 5

FILL = """
create function pg_temp.uuid6(made timestamptz, n bigint) returns text language sql immutable as $$
    select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-6' || substr(h, 13, 3) || '-8000-' || lpad(to_hex(n), 12, '0')
    from (select lpad(to_hex((extract(epoch from made) * 1000000)::bigint * 10 + 122192928000000000), 15, '0')) x (h)
$$;
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, type, checkpoint, metadata)
select 'orders-' || n / 4, '', pg_temp.uuid6(%(end)s::timestamptz - n * %(step)s::interval, n), 'msgpack',
    jsonb_build_object('v', 4, 'updated_channels',
        case when n %% 400 = 0 then '["branch:to:pack"]'::jsonb else '["total"]'::jsonb end),
    jsonb_build_object('source', 'loop', 'step', 3 - n %% 4, 'workflow', 'orders')
from generate_series(0, %(rows)s::bigint - 1) n;
"""
RULES = SweepRules(
    PolicyLimits(
        min_age=timedelta(0),
        max_age=timedelta(days=1),
        max_attempts=5,
        max_total_attempts=50,
        retry_base=timedelta(seconds=30),
        retry_cap=timedelta(hours=1),
        timeout=timedelta(minutes=15),
        concurrency=16,
    ),
    default_workflow=None,
    clock_tolerance=timedelta(minutes=15),
)


@dataclass
class Table:
    rows: int
    target: Target
    narrow: list[float] = field(default_factory=list)
    wide: list[float] = field(default_factory=list)
    read: int = 0
    judged: int = 0
    written: int = 0


async def filled(server: PrivateServer, rows: int) -> Table:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"create database rows_{rows}")
    target = Target(server.dsn(f"rows_{rows}"))
    with PostgresSaver.from_conn_string(target.dsn) as saver:
        saver.setup()
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        values = {"end": END, "step": timedelta(seconds=1) / A_SECOND, "rows": rows}
        with connection.transaction(), psycopg.ClientCursor(connection) as cursor:
            cursor.execute(FILL, values)
    await schema.migrate(target)
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    return Table(rows, target)


async def drive(table: Table) -> None:
    """Two minutes of sweeps, the first of which is not counted."""
    async with open_session(table.target) as session:
        await session.execute("truncate resumed.cases, resumed.watermarks")
        start, memory = END - EVERY * SWEEPS, SweepMemory()
        async with session.transaction():
            await watermark.take_watermark(session, start)
        for number in range(SWEEPS):
            began = time.perf_counter()
            report = await run_sweep(session, RULES, start + EVERY * (number + 1), memory=memory)
            took = time.perf_counter() - began
            assert report is not None
            if number:
                (table.wide if report.rows > A_SECOND * 600 else table.narrow).append(took)
                table.read, table.judged = table.read + report.rows, table.judged + report.threads
                table.written += A_SECOND * EVERY // timedelta(seconds=1)


async def main(rows: int) -> None:
    with PrivateServer(options=("shared_buffers=1GB",)) as server:
        tables = [await filled(server, rows), await filled(server, rows * 10)]
        for _ in range(ROUNDS):
            for table in tables:
                await drive(table)
    for kind in ("narrow", "wide"):
        times = [median(getattr(table, kind)) for table in tables]
        said = [f"{table.rows:>9} rows {took * 1000:6.1f} ms" for table, took in zip(tables, times, strict=True)]
        print(f"{kind:7} {', '.join(said)}, ratio {times[1] / times[0]:.2f}")
    for table in tables:
        print(f"{table.rows:>9} rows: {table.read / table.written:.1f} read, {table.judged / table.written:.2f} judged")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
