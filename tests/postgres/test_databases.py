"""Databases that are set up otherwise: with every one of them a thread is finished, or one sentence says why not."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.shallow import ShallowPostgresSaver
from psycopg import conninfo, sql

from postgres.test_faults import died_in, graph_of
from resumed import AsyncWorkflowExecutor, CheckpointerManager, PostgresLockManager, find_failed_workflows, needs_resume
from resumed.daemon.sweep import run_sweep
from resumed.errors import DatabaseUnusableError
from resumed.model import Outcome
from resumed.operations.assess import SweepRules
from resumed.store import attempts, cases, checkpoints, schema, statistics
from resumed.store.connection import Session, Target, open_session
from resumed.store.lock_selftest import run_lock_selftest
from support.attempting import NUMBERS, workflow_of
from support.databases import in_database

RULES = SweepRules(NUMBERS, "w", timedelta(minutes=15))
DEFAULTS = [
    {"datestyle": "SQL, DMY"},
    {"datestyle": "German, DMY"},
    {"datestyle": "Postgres, MDY", "intervalstyle": "postgres_verbose"},
    {"datestyle": "ISO, YMD", "intervalstyle": "iso_8601"},
    {"intervalstyle": "sql_standard"},
    {"datestyle": "SQL, MDY", "intervalstyle": "iso_8601", "timezone": "Asia/Kathmandu"},
    {"default_transaction_isolation": "repeatable read"},
    {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    {"client_encoding": "LATIN1"},
    {"client_encoding": "SQL_ASCII"},
    {"client_encoding": "EUC_TW"},
    {"bytea_output": "escape", "extra_float_digits": "-15"},
    {"standard_conforming_strings": "off", "backslash_quote": "off"},
    {"row_security": "off"},
    {"array_nulls": "off", "transform_null_equals": "on", "quote_all_identifiers": "on"},
    {"statement_timeout": "2ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms"},
    {"search_path": "nowhere"},
    {"jit": "on", "jit_above_cost": "0", "plan_cache_mode": "force_generic_plan"},
]


@contextmanager
def made(server_dsn: str, definition: str) -> Iterator[str]:
    """A database of its own encoding, with LangGraph's tables and ours."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        create = sql.SQL("create database {} template template0 " + definition).format(sql.Identifier(name))  # type: ignore[arg-type]
        connection.execute(create)
        try:
            yield in_database(server_dsn, name)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def settle(dsn: str, defaults: dict[str, str]) -> None:
    """Give a database defaults of its own."""
    name = conninfo.conninfo_to_dict(dsn)["dbname"]
    execute(
        dsn,
        *(
            f"alter database {name} set {key} = {value if ',' in value else repr(value)}"
            for key, value in defaults.items()
        ),
    )


async def looked_through(dsn: str) -> None:
    await run_lock_selftest(Target(dsn))
    async with open_session(Target(dsn)) as session:
        await schema.check(session)
        assert await schema.has_index(session)
        report = await run_sweep(session, RULES)
        assert report is not None
        assert [case.thread_id for case in await cases.list_open(session)] == ["t"]
        assert (await statistics.server(session)).uptime > timedelta(0)
        assert await attempts.find_orphans(session, [], 5) == []


@pytest.mark.parametrize("defaults", DEFAULTS, ids=lambda one: ", ".join(f"{k} {v}" for k, v in one.items()))
async def test_no_default_of_a_database_keeps_a_thread_from_being_finished(
    langgraph_database: str, defaults: dict[str, str]
) -> None:
    await schema.migrate(Target(langgraph_database))
    graph = graph_of("x")
    async with died_in(langgraph_database, graph) as place:
        settle(langgraph_database, defaults)
        await schema.migrate(Target(langgraph_database))
        await looked_through(langgraph_database)
        assert await place.attempt(workflow_of("w", graph), "t") == "tried"
        assert (await place.attempts("t"))[-1].outcome is Outcome.FINISHED
    async with AsyncWorkflowExecutor(langgraph_database, sessions=1) as executor:
        assert (await executor.run("w", graph, {"log": []}, thread_id="u"))["text"] == "x"
        assert await executor.submit("w", {"log": []}, thread_id="v") == "v"
    assert not await asyncio.to_thread(needs_resume, "t", langgraph_database)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "WIN1252", "EUC_JP"])
