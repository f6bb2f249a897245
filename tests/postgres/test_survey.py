"""What a survey finds on a database that only LangGraph has been in, by a role that may only read."""

import operator
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from psycopg import conninfo

from resumed.errors import DatabaseUnusableError
from resumed.operations import survey as operation
from resumed.operations.survey import By, Progress, Question, survey
from resumed.store.connection import Target

QUESTION = Question(timedelta(days=90), By.PREFIX, timedelta(0))


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def refused(_: State) -> State:
    raise ConnectionError("password=hunter2")


def killed(_: State) -> State:
    raise KeyboardInterrupt


def asked(_: State) -> State:
    return {"log": [interrupt("secret question")]}


def built(saver: Any, last: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("one", lambda _: {"log": ["one"]})
    graph.add_node("pay", last)
    graph.add_edge(START, "one")
    graph.add_edge("one", "pay")
    graph.add_edge("pay", END)
    return graph.compile(checkpointer=saver)


def run(graph: Any, thread: str, **metadata: str) -> None:
    try:
        graph.invoke({"log": []}, {"configurable": {"thread_id": thread}, "metadata": metadata})
    except (ConnectionError, KeyboardInterrupt):
        return


@pytest.fixture
def dead(langgraph_database: str) -> str:
    """Threads of two prefixes that finished, stopped, failed, wait, and one that a person edited."""
    with PostgresSaver.from_conn_string(langgraph_database) as saver:
        for number in range(3):
            run(built(saver, lambda _: {"log": ["pay"]}), f"orders_{number}", workflow="shop")
        run(built(saver, killed), "orders_3", workflow="shop")
        run(built(saver, refused), "orders_4", workflow="shop")
        run(built(saver, asked), "chat-1")
        edited = built(saver, killed)
        run(edited, "chat-2")
        edited.update_state({"configurable": {"thread_id": "chat-2"}}, {"log": ["edited"]})
    return langgraph_database


@pytest.fixture
def reader(dead: str) -> Iterator[str]:
    """A role with SELECT on LangGraph's tables and nothing else."""
    with psycopg.connect(dead, autocommit=True) as connection:
        role = f"onlooker_{uuid.uuid4().hex[:8]}"
        connection.execute(f"create role {role} login")
        connection.execute(f"grant select on checkpoints, checkpoint_writes, checkpoint_blobs to {role}")
        yield conninfo.make_conninfo(dead, user=role)
        connection.execute(f"drop owned by {role}")
        connection.execute(f"drop role {role}")


async def fields(dsn: str, question: Question = QUESTION) -> dict[str, Any]:
    return (await survey(Target(dsn), question)).as_fields()


async def test_a_role_that_may_only_select_sees_what_lies_dead_and_where_it_stopped(reader: str) -> None:
    told = await fields(reader)
    orders, chat = told["groups"]
    counts = ("threads", "finished", "stopped", "failed", "waiting", "undecidable", "recent")
    assert (orders["group"], *(orders[one] for one in counts)) == ("orders", 5, 3, 1, 1, 0, 0, 0)
    assert (chat["group"], *(chat[one] for one in counts)) == ("chat", 2, 0, 0, 0, 1, 1, 0)
    assert orders["stopped_at"] == {"pay": 2}
    assert orders["errors"] == {"ConnectionError": 1}
    assert chat["stopped_at"] == {"pay": 1}
    assert orders["oldest"] < orders["newest"]
    assert orders["longest_step_s"] >= 0
    assert set(told["tables"]) == {"checkpoints", "checkpoint_blobs", "checkpoint_writes"}
    assert all(one["bytes"] > 0 for one in told["tables"].values())
    assert told["sampled"] is False
    assert "hunter2" not in str(told)
    assert "secret" not in str(told)


async def test_it_groups_by_the_workflow_that_metadata_names(dead: str) -> None:
    told = await fields(dead, Question(timedelta(days=90), By.WORKFLOW, timedelta(0)))
    assert {one["group"]: one["threads"] for one in told["groups"]} == {"shop": 5, "(none)": 2}


async def test_a_thread_that_saved_within_min_age_may_simply_be_running(dead: str) -> None:
    told = await fields(dead, Question(timedelta(days=90), By.PREFIX, timedelta(hours=1)))
    orders = next(one for one in told["groups"] if one["group"] == "orders")
    assert (orders["finished"], orders["recent"], orders["stopped"], orders["failed"]) == (3, 2, 0, 0)


async def test_threads_that_last_saved_before_since_are_left_out_and_counted(dead: str) -> None:
    found = await survey(Target(dead), Question(timedelta(0), By.PREFIX, timedelta(0)))
    assert found.groups == {}
    assert found.older == 7


async def test_it_writes_nothing_and_needs_no_index_and_no_schema_of_ours(dead: str) -> None:
    with psycopg.connect(dead, autocommit=True) as connection:
        count = "select relname, pg_relation_size(oid) from pg_class where relname like 'checkpoint%' order by relname"
        before = connection.execute(count).fetchall()
        assert connection.execute("select to_regnamespace('resumed')").fetchone() == (None,)
        assert (await fields(dead))["groups"]
        assert connection.execute(count).fetchall() == before


async def test_without_langgraphs_tables_it_says_so(bare_database: str) -> None:
    with pytest.raises(DatabaseUnusableError, match="RESUMED_CHECKPOINT_SCHEMA"):
        await fields(bare_database)


async def test_beyond_a_bound_it_reads_a_sample_and_scales_it_up(
    langgraph_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(langgraph_database, autocommit=True) as connection:
        connection.execute(
            """
            insert into checkpoints
                (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
            select 'jobs_' || t, '', s || '-' || lpad(t::text, 9, '0'), case when s > 0 then 'x' end,
                jsonb_build_object('v', 4, 'updated_channels', case when t % 4 = 0 then '["branch:to:pay"]'::jsonb
                    else '[]'::jsonb end, 'pad', repeat('x', 300)), '{"source": "loop"}'
            from generate_series(1, 20000) t, generate_series(0, 3) s
            """
        )
        connection.execute("analyze checkpoints")
    monkeypatch.setattr(operation, "MOST_THREADS", 5000)
    monkeypatch.setattr(operation, "_SAMPLE", 4000)
    told: list[Progress] = []
    found = await survey(Target(langgraph_database), QUESTION, told.append)
    fields = found.as_fields()
    (jobs,) = fields["groups"]
    assert 0.1 < fields["sampled"] < 0.3
    assert 1000 < found.read < 8000
    assert jobs["threads"] == pytest.approx(20000, rel=0.3)
    assert jobs["stopped"] == pytest.approx(5000, rel=0.4)
    assert jobs["stopped_at"]["pay"] == jobs["stopped"]
    assert "sample" in told[0].forecast


async def test_where_statistics_say_too_little_it_turns_to_a_sample_by_itself(
    langgraph_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(langgraph_database, autocommit=True) as connection:
        connection.execute("alter table checkpoints set (autovacuum_enabled = false)")
        connection.execute(
            """
            insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
            select 'jobs_' || t, '', 'id', '{"updated_channels": []}', '{}' from generate_series(1, 9000) t
            """
        )
    monkeypatch.setattr(operation, "MOST_THREADS", 3000)
    monkeypatch.setattr(operation, "_SAMPLE", 2000)
    found = await survey(Target(langgraph_database), QUESTION)
    assert found.fraction < 1
    assert found.read < 9000


async def test_it_ends_with_its_time(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "_TIME_LIMIT", timedelta(seconds=-1))
    began = time.monotonic()
    assert (await survey(Target(dead), QUESTION)).fraction == 1.0
    assert time.monotonic() - began < 60
