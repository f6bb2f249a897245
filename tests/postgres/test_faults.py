"""What the database refuses in the middle of a thread: whose fault it is, what is recorded, what goes on after."""

import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from resumed import AsyncWorkflowExecutor
from resumed.model import Attempt, Outcome
from resumed.store import connection as connecting
from resumed.store.connection import Target, is_alive, is_usable, open_session
from resumed.store.database_errors import ErrorKind, explain, kind_of
from support.attempting import Place, place_at, workflow_of

DIED = {"now": True}
REFUSING = """
create function refuse() returns trigger language plpgsql as $$
begin
    if {where} then
        raise exception 'the server says no' using errcode = '{code}';
    end if;
    return new;
end $$;
create sequence refusals;
create trigger refusing before insert on {table} for each row execute function refuse();
"""


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    text: str


def graph_of(value: Any) -> Any:
    """Two nodes; the application dies in the second, which returns the value when it is resumed."""

    async def second(_: State) -> dict[str, Any]:
        if DIED["now"]:
            raise ConnectionError
        return {"log": ["second"], "text": value}

    builder = StateGraph(State)
    builder.add_node("first", lambda _: {"log": ["first"]})
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder.compile()


@asynccontextmanager
async def died_in(dsn: str, graph: Any, *statements: str) -> AsyncIterator[Place]:
    """A thread `t` that an application has left in its second node, and then what was done to the database."""
    DIED["now"] = True
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        with pytest.raises(ConnectionError):
            await graph.copy(update={"checkpointer": saver}).ainvoke(
                {"log": []}, {"configurable": {"thread_id": "t"}}, durability="sync"
            )
    DIED["now"] = False
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    async with place_at(dsn) as place:
        yield place


async def tried(place: Place, graph: Any) -> Attempt:
    assert await place.attempt(workflow_of("w", graph), "t") == "tried"
    return (await place.attempts("t"))[-1]


def refusing(table: str, code: str, where: str = "true") -> str:
    return REFUSING.format(table=table, code=code, where=where)


VALUES = [
    pytest.param("a\0b", "UntranslatableCharacter", id="NUL"),
    pytest.param(float("nan"), "InvalidTextRepresentation", id="NaN"),
    pytest.param(float("inf"), "InvalidTextRepresentation", id="infinity"),
    pytest.param("\ud800", None, id="a lone surrogate"),
]


@pytest.mark.parametrize(("value", "error_type"), VALUES)
async def test_a_value_that_postgres_refuses_is_the_threads_failure(
    database: str, value: Any, error_type: str | None
) -> None:
    graph = graph_of(value)
    async with died_in(database, graph) as place:
        attempt = await tried(place, graph)
    assert attempt.outcome is Outcome.FAILED
    assert attempt.finished_at is not None
    assert error_type in (None, attempt.error_type)
    assert attempt.error
    assert "\n" not in attempt.error


@pytest.mark.parametrize("table", ["checkpoints", "checkpoint_writes", "checkpoint_blobs"])
@pytest.mark.parametrize("code", ["22023", "23514", "42704", "42501", "0A000", "P0001", "54000"])
async def test_a_refused_save_is_the_threads_failure_whatever_it_saves(database: str, table: str, code: str) -> None:
    graph = graph_of("x")
    async with died_in(database, graph, refusing(table, code)) as place:
        attempt = await tried(place, graph)
    assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "the server says no")


@pytest.mark.parametrize("table", ["checkpoints", "checkpoint_writes", "checkpoint_blobs"])
@pytest.mark.parametrize("code", ["53100", "53200", "57014", "55P03", "58030", "25006"])
async def test_what_the_server_lacks_is_nobodys_fault_and_on_record(database: str, table: str, code: str) -> None:
    graph = graph_of("x")
    async with died_in(database, graph, refusing(table, code)) as place:
        attempt = await tried(place, graph)
        charged = await _charged(database)
    assert (attempt.outcome, attempt.error, charged) == (Outcome.LOCK_LOST, "the server says no", False)
    assert attempt.error_type


async def _charged(dsn: str) -> bool:
    async with open_session(Target(dsn)) as session:
        row = await (await session.execute("select charged from resumed.attempts order by attempt desc")).fetchone()
    assert row is not None
    return bool(row["charged"])


@pytest.mark.parametrize("table", ["checkpoints", "checkpoint_writes", "checkpoint_blobs"])
@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_conflict_is_tried_again_and_the_node_runs_once(database: str, table: str, code: str) -> None:
    graph = graph_of("x")
    async with died_in(database, graph, refusing(table, code, "nextval('refusals') <= 3")) as place:
        attempt = await tried(place, graph)
        assert len(await place.attempts("t")) == 1
    assert attempt.outcome is Outcome.FINISHED


async def test_a_conflict_without_end_is_nobodys_fault(database: str) -> None:
    graph = graph_of("x")
    async with died_in(database, graph, refusing("checkpoints", "40001")) as place:
        attempt = await tried(place, graph)
    assert (attempt.outcome, attempt.error_type) == (Outcome.LOCK_LOST, "SerializationFailure")


async def test_a_lost_session_has_nothing_to_say(database: str) -> None:
    kill = "perform pg_terminate_backend(pg_backend_pid())"
    statement = refusing("checkpoints", "40001").replace(
        "raise exception 'the server says no' using errcode = '40001'", kill
    )
    graph = graph_of("x")
    async with died_in(database, graph, statement) as place:
        attempt = await tried(place, graph)
    assert (attempt.outcome, attempt.error_type, attempt.error) == (Outcome.LOCK_LOST, None, None)


