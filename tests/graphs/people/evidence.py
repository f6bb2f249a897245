"""What the database truly holds, read without a word of the product: answers, questions, states, every row."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg.rows import dict_row

from people.driver import Asked, answered, asking, writes_of
from people.flows import ARROW, FLOWS, answer_to, compiled, given

NULL_TASK = "00000000-0000-0000-0000-000000000000"
MANY = 30
# A write may be stored whose checkpoint was not: nobody will ever read it.
REACHABLE = """
    select * from checkpoint_writes w where exists (
        select from checkpoints c
        where (c.thread_id, c.checkpoint_ns, c.checkpoint_id) = (w.thread_id, w.checkpoint_ns, w.checkpoint_id)
    )
"""
# What a run can go on from: of a subgraph only what ran below a root checkpoint that was not lost.
FOUND_AGAIN = """
    with found as (
        select * from checkpoints c where checkpoint_ns = '' or exists (
            select from checkpoints root where (root.thread_id, root.checkpoint_ns) = (c.thread_id, '')
            and root.checkpoint_id = c.metadata -> 'parents' ->> ''
        )
    )
    select thread_id, blob from checkpoint_writes
    join found using (thread_id, checkpoint_ns, checkpoint_id)
    union all
    select b.thread_id, b.blob from checkpoint_blobs b where exists (
        select from found c where (c.thread_id, c.checkpoint_ns) = (b.thread_id, b.checkpoint_ns)
        and c.checkpoint -> 'channel_versions' ->> b.channel = b.version
    )
    union all
    select thread_id, convert_to(checkpoint::text, 'UTF8') from found
"""
# The last answer of a task that has finished without any output is in no row, but the task has taken it.
TAKEN_QUIETLY = """
    select asked.thread_id, asked.type, asked.blob from checkpoint_writes asked
    join checkpoint_writes done using (thread_id, checkpoint_ns, checkpoint_id, task_id)
    where asked.channel = '__interrupt__' and done.channel = '__no_writes__'
"""
TABLES = {
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint::text, metadata::text",
    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, xmin::text",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
}


def flow_of(thread: str) -> str:
    return thread.partition(":")[0]


def rows(dsn: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


def fingerprints(dsn: str) -> dict[str, str]:
    """Give a digest of all rows of each thread, with the transactions that wrote its writes."""
    digests: dict[str, Any] = {}
    for table, columns in TABLES.items():
        query = f"select thread_id, t::text as line from (select thread_id, {columns} from {table}) t order by 1, 2"
        for row in rows(dsn, query):
            digests.setdefault(row["thread_id"], hashlib.sha256()).update(row["line"].encode())
    return {thread: digest.hexdigest() for thread, digest in digests.items()}


def texts(dsn: str) -> dict[str, bytes]:
    """Give all that is stored of each thread, as bytes to search in."""
    found: dict[str, bytes] = {}
    for query in (f"select thread_id, blob from ({REACHABLE}) w", "select thread_id, blob from checkpoint_blobs"):
        for row in rows(dsn, query):
            found[row["thread_id"]] = found.get(row["thread_id"], b"") + b"\n" + bytes(row["blob"] or b"")
    for row in rows(dsn, "select thread_id, checkpoint::text as said from checkpoints"):
        found[row["thread_id"]] = found.get(row["thread_id"], b"") + b"\n" + row["said"].encode()
    for row in rows(dsn, TAKEN_QUIETLY):
        said = [answer_to(one.value) for one in JsonPlusSerializer().loads_typed((row["type"], row["blob"]))]
        found[row["thread_id"]] += "\n".join(said).encode()
    return found


def found_again(dsn: str) -> dict[str, bytes]:
    """Give what is stored of each thread and will be read by a run that goes on with it."""
    found: dict[str, bytes] = {}
    for row in rows(dsn, FOUND_AGAIN):
        found[row["thread_id"]] = found.get(row["thread_id"], b"") + b"\n" + bytes(row["blob"] or b"")
    return found


def asked(dsn: str) -> dict[str, set[str]]:
    """Give the stored questions that a person can answer: those whose id LangGraph shows at the root."""
    found: dict[str, set[str]] = {}
    serde, shown = JsonPlusSerializer(), _shown(dsn)
    for row in rows(dsn, f"select thread_id, type, blob from ({REACHABLE}) w where channel = '__interrupt__'"):
        thread, value = row["thread_id"], serde.loads_typed((row["type"], row["blob"]))
        found.setdefault(thread, set()).update(one.value for one in value if one.id in shown[thread])
    return found


def _shown(dsn: str) -> dict[str, set[str]]:
    """Give the ids of the questions that a look at each thread's state tells."""
    with PostgresSaver.from_conn_string(dsn) as saver:
        graphs = {name: compiled(name, saver) for name in FLOWS}
        threads = [row["thread_id"] for row in rows(dsn, "select distinct thread_id from checkpoints")]
        return {one: {asked.id for asked in graphs[flow_of(one)].get_state(_of(one)).interrupts} for one in threads}


