"""Prunes a thread again and again, killed around each statement in its turn, until one run comes to its end.

`python -m kept.killed DSN THREAD STEP` prints in how many ways the deaths have left the rows: there are two, before and
after. STEP is `keep_latest`, `mark` (the first half of a deletion) or `delete` (the second).
"""

import asyncio
import json
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection

from kept import graphs
from resumed.model import PolicyLimits, PruneStrategy, Refusal
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.node_threads import TrackedExecutor
from resumed.runtime.prune import prune_thread
from resumed.runtime.worker import registration_of
from resumed.store.connection import Target
from resumed.workers.prune_messages import MarkedState, PruneThread, ThreadPruned
from resumed.workflows.loaded_workflow import load_workflow

BUSY = 75
MARKS = "select thread_id, workflow, head, newest_id, fingerprint from resumed.prune_marks"  # a second mark is as good
HOUR = timedelta(hours=1)
NUMBERS = PolicyLimits(timedelta(0), HOUR, 5, 5, HOUR, HOUR, HOUR, 4)


def die_around(wanted: int) -> None:
    """Die after the wanted half of a statement: odd ones before it is sent, even ones once it has been answered."""
    original, seen = AsyncConnection.wait, 0

    async def wait(self: Any, *rest: Any, **named: Any) -> Any:
        nonlocal seen
        for answered in (False, True):
            done = await original(self, *rest, **named) if answered else None
            seen += 1
            if seen == wanted:
                os.kill(os.getpid(), signal.SIGKILL)
        return done

    AsyncConnection.wait = wait  # type: ignore[method-assign]


async def prune(dsn: str, thread: str, strategy: str, marked: MarkedState | None) -> ThreadPruned:
    name = thread.rpartition("_")[0]
    policy = graphs.ALL[name]
    loaded = load_workflow(name, policy, policy.graph)
    assert loaded is not None
    context = WorkerContext(
        Target(dsn), AttemptSessions(Target(dsn), "killed"), "killed", 100, TrackedExecutor(4), lambda _: None
    )
    order = PruneThread(thread, name, PruneStrategy(strategy), HOUR, marked=marked)
    return await prune_thread(AttemptRequest(thread, loaded, registration_of(loaded, NUMBERS)), context, order)


def rows(dsn: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        queries = [*(f"select * from {one}" for one in ("checkpoints", "checkpoint_writes", "checkpoint_blobs")), MARKS]
        return [sorted(map(str, connection.execute(one).fetchall())) for one in queries]


def mark_of(dsn: str) -> MarkedState:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select head, newest_id, fingerprint from resumed.prune_marks").fetchone()
    assert row is not None
    return MarkedState(*row)


def main(dsn: str, thread: str, step: str) -> None:
    strategy = "keep_latest" if step == "keep_latest" else "delete"
    mark = None
    if step == "delete":
        asyncio.run(prune(dsn, thread, strategy, None))
        mark = mark_of(dsn)
    states, deaths = [rows(dsn)], 0
    while True:
        child = os.fork()
        if not child:
            die_around(deaths + 1)
            done = asyncio.run(prune(dsn, thread, strategy, mark))
            os._exit(BUSY if done.refusal is Refusal.LOCKED else 0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BUSY:
            time.sleep(0.05)  # until the server has noticed the last death
            continue
        if (found := rows(dsn)) not in states:
            states.append(found)
        if not os.WIFSIGNALED(status):
            print(json.dumps({"deaths": deaths, "states": len(states), "code": os.waitstatus_to_exitcode(status)}))
            return
        deaths += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