async def test_a_database_of_another_encoding_is_worked_with(server_dsn: str, encoding: str) -> None:
    with made(server_dsn, f"encoding '{encoding}' lc_collate 'C' lc_ctype 'C'") as dsn:
        utf8 = conninfo.make_conninfo(dsn, client_encoding="UTF8")
        with PostgresSaver.from_conn_string(utf8) as saver:
            saver.setup()
        await schema.migrate(Target(dsn))
        graph = graph_of("x")
        async with died_in(utf8, graph) as place:
            await looked_through(dsn)
            assert await place.attempt(workflow_of("w", graph), "t") == "tried"
            assert (await place.attempts("t"))[-1].outcome is Outcome.FINISHED
        async with AsyncWorkflowExecutor(dsn, sessions=1) as executor:
            assert (await executor.run("w", graph, {"log": []}, thread_id="u"))["text"] == "x"


async def named(session: Session) -> dict[str, str | None]:
    """The threads of the open cases, each with the workflow that its metadata names."""
    found = await checkpoints.snapshots(session, [case.thread_id for case in await cases.list_open(session)])
    return {thread: one.head.metadata_workflow for thread, one in found.items()}


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_ids_and_metadata_beyond_ascii_hide_no_thread(server_dsn: str, encoding: str) -> None:
    with made(server_dsn, f"encoding '{encoding}' lc_collate 'C' lc_ctype 'C'") as dsn:
        utf8 = conninfo.make_conninfo(dsn, client_encoding="UTF8")
        with PostgresSaver.from_conn_string(utf8) as saver:
            saver.setup()
        await schema.migrate(Target(dsn))
        async with died_in(utf8, graph_of("x")):
            copy = (
                "insert into checkpoints select 'wörk-é', checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
                " checkpoint, metadata || '{\"workflow\": \"größe\"}' from checkpoints where thread_id = 't'"
            )
            execute(utf8, copy)
            async with open_session(Target(dsn)) as session:
                assert await run_sweep(session, RULES) is not None
                found = await named(session)
    assert found == {"t": None, "wörk-é": "größe"}


async def test_an_id_that_is_no_text_is_told_and_hides_no_other_thread(server_dsn: str) -> None:
    with made(server_dsn, "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'") as dsn:
        utf8 = conninfo.make_conninfo(dsn, client_encoding="UTF8")
        with PostgresSaver.from_conn_string(utf8) as saver:
            saver.setup()
        await schema.migrate(Target(dsn))
        async with died_in(utf8, graph_of("x")):
            copy = (
                "insert into checkpoints select {}, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
                " checkpoint, metadata || {} from checkpoints where thread_id = 't'"
            )
            execute(
                dsn,
                copy.format("E'caf\\xe9'", "'{}'"),
                copy.format("'odd'", "jsonb_build_object('workflow', E'caf\\xe9')"),
            )
            told: list[str] = []
            async with open_session(Target(dsn)) as session:
                assert await run_sweep(session, RULES, on_unjudged=lambda thread, _: told.append(thread)) is not None
                found = await named(session)
    assert found == {"t": None, "odd": "caf\udce9"}
    assert set(told) == {"caf\udce9"}


async def test_an_error_that_the_encoding_cannot_hold_is_recorded_as_far_as_it_goes(server_dsn: str) -> None:
    with made(server_dsn, "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'") as dsn:
        with PostgresSaver.from_conn_string(dsn) as saver:
            saver.setup()
        await schema.migrate(Target(dsn))

        class Odd:
            def __reduce__(self) -> Any:
                message = "no \N{EURO SIGN} \N{SNOWMAN} here"
                raise ValueError(message)

        graph = graph_of(Odd())
        async with died_in(dsn, graph) as place:
            assert await place.attempt(workflow_of("w", graph), "t") == "tried"
            tried = (await place.attempts("t"))[-1]
    assert tried.outcome is Outcome.FAILED
    assert tried.finished_at is not None


async def test_a_read_only_default_is_one_sentence(database: str) -> None:
    settle(database, {"default_transaction_read_only": "on"})
    async with open_session(Target(database)) as session:
        with pytest.raises(DatabaseUnusableError, match=r"read-only.*default_transaction_read_only"):
            await schema.check(session)
        await schema.check(session, writing=False)


async def test_the_tables_of_a_shallow_saver_are_refused_by_name(bare_database: str) -> None:
    with (
        pytest.warns(DeprecationWarning, match="Shallow"),
        ShallowPostgresSaver.from_conn_string(bare_database) as saver,
    ):
        saver.setup()
    with pytest.raises(DatabaseUnusableError, match=r"ShallowPostgresSaver.*PostgresSaver"):
        await schema.migrate(Target(bare_database))
    await schema.migrate(Target(bare_database), build_index=False)
    async with open_session(Target(bare_database)) as session:
        for writing in (True, False):
            with pytest.raises(DatabaseUnusableError, match="ShallowPostgresSaver"):
                await schema.check(session, writing=writing)


