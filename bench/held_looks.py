"""How long until an answer is noticed while very many threads wait for a person?

`python bench/held_looks.py [CASES]` makes CASES waiting cases (default 1 000 000) on a private Postgres, each with its
question, and counts the rounds of a quarter of a second, one a sweep, in which all of them have been asked for an
answer. A tenth of them beside that says how the time grows.
"""

import asyncio
import sys
import time

from langgraph.checkpoint.postgres import PostgresSaver

from resumed.daemon.sweep import find_answered
from resumed.daemon.sweep_memory import SweepMemory
from resumed.demo.postgres import PrivateServer
from resumed.store import schema
from resumed.store.connection import Target, open_session

FILL = """
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, next_look_at)
select 'held-' || n, 'orders', '1', 'waiting', 'a person has to answer', 'held', 'head', '', now(), now(),
    now() + interval '1 h'
from generate_series(%(first)s::bigint, %(last)s::bigint) n
"""
QUESTIONS = """
insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path)
select 'held-' || n, '', 'head', 'task-' || n, -3, '__interrupt__', 'msgpack', repeat('x', 200)::bytea, ''
from generate_series(%(first)s::bigint, %(last)s::bigint) n
"""


async def main(count: int) -> None:
    """Print how many rounds and seconds a search through all waiting cases takes, and through a tenth of them."""
    with PrivateServer() as server:
        target = Target(server.dsn())
        with PostgresSaver.from_conn_string(target.dsn) as saver:
            saver.setup()
        await schema.migrate(target)
        times = []
        async with open_session(target, silence=None) as session:
            await session.execute("set statement_timeout = 0")
            for first, last in ((1, count // 10), (count // 10 + 1, count)):
                for fill in (FILL, QUESTIONS):
                    await session.execute(fill, {"first": first, "last": last})
                for table in ("resumed.cases", "checkpoint_writes"):
                    await session.execute(f"vacuum analyze {table}")
                search, rounds, began = SweepMemory(), 0, time.perf_counter()
                while not rounds or search.answers_after:
                    await find_answered(session, search)
                    rounds += 1
                times.append(time.perf_counter() - began)
                print(f"{last:8} waiting: all asked in {rounds} rounds, {times[-1]:.2f} s")
        print(f"ratio of the times for ten times as many: {times[1] / times[0]:.2f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
