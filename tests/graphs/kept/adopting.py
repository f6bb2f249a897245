"""Adopts threads again and again, killed around each statement in its turn, until one run comes to its end.

`python -m kept.adopting DSN` prints how often it died, how many threads were adopted after each death, and where
cases and audit did not agree.
"""

import asyncio
import json
import os
import sys
import time
from datetime import timedelta

import psycopg

from kept.killed import BUSY, die_around
from resumed.config.settings import load_settings
from resumed.daemon.worker_plan import sweep_rules
from resumed.errors import ResumedError
from resumed.model import Via
from resumed.operations.adoption import Adoption, AdoptionRequest
from resumed.operations.containment import OperatorCommand
from resumed.store.connection import Target, open_session

COUNTS = """
select (select count(*) from resumed.audit where action = 'adopt'),
    (select count(distinct thread_id) from resumed.audit where action = 'adopt'),
    (select count(*) from resumed.cases where state = 'due' and first_seen_at = last_activity_at)
"""


async def adopt(dsn: str) -> None:
    async with open_session(Target(dsn)) as session:
        command = OperatorCommand("ada", via=Via.CLI)
        one = Adoption(session, sweep_rules(load_settings().settings), command, AdoptionRequest(timedelta(days=365)))
        await one.find()
        try:
            await one.adopt()
        except ResumedError:
            os._exit(BUSY)


def counts(dsn: str) -> tuple[int, int, int]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(COUNTS).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def main(dsn: str) -> None:
    deaths, adopted, torn = 0, {0}, []
    while True:
        child = os.fork()
        if not child:
            die_around(deaths + 1)
            asyncio.run(adopt(dsn))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BUSY:
            time.sleep(0.05)  # until the server has noticed the last death
            continue
        found = counts(dsn)
        adopted.add(found[2])
        if len(set(found)) > 1:
            torn.append((deaths, *found))
        if not os.WIFSIGNALED(status):
            code = os.waitstatus_to_exitcode(status)
            print(json.dumps({"deaths": deaths, "adopted": sorted(adopted), "torn": torn, "code": code}))
            return
        deaths += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
