"""What an attempt's span links to: the trace of the application's call, wherever it is kept, and the attempt before."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import psycopg
import pytest
from langgraph.graph import START, StateGraph
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from psycopg.rows import dict_row

from resumed.library.executor import AsyncWorkflowExecutor
from resumed.library.sync_executor import WorkflowExecutor
from resumed.model import Attempt, Outcome
from resumed.rows import AttemptOrigin
from resumed.store import attempts
from resumed.store.connection import Target, open_session

HEADER = f"00-{5:032x}-{6:016x}-01"
CURRENT = {"traceparent": f"00-{3:032x}-{4:016x}-01", "tracestate": "shop=1"}
SPAN = NonRecordingSpan(
    SpanContext(3, 4, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState([("shop", "1")]))
)
AT = datetime(2026, 5, 1, tzinfo=UTC)


class State(TypedDict, total=False):
    steps: list[str]


def graph() -> Any:
    return StateGraph(State).add_node("one", lambda _: {"steps": ["one"]}).add_edge(START, "one").compile()


def rows(dsn: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


async def test_a_run_keeps_the_trace_that_its_call_names_else_the_current_one(database: str) -> None:
    calls: dict[str, Any] = {
        "current": {},
        "named": {"configurable": {"traceparent": HEADER, "baggage": "a=1"}},
        "odd": {"metadata": {"traceparent": "a\0b", "tracestate": "x" * 600}},
        "other": {"metadata": {"traceparent": 5}},
    }
    async with AsyncWorkflowExecutor(database) as executor:
        with trace.use_span(SPAN):
            for thread, config in calls.items():
                await executor.run("orders", graph(), {"steps": []}, thread_id=thread, config=config)
            await executor.submit("orders", {"steps": []}, thread_id="submitted")
        await executor.run("orders", graph(), {"steps": []}, thread_id="untraced")
    on_record = {row["thread_id"]: row["call"] for row in rows(database, "select thread_id, call from resumed.runs")}
    for call in on_record.values():
        call.pop("__options")
    same = dict.fromkeys(("current", "odd", "submitted"), CURRENT)
    assert on_record.pop("other") == {**CURRENT}
    assert on_record == {**same, "named": {"traceparent": HEADER}, "untraced": {}}
    saved = rows(
        database, "select distinct thread_id, metadata ->> 'traceparent' as header from checkpoints order by 1"
    )
    assert saved == [
        {"thread_id": "current", "header": CURRENT["traceparent"]},
        {"thread_id": "named", "header": HEADER},
        {"thread_id": "odd", "header": CURRENT["traceparent"]},
        {"thread_id": "other", "header": CURRENT["traceparent"]},
        {"thread_id": "untraced", "header": None},
    ]


def test_a_synchronous_run_is_begun_in_its_callers_span(database: str) -> None:
    with WorkflowExecutor(database) as executor, trace.use_span(SPAN):
        executor.run("orders", graph(), {"steps": []}, thread_id="current")
    (run,) = rows(database, "select call from resumed.runs")
    assert {name: run["call"][name] for name in CURRENT} == CURRENT


def attempt(number: int, before: str, after: str | None) -> Attempt:
    return Attempt(
        "t", number, "orders", "", "host-1-0", AT + timedelta(minutes=number), AT, Outcome.CRASHED,
        after != before, before, after, None, None, None,
    )  # fmt: skip


async def test_an_attempt_links_to_what_it_went_on_with(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for number, head in ((1, ""), (2, "a"), (3, "b")):
            connection.execute(
                "insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, "
                "outcome, before) values ('t', %s, 'orders', '', 'host', %s, now(), 'crashed', %s)",
                [number, AT + timedelta(minutes=number), head],
            )
        for head, kept in (
            ("a", {"traceparent": "of the call before"}),
            ("b", {"attempt": 2, "traceparent": "of the run", "tracestate": "s" * 600}),
            ("c", {"attempt": 3}),
        ):
            connection.execute(
                "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata) "
                "values ('t', '', %s, '{}', %s)",
                [head, json.dumps(kept)],
            )
    first, second, third = attempt(1, "", None), attempt(2, "a", "b"), attempt(3, "b", "b")
    async with open_session(Target(database)) as session:
        found = await attempts.origins(session, [first, second, third, replace(third, attempt=9, thread_id="gone")])
        assert found == {
            ("t", 1): AttemptOrigin(),
            ("t", 2): AttemptOrigin("of the run", "s" * 512, AT + timedelta(minutes=1)),
            ("t", 3): AttemptOrigin("of the run", "s" * 512, AT + timedelta(minutes=2)),
            ("gone", 9): AttemptOrigin(),
        }
        # What the attempt itself saved repeats the trace of its run, or that it has none.
        assert (await attempts.origins(session, [replace(third, after="c")]))["t", 3].traceparent is None
        # A run whose input was still to be applied: the checkpoint before it is an earlier call's.
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "insert into resumed.runs (run_id, thread_id, workflow, state, head_before, call, owner) "
                "values ('r', 't', 'orders', 'taken', 'a', %s, 'host')",
                [json.dumps({"traceparent": HEADER})],
            )
        assert (await attempts.origins(session, [replace(second, after="a")]))["t", 2].traceparent == HEADER
        assert await attempts.origins(session, []) == {}


async def test_a_span_of_an_unknown_kind_harms_no_run(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_current_span", object)
    async with AsyncWorkflowExecutor(database) as executor:
        await executor.run("orders", graph(), {"steps": []}, thread_id="t")
    (run,) = rows(database, "select call from resumed.runs")
    assert "traceparent" not in run["call"]
