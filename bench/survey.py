"""Is a survey bounded in time and memory? A table of so many checkpoints, and what the command says and takes.

`python bench/survey.py [ROWS]` fills a private Postgres (default 10 000 000 checkpoints, eight a thread; a minute or
two), runs `resumed survey` on it as a process and prints what it forecast, took and kept in memory.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver

from resumed.demo.postgres import PrivateServer

EACH = 8
FILL = """
create function pg_temp.uuid6(made timestamptz, n bigint) returns text language sql immutable as $$
    select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-6' || substr(h, 13, 3) || '-8000-' || lpad(to_hex(n), 12, '0')
    from (select lpad(to_hex((extract(epoch from made) * 1000000)::bigint * 10 + 122192928000000000), 15, '0')) x (h)
$$;
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
select (array['orders', 'chat', 'documents'])[1 + t % 3] || '_' || t, '',
    pg_temp.uuid6(clock_timestamp() - (t % 5000000) * interval '1 second' + s * interval '2 seconds', t * {each} + s),
    case when s > 0 then 'before' end, 'msgpack',
    jsonb_build_object('v', 4, 'pad', repeat('x', 200), 'updated_channels', case when s = {each} - 1 and t % 10 = 0
        then '["branch:to:pay"]'::jsonb when s = {each} - 1 then '["total"]'::jsonb else '["branch:to:pack"]'::jsonb
        end),
    jsonb_build_object('source', 'loop', 'step', s, 'workflow', 'orders')
from generate_series(1, {threads}) t, generate_series(0, {each} - 1) s;
"""


def main(rows: int) -> None:
    with PrivateServer() as server:
        with PostgresSaver.from_conn_string(server.dsn()) as saver:
            saver.setup()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(FILL.format(each=EACH, threads=rows // EACH))
            connection.execute("vacuum (analyze) checkpoints")
        command = [str(Path(sys.executable).parent / "resumed"), "survey", "--since", "3650d"]
        began = time.monotonic()
        environment = {**os.environ, "RESUMED_DATABASE_URL": server.dsn(), "RESUMED_MIN_AGE": "0s"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        took = time.monotonic() - began
        print(done.stderr.strip())
        print(done.stdout.strip())
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{rows} checkpoints, {rows // EACH} threads: {took:.1f} s, at most {peak:.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
