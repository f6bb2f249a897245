"""Runs drawn graphs as an application would, each in a child that is killed before one of its checkpointer's calls.

`python -m drawn.runner DSN` reads a run a line from stdin and answers with a line: killed, raised or ended.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from points.killer import deadly

from drawn.graphs import Drawn, build

RAISED = 3
LIMIT = 60


def run_sync(dsn: str, drawn: Drawn, told: dict[str, Any], config: Any) -> None:
    with PostgresSaver.from_conn_string(dsn) as saver:
        deadly(saver, told["before"])
        graph = build(drawn, Counter()).compile(checkpointer=saver)
        graph.invoke({"seen": []}, config, durability=told["durability"])


async def run_async(dsn: str, drawn: Drawn, told: dict[str, Any], config: Any) -> None:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        deadly(saver, told["before"])
        graph = build(drawn, Counter()).compile(checkpointer=saver)
        await graph.ainvoke({"seen": []}, config, durability=told["durability"])


def run(dsn: str, told: dict[str, Any]) -> int:
    config = {
        "configurable": {"thread_id": told["thread"]},
        "metadata": {"workflow": "drawn"},
        "recursion_limit": LIMIT,
    }
    drawn = Drawn.of(told["graph"])
    try:
        if told["saver"] == "sync":
            run_sync(dsn, drawn, told, config)
        else:
            asyncio.run(run_async(dsn, drawn, told, config))
    except ValueError:
        return RAISED
    return 0


def gone(dsn: str) -> None:
    """Wait for what a killed process had sent: the server may still be at it."""
    others = "select count(*) from pg_stat_activity where application_name = 'drawn' and pid <> pg_backend_pid()"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(others).fetchone() != (0,):
            time.sleep(0.005)


def main(dsn: str) -> None:
    gc.freeze()
    words = {0: "ended", RAISED: "raised", -signal.SIGKILL: "killed"}
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(run(dsn, json.loads(line)))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        gone(dsn)
        print(words.get(status, f"exit {status}"), flush=True)


if __name__ == "__main__":
    main(psycopg.conninfo.make_conninfo(sys.argv[1], application_name="drawn"))