async def test_tables_of_an_older_release_are_refused_by_what_they_lack(database: str) -> None:
    execute(database, "alter table checkpoint_writes drop column task_path")
    async with open_session(Target(database)) as session:
        with pytest.raises(DatabaseUnusableError, match=r"checkpoint_writes\.task_path.*setup\(\)"):
            await schema.check(session)


HIDING = [
    pytest.param(["checkpoints", "checkpoint_writes", "checkpoint_blobs"], None, id="no policy"),
    pytest.param(["checkpoint_writes"], None, id="only the writes"),
    pytest.param(["checkpoints"], "thread_id = 'mine'", id="some rows"),
    pytest.param(["checkpoint_blobs"], "true", id="a policy for everything"),
    pytest.param(["resumed.cases"], None, id="our own"),
]


@contextmanager
def restricted(dsn: str, tables: list[str], policy: str | None) -> Iterator[str]:
    """A role with every right and row-level security on some tables; gives its DSN."""
    role, name = f"reader_{uuid.uuid4().hex[:8]}", conninfo.conninfo_to_dict(dsn)["dbname"]
    execute(
        dsn,
        f"create role {role} login password 'x'",
        f"grant all on all tables in schema public, resumed to {role}",
        f"grant usage on schema public, resumed to {role}",
        f"grant execute on all functions in schema resumed to {role}",
        f"grant connect on database {name} to {role}",
    )
    for table in tables:
        execute(dsn, f"alter table {table} enable row level security")
        if policy is not None:
            execute(dsn, f"create policy partly on {table} for select to {role} using ({policy})")
    try:
        yield conninfo.make_conninfo(dsn, user=role, password="x")  # noqa: S106 - of this test
    finally:
        execute(dsn, f"drop owned by {role} cascade", f"drop role {role}")


@pytest.mark.parametrize(("tables", "policy"), HIDING)
async def test_what_row_level_security_may_hide_is_never_taken_for_what_is_not_there(
    database: str, tables: list[str], policy: str | None
) -> None:
    async with died_in(database, graph_of("x")) as place:
        with restricted(database, tables, policy) as dsn:
            async with open_session(Target(dsn)) as session:
                for writing in (True, False):
                    with pytest.raises(DatabaseUnusableError, match=r"row-level security.*bypassrls"):
                        await schema.check(session, writing=writing)
            with pytest.raises(DatabaseUnusableError, match="row-level security"):
                async with AsyncWorkflowExecutor(dsn, sessions=1):
                    pass
            for look in (lambda: find_failed_workflows(dsn), lambda: needs_resume("t", dsn)):
                with pytest.raises(DatabaseUnusableError, match="row-level security"):
                    await asyncio.to_thread(look)
        assert await place.attempts("t") == []


async def test_security_that_comes_later_closes_no_case(database: str) -> None:
    """A session that was opened before raises too, instead of seeing that the threads have vanished."""
    async with died_in(database, graph_of("x")):
        with restricted(database, [], None) as dsn:
            async with open_session(Target(dsn)) as session:
                assert await run_sweep(session, RULES) is not None
                execute(
                    database,
                    "alter table checkpoints enable row level security",
                    "update resumed.cases set next_look_at = now()",
                )
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await run_sweep(session, RULES)
            execute(database, "alter table checkpoints disable row level security")
    async with open_session(Target(database)) as session:
        assert [case.thread_id for case in await cases.list_open(session)] == ["t"]


def test_the_pool_of_an_application_keeps_its_row_level_security(database: str) -> None:
    with CheckpointerManager.get_or_create(database) as manager, manager.get_checkpointer()._cursor() as cursor:  # noqa: SLF001
        cursor.execute(
            "select current_setting('row_security') as row_security, current_setting('datestyle') as datestyle"
        )
        assert cursor.fetchone() == {"row_security": "on", "datestyle": "ISO, MDY"}


def test_a_lock_manager_says_in_one_sentence_what_the_database_refuses(database: str) -> None:
    settle(database, {"statement_timeout": "2ms", "datestyle": "SQL, DMY"})
    with PostgresLockManager(database) as manager, manager.acquire_workflow_lock("a") as got:
        assert got
        assert manager.is_locked("a")