@pytest.mark.parametrize("column", ["channel", "type"])
async def test_a_thread_that_cannot_be_read_is_incompatible(database: str, column: str) -> None:
    graph = graph_of("x")
    spoilt = f"update checkpoint_writes set {column} = '\\9'"
    async with died_in(database, graph, "update checkpoint_writes set task_path = ''", spoilt) as place:
        judged = await place.inspect(workflow_of("w", graph), "t")
    assert judged is not None
    assert (judged.verdict.value, "InvalidTextRepresentation" in judged.reason) == ("incompatible", True)


async def test_a_refused_question_is_the_threads_failure(database: str) -> None:
    def ask(_: State) -> dict[str, Any]:
        return {"log": [interrupt({"nul": "\0"})]}

    builder = StateGraph(State)
    builder.add_node("first", lambda _: {"log": ["first"]})
    builder.add_node("second", ask)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    graph = builder.compile()
    half = graph_of("x")
    refused = refusing("checkpoint_writes", "23514", "new.channel = '__interrupt__'")
    async with died_in(database, half, refused) as place:
        attempt = await tried(place, graph)
    assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "the server says no")


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_an_executors_save_is_made_again_after_a_conflict(database: str, code: str) -> None:
    DIED["now"] = False
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(refusing("checkpoints", code, "nextval('refusals') <= 3").encode())
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        result = await executor.run("w", graph_of("x"), {"log": []}, thread_id="t")
    assert result["log"] == ["first", "second"]


async def test_an_executors_caller_is_told_what_is_refused_and_the_next_run_goes_on(database: str) -> None:
    DIED["now"] = False
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        for value in ("a\0b", float("nan")):
            with pytest.raises(psycopg.DataError):
                await executor.run("w", graph_of(value), {"log": []}, thread_id=f"bad-{value}".replace("\0", ""))
        result = await executor.run("w", graph_of("x"), {"log": []}, thread_id="good")
    assert result["text"] == "x"
    async with open_session(Target(database)) as session:
        rows = await (await session.execute("select state, count(*) as n from resumed.runs group by 1")).fetchall()
    assert {row["state"]: row["n"] for row in rows} == {"failed": 2, "finished": 1}


async def test_a_run_whose_end_cannot_be_written_gives_its_lock_back(database: str) -> None:
    DIED["now"] = False
    refused = refusing("resumed.runs", "53100").replace("before insert", "before update")
    async with AsyncWorkflowExecutor(database, sessions=1) as executor:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(refused.encode())
        await executor.run("w", graph_of("x"), {"log": []}, thread_id="t")
        async with open_session(Target(database)) as session:
            held = "select count(*) as n from pg_locks where locktype = 'advisory' and database = (select oid from"
            row = await (
                await session.execute(f"{held} pg_database where datname = current_database())".encode())
            ).fetchone()
    assert row == {"n": 0}


async def test_a_server_that_does_not_answer_is_not_waited_for_without_limit(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_session(Target(database), silence=connecting.SILENCE_LIMIT) as session:
        monkeypatch.setattr(type(session), "silence", connecting.SILENCE_LIMIT / 300)
        del session.__dict__["silence"]
        async with open_session(Target(database)) as other:
            pid = session.info.backend_pid
            with pytest.raises(psycopg.OperationalError, match="has not answered") as caught:
                await session.execute("select pg_sleep(30)")
            await other.execute("select pg_terminate_backend(%s)", [pid])
    assert kind_of(caught.value) is ErrorKind.UNREACHABLE
    assert not is_alive(session)


async def test_a_session_left_inside_of_a_transaction_is_closed_and_not_used(database: str) -> None:
    async with open_session(Target(database)) as session:
        assert await is_usable(session)
        await session.execute("begin")
        assert not await is_usable(session)
        assert not is_alive(session)


def _error(code: str) -> psycopg.Error:
    return psycopg.errors.lookup(code)("Erste Zeile auf Deutsch\nDETAIL:  geheim")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("08006", ErrorKind.UNREACHABLE),
        ("57P01", ErrorKind.UNREACHABLE),
        ("57P03", ErrorKind.UNREACHABLE),
        ("57014", ErrorKind.BUSY),
        ("55P03", ErrorKind.BUSY),
        ("40001", ErrorKind.CONFLICT),
        ("40P01", ErrorKind.CONFLICT),
        ("53300", ErrorKind.RESOURCES),
        ("25006", ErrorKind.READ_ONLY),
        ("28P01", ErrorKind.REFUSED),
        ("3D000", ErrorKind.REFUSED),
        ("42501", ErrorKind.REFUSED),
        ("42P01", ErrorKind.MISSING),
        ("42703", ErrorKind.MISSING),
        ("22P05", ErrorKind.REJECTED),
        ("23514", ErrorKind.REJECTED),
        ("XX000", ErrorKind.OTHER),
    ],
)
def test_an_error_is_sorted_by_its_sqlstate_in_any_language(code: str, fault: ErrorKind) -> None:
    assert kind_of(_error(code)) is fault
    sentence = str(explain(_error(code)))
    assert "Erste Zeile" in sentence
    assert "geheim" not in sentence
    assert "; " in sentence