def _of(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def ahead(dsn: str) -> set[str]:
    """Name the threads in which a subgraph that keeps its state has saved more than its parent."""
    query = """
        select distinct thread_id from checkpoints child where checkpoint_ns = 'inner' and not exists (
            select from checkpoints parent where parent.thread_id = child.thread_id and parent.checkpoint_ns = ''
            and parent.checkpoint_id = child.metadata -> 'parents' ->> ''
        )
    """
    return {row["thread_id"] for row in rows(dsn, query)}


def heads(dsn: str) -> dict[str, tuple[object, ...]]:
    """Tell of each thread at which step its newest root checkpoint was saved, by what, and what that has updated."""
    query = """
        select distinct on (thread_id) thread_id, metadata -> 'step' as step, metadata -> 'source' as source,
            (checkpoint -> 'updated_channels')::text as updated
        from checkpoints where checkpoint_ns = '' order by thread_id, checkpoint_id desc
    """
    return {row["thread_id"]: (row["step"], row["source"], row["updated"]) for row in rows(dsn, query)}


def stored(said: bytes, question: str) -> bool:
    """Say whether the answer to a question is anywhere among a thread's rows."""
    return answer_to(question).encode() in said


def forged(said: Any) -> list[str]:
    """Name what a state tells of questions that got an answer which was not theirs."""
    if isinstance(said, dict):
        return [one for value in said.values() for one in forged(value)]
    if isinstance(said, list | tuple):
        return [one for value in said for one in forged(value)]
    if not isinstance(said, str) or ARROW not in said:
        return []
    question, _, answer = said.partition(ARROW)
    return [] if answer == answer_to(question) else [said]


def misplaced(dsn: str) -> list[str]:
    """Name the tasks whose stored answers are not, in their order, those to one node's own questions."""
    serde = JsonPlusSerializer()
    query = (
        f"select thread_id, type, blob from checkpoint_writes where channel = '__resume__' and task_id <> '{NULL_TASK}'"
    )
    wrong = []
    for row in rows(dsn, query):
        answers = serde.loads_typed((row["type"], row["blob"]))
        node = str(answers[0]).removeprefix(answer_to("")).partition(".")[0] if answers else ""
        if answers != [answer_to(f"{node}.{number}") for number in range(len(answers))]:
            wrong.append(f"{row['thread_id']}: {answers}")
    return wrong


def states(dsn: str, threads: list[str]) -> dict[str, Any]:
    with PostgresSaver.from_conn_string(dsn) as saver:
        graphs = {name: compiled(name, saver) for name in FLOWS}
        return {
            thread: graphs[flow_of(thread)].get_state({"configurable": {"thread_id": thread}}).values
            for thread in threads
        }


def effects(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def answer_all(dsn: str, threads: list[str], known: dict[str, set[str]]) -> dict[str, str]:
    """The person comes back and answers all that is asked but what is `known`; says how that ended."""
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        return {thread: await answer(saver, thread, known.get(thread, set())) for thread in threads}


async def undisturbed() -> dict[str, Any]:
    """Hold every conversation in memory, where nothing dies."""
    found = {}
    for name in FLOWS:
        saver = InMemorySaver()
        thread = f"{name}:memory"
        await compiled(name, saver).ainvoke(given(name), {"configurable": {"thread_id": thread}})
        await answer(saver, thread, set())
        found[name] = compiled(name, saver).get_state({"configurable": {"thread_id": thread}}).values
    return found


async def answer(saver: Any, thread: str, known: set[str]) -> str:
    """Answer by id where LangGraph has no null row to give away, else by a null answer, which replaces it.

    Where it has one and takes no null answer, it would itself give the old one to the next question (langgraph issue
    8837): the person stops there, `exposed`. Of several questions the one that was answered least often comes first:
    LangGraph keeps an answer by id only where its task is begun again, which may wait for another question's task.
    """
    graph = compiled(flow_of(thread), saver)
    config: Any = {"configurable": {"thread_id": thread}, "metadata": {"workflow": flow_of(thread)}}
    told: Counter[str] = Counter()
    for _ in range(MANY):
        state, writes = await graph.aget_state(config, subgraphs=True), writes_of(await saver.aget_tuple(config))
        asked_now = asking(state, writes)
        if not asked_now.questions:
            return "done"
        # What a subgraph's node has taken, its parent's task may still show.
        left = {one: text for one, text in asked_now.questions.items() if text not in known}
        if not left:
            return "asks again"
        old = any(task == NULL_TASK and channel == "__resume__" for task, channel, _ in writes)
        alone = asked_now.one and len(state.tasks) == 1
        if old and not alone:
            return "exposed"
        fewest = min(told[text] for text in left.values())
        next_ones = {one: text for one, text in left.items() if told[text] == fewest}
        turn, said = answered("null" if old else "map", Asked(next_ones, alone))
        told.update(said)
        await graph.ainvoke(turn, config)
    return "asks for ever"
