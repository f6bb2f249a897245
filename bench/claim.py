"""How fast are due cases claimed, and does it matter what lies before them?

`python bench/claim.py [CASES]` makes CASES due cases (default 1 000 000) on a private Postgres, claims 64 at a time
from one session and from eight, then again behind a tenth as many older cases of a version that nobody here has. Only
the ratios mean anything on a shared machine.
"""

import asyncio
import sys
import time

from langgraph.checkpoint.postgres import PostgresSaver
from sweep_growth import RULES

from resumed.demo.postgres import PrivateServer
from resumed.model import Registration
from resumed.store import cases, schema
from resumed.store.cases import ClaimRequest
from resumed.store.connection import Target, open_session
from resumed.store.watermark import database_clock

ROWS = 64
CLAIMS = 150
FILL = """
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, due_at)
select %(name)s || n, 'orders', %(version)s, 'stopped', 'nothing has run since', 'due', 'head', '', now(), now(),
    now() - n * interval '1 ms' - %(older)s::interval
from generate_series(1, %(rows)s::bigint) n
"""


async def rate(target: Target, claimers: int, registration: Registration) -> float:
    """Return how many cases a second so many claimers claim together."""

    async def claim(number: int) -> int:
        async with open_session(target) as session:
            wanted = [ClaimRequest(registration, ROWS)]
            claims = [await cases.claim(session, wanted, f"bench-{number}", ROWS) for _ in range(CLAIMS // claimers)]
        return sum(len(claimed) for claimed in claims)

    began = time.perf_counter()
    claimed = sum(await asyncio.gather(*(claim(number) for number in range(claimers))))
    took = time.perf_counter() - began
    async with open_session(target) as session:  # what was claimed would be begun by now, and not lie in the way
        await session.execute("delete from resumed.cases where claimed_until is not null")
        await session.execute("vacuum analyze resumed.cases")
    return claimed / took


async def main(count: int) -> None:
    """Print the rates, and the ratio of what lies before."""
    with PrivateServer() as server:
        target = Target(server.dsn())
        with PostgresSaver.from_conn_string(target.dsn) as saver:
            saver.setup()
        await schema.migrate(target)
        async with open_session(target, silence=None) as session:
            await session.execute("set statement_timeout = 0")
            await session.execute(FILL, {"name": "ours-", "version": "1", "older": "0 s", "rows": count})
            await session.execute("vacuum analyze resumed.cases")
            registration = Registration("orders", "1", (), (), RULES.defaults, await database_clock(session))
            free = [await rate(target, claimers, registration) for claimers in (1, 8)]
            foreign = {"name": "foreign-", "version": "0", "older": "1 h", "rows": count // 10}
            await session.execute(FILL, foreign)
            await session.execute("vacuum analyze resumed.cases")
            behind = [await rate(target, claimers, registration) for claimers in (1, 8)]
    print(f"{count} due cases, {ROWS} a claim")
    for claimers, first, then in zip((1, 8), free, behind, strict=True):
        print(f"{claimers} claimers: {first:8.0f} a second, {then:8.0f} behind the foreign ones, {then / first:.2f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
