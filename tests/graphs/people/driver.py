"""Plays the person: runs each flow to its question, answers, and is killed before a call of the checkpointer.

`python -m people.driver DSN PLANS`, where PLANS is a list of Plans as JSON; prints the threads as JSON. An id of theirs
is `<flow>:<variant>:<saver>:<durability>:<style>:<run>:<call>`; call 0 is a run that was not killed: it waits for its
next answer.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.pregel._task_status import read_task_statuses
from langgraph.types import Command
from psycopg.rows import dict_row

from people.flows import answer_to, compiled, given
from people.serde import SERDES

CALLS = ("put", "put_writes", "aput", "aput_writes")
NEVER = 10**9


@dataclass(frozen=True)
class Plan:
    """Which flows, through which savers, answered how; of the points at which to break off, one in `every`.

    `lanes` are savers with a durability, `styles` ways to answer: `null`, `map` (one id at a time), `all` (one map).
    """

    flows: list[str]
    lanes: list[tuple[str, str]] = field(default_factory=lambda: [("sync", "sync"), ("async", "async")])
    styles: list[str] = field(default_factory=lambda: ["null", "map"])
    serde: str = "plain"
    every: int = 1
    at_once: int = 2
    one_transaction: bool = False

    @property
    def variant(self) -> str:
        return "transaction" if self.one_transaction else self.serde


@dataclass(frozen=True)
class Talk:
    """One conversation: a thread, and the run of it that is killed before a call; runs count from 0."""

    plan: Plan
    flow: str
    lane: tuple[str, str]
    style: str
    run: int = NEVER
    call: int = 0

    @property
    def thread(self) -> str:
        run = "end" if self.run == NEVER else self.run
        return ":".join((self.flow, self.plan.variant, *self.lane, self.style, str(run), str(self.call)))

    @property
    def config(self) -> Any:
        return {"configurable": {"thread_id": self.thread}, "metadata": {"workflow": self.flow}}


def mortal(saver: Any, before: int, *, settled: bool = False) -> list[int]:
    """Have the process killed before the call of this number; gives the count of calls.

    At once, whatever becomes of the calls beside it; `settled`: when those before it have ended, and none after it.
    """
    made, ended = [0], threading.Semaphore(0)

    def watched(call: Any) -> Any:
        @wraps(call)  # LangGraph asks its signature whether it takes a task's path
        def counted(*arguments: Any, **options: Any) -> Any:
            made[0] += 1
            if made[0] > before and settled:
                threading.Event().wait()
            if made[0] == before:
                for _ in range(before - 1 if settled else 0):
                    ended.acquire(timeout=10)
                os.kill(os.getpid(), signal.SIGKILL)
            returned = call(*arguments, **options)
            ended.release()
            return returned

        return counted

    for name in CALLS:
        if name in type(saver).__dict__:
            setattr(saver, name, watched(getattr(saver, name)))
    return made


@dataclass(frozen=True)
class Asked:
    """What a thread is asking: questions by interrupt id, and whether LangGraph would take a null answer."""

    questions: dict[str, str]
    one: bool


def answered(style: str, asked: Asked) -> tuple[Any, list[str]]:
    """Give the answers of this turn, and the questions that they are for."""
    first = min(asked.questions, key=lambda one: asked.questions[one])
    if style == "null" and asked.one:
        return Command(resume=answer_to(asked.questions[first])), [asked.questions[first]]
    chosen = asked.questions if style == "all" else {first: asked.questions[first]}
    return Command(resume={one: answer_to(text) for one, text in chosen.items()}), sorted(chosen.values())


def asking(state: Any, writes: Any) -> Asked:
    """Find what is asked: a task of the functional API shows only in the writes, a subgraph's question in its state."""
    statuses = read_task_statuses(writes)
    done = {one.id for status in statuses.values() if status.finished for one in status.interrupts}
    listed = {task.id for task in state.tasks}
    open_ones = [one for status in statuses.values() for one in status.pending_interrupts]
    called = [one for task, status in statuses.items() if task not in listed for one in status.pending_interrupts]
    found = {one.id: one.value for one in called} or _shown(state)
    return Asked({one: text for one, text in found.items() if one not in done}, len({one.id for one in open_ones}) <= 1)


