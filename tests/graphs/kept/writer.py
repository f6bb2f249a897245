"""An application at work on threads that are pruned meanwhile, until SIGTERM.

`python -m kept.writer DSN HOW BEGUN THREAD…`: HOW is `locked` (through the executor), `unlocked` (as plain LangGraph
does) or `vanishing` (deletes its threads and makes them anew). After each turn the thread is made old again, and the
file BEGUN is touched. It ends with 1, and a line that says why, where a turn did not find what the one before had
left; a thread that a policy deletes may begin anew, whole.
"""

import random
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver

from kept.graphs import built
from kept.threads import config, make
from resumed import PostgresLockManager, WorkflowAlreadyRunningError, WorkflowExecutor

STOP: list[bool] = []


def _stop(_: int, __: FrameType | None) -> None:
    STOP.append(True)


def age(connection: psycopg.Connection[Any], thread: str) -> None:
    while True:
        try:
            connection.execute("select make_older(%s, '2 days')", [thread])
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            continue
        else:
            return Path(sys.argv[3]).touch()


def check(thread: str, before: dict[str, Any], after: dict[str, Any], turn: int) -> None:
    whole = after.get("total") == len(after.get("turns", ())) and bool(after.get("note"))
    goes_on = after.get("turns") == [*before.get("turns", ()), turn]
    goes_on = goes_on and after.get("profile") == before.get("profile", after.get("profile"))
    anew = thread.startswith("gone") and after.get("turns") == [turn]
    begun = after["turns"][0] == after["profile"]["began"] if after.get("profile") else False
    if not (whole and begun and (goes_on or anew)):
        print(f"{thread}: turn {turn} made of {before} this: {after}", flush=True)
        sys.exit(1)


def locked(dsn: str, threads: list[str], connection: psycopg.Connection[Any]) -> int:
    turn = 1000
    locks = PostgresLockManager(dsn)
    with WorkflowExecutor(dsn) as executor:
        graph = built("locked").compile(checkpointer=executor.checkpointer)
        while not STOP:
            thread, turn = random.choice(threads), turn + 1
            before = graph.get_state(config(thread)).values
            try:
                executor.run(thread.rpartition("_")[0], graph, {"turn": turn}, thread_id=thread)
            except WorkflowAlreadyRunningError:
                continue
            check(thread, before, graph.get_state(config(thread)).values, turn)
            with locks.acquire_workflow_lock(f"resume_{thread}", timeout_seconds=20) as held:
                if held:
                    age(connection, thread)
    return turn - 1000


def unlocked(saver: PostgresSaver, threads: list[str], connection: psycopg.Connection[Any]) -> int:
    turn = 1000
    graph = built("unlocked").compile(checkpointer=saver)
    while not STOP:
        thread, turn = random.choice(threads), turn + 1
        before = graph.get_state(config(thread)).values
        durability: Any = random.choice(["sync", "async", "exit"])
        graph.invoke({"turn": turn}, config(thread), durability=durability)
        check(thread, before, graph.get_state(config(thread)).values, turn)
        age(connection, thread)
    return turn - 1000


def vanishing(saver: PostgresSaver, threads: list[str], connection: psycopg.Connection[Any]) -> int:
    deleted = 0
    while not STOP:
        thread = random.choice(threads)
        saver.delete_thread(thread)
        make(saver, thread)
        age(connection, thread)
        deleted += 1
    return deleted


def main(dsn: str, how: str, threads: list[str]) -> None:
    signal.signal(signal.SIGTERM, _stop)
    with PostgresSaver.from_conn_string(dsn) as saver, psycopg.connect(dsn, autocommit=True) as connection:
        if how == "locked":
            done = locked(dsn, threads, connection)
        else:
            done = (unlocked if how == "unlocked" else vanishing)(saver, threads, connection)
    print(f"done {done}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[4:])