def _shown(state: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for task in state.tasks:
        below = _shown(task.state) if hasattr(task.state, "tasks") else {}
        found |= below or {one.id: one.value for one in task.interrupts}
    return found


def writes_of(loaded: Any) -> Any:
    return (loaded and loaded.pending_writes) or ()


@contextmanager
def sync_saver(dsn: str, plan: Plan) -> Iterator[PostgresSaver]:
    options: Any = {"autocommit": not plan.one_transaction, "row_factory": dict_row, "prepare_threshold": 0}
    with psycopg.connect(dsn, **options) as connection:
        yield PostgresSaver(connection, serde=SERDES[plan.serde])


@asynccontextmanager
async def async_saver(dsn: str, plan: Plan) -> Any:
    options: Any = {"autocommit": not plan.one_transaction, "row_factory": dict_row, "prepare_threshold": 0}
    async with await psycopg.AsyncConnection.connect(dsn, **options) as connection:
        yield AsyncPostgresSaver(connection, serde=SERDES[plan.serde])


def talk_sync(dsn: str, talk: Talk) -> list[tuple[int, list[str]]]:
    """Hold the conversation; gives for each run how many calls it made and the questions that it answered."""
    made: list[tuple[int, list[str]]] = []
    turn, said = given(talk.flow), []
    with sync_saver(dsn, talk.plan) as plain:
        while True:
            saver = PostgresSaver(plain.conn, serde=plain.serde)
            calls = mortal(saver, talk.call if len(made) == talk.run else NEVER)
            graph = compiled(talk.flow, saver)
            graph.invoke(turn, talk.config, durability=talk.lane[1])
            plain.conn.commit()
            made.append((calls[0], said))
            asked = asking(graph.get_state(talk.config, subgraphs=True), writes_of(saver.get_tuple(talk.config)))
            if not asked.questions or len(made) > talk.run:
                return made
            turn, said = answered(talk.style, asked)


async def talk_async(dsn: str, talk: Talk) -> list[tuple[int, list[str]]]:
    made: list[tuple[int, list[str]]] = []
    turn, said = given(talk.flow), []
    async with async_saver(dsn, talk.plan) as plain:
        while True:
            saver = AsyncPostgresSaver(plain.conn, serde=plain.serde)
            calls = mortal(saver, talk.call if len(made) == talk.run else NEVER)
            graph = compiled(talk.flow, saver)
            await graph.ainvoke(turn, talk.config, durability=talk.lane[1])
            await plain.conn.commit()
            made.append((calls[0], said))
            state = await graph.aget_state(talk.config, subgraphs=True)
            asked = asking(state, writes_of(await saver.aget_tuple(talk.config)))
            if not asked.questions or len(made) > talk.run:
                return made
            turn, said = answered(talk.style, asked)


def in_child(work: Callable[[], Any]) -> Any:
    """Run in a child; gives what it says, or None where it was killed before it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            status = 0
        except BaseException:  # noqa: BLE001 - nobody else can tell
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answers:
        said = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a conversation failed")
    return json.loads(said) if said else None


def held(dsn: str, talk: Talk) -> Any:
    return talk_sync(dsn, talk) if talk.lane[0] == "sync" else asyncio.run(talk_async(dsn, talk))


def every_point(dsn: str, whole: Talk) -> list[dict[str, Any]]:
    """Hold one conversation to its end, then once for each point at which it may break off."""
    runs = in_child(lambda: held(dsn, whole))
    points = [{"thread": whole.thread, "given": [one for _, said in runs for one in said], "killed": False}]
    for run, (calls, _) in enumerate(runs):
        for call in range(calls + 1):
            talk = Talk(whole.plan, whole.flow, whole.lane, whole.style, run, call)
            last = not call and run == len(runs) - 1
            if last or zlib.crc32(talk.thread.encode()) % whole.plan.every:
                continue
            ended = in_child(lambda: held(dsn, talk))  # noqa: B023 - it is called at once
            said = [one for _, answers in runs[: run + 1] for one in answers]
            points.append({"thread": talk.thread, "given": said, "killed": ended is None})
    return points


def all_points(dsn: str, plan: Plan) -> list[dict[str, Any]]:
    """Hold all conversations of a plan, several at once, each share of them in a child of its own."""
    wholes = [
        Talk(plan, flow, (lane[0], lane[1]), style)
        for flow in plan.flows
        for lane in plan.lanes
        for style in plan.styles
        if not (flow == "asynchronous" and lane[0] == "sync")
    ]
    reading, writing = os.pipe()
    for start in range(plan.at_once):
        if not os.fork():
            status = 1
            try:
                for whole in wholes[start :: plan.at_once]:
                    for point in every_point(dsn, whole):
                        os.write(writing, json.dumps(point).encode() + b"\n")  # one write: lines do not mix
                status = 0
            finally:
                os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        points = [json.loads(line) for line in told]
    failed = [status for status in (os.waitpid(-1, 0)[1] for _ in range(plan.at_once)) if status]
    if failed:
        raise SystemExit("not all conversations could be held")
    return points


if __name__ == "__main__":
    plans = [Plan(**plan) for plan in json.loads(sys.argv[2])]
    print(json.dumps([point for plan in plans for point in all_points(sys.argv[1], plan)]))
