"""`resumed migrate`: on any database, again, in many processes at once, and after being killed half way."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import conninfo, sql
from psycopg.rows import dict_row

from resumed.errors import DatabaseUnreachableError, DatabaseUnusableError
from resumed.store import schema
from resumed.store.connection import Target, open_session
from resumed.store.sql_files import load_sql, sql_modules
from support.databases import in_database
from support.tiers import small, whole

COMMAND = Path(sys.executable).parent / "resumed"
DEADLINE = 60.0
VERSIONS = list(range(1, schema.SCHEMA_VERSION + 1))
TABLES = {
    "runs",
    "prune_marks",
    "prune_positions",
    "schema_version",
    "workflows",
    "cases",
    "attempts",
    "watermarks",
    "pauses",
    "audit",
    "notices",
    "webhook",
}
OURS = "resumed_checkpoint_id_idx"
ODD_SCHEMA = """Lang's "Graph" Ünit"""


def _environment(dsn: str, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUMED_", "PG"))}
    return {**kept, "RESUMED_DATABASE_URL": dsn, **settings}


def _start(dsn: str, folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, "migrate", *arguments], env=_environment(dsn, **settings), cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _run(dsn: str, folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    with _start(dsn, folder, *arguments, **settings) as process:
        told, complained = process.communicate(timeout=DEADLINE)
        return process.returncode, told, complained


def _rows(dsn: str, query: str, *parameters: object) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(query, parameters).fetchall()


def _execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _tables(dsn: str) -> set[str]:
    return {row["tablename"] for row in _rows(dsn, "select tablename from pg_tables where schemaname = 'resumed'")}


def _versions(dsn: str) -> list[int]:
    return [row["version"] for row in _rows(dsn, "select version from resumed.schema_version order by version")]


def _indexes(dsn: str) -> dict[str, bool]:
    """The indexes on checkpoint_id alone, wherever LangGraph's tables are, and whether each is whole."""
    found = _rows(
        dsn,
        "select c.relname as name, i.indisvalid and i.indisready as whole from pg_index i"
        " join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid"
        " join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0]"
        " where t.relname = 'checkpoints' and a.attname = 'checkpoint_id'",
    )
    return {row["name"]: row["whole"] for row in found}


def _until(question: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while not (answer := question()):
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.02)
    return answer


def _waiting_migrates(dsn: str) -> list[int]:
    """The backends of `migrate` in this database that wait for a lock which somebody else holds."""
    waiting = _rows(
        dsn,
        "select pid from pg_stat_activity where datname = current_database() and application_name = 'resumed migrate'"
        " and wait_event_type = 'Lock'",
    )
    return [row["pid"] for row in waiting]


def _sessions(dsn: str) -> int:
    count = "select count(*) as n from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    return int(_rows(dsn, count)[0]["n"])


async def _told(target: Target, *, build_index: bool = True) -> list[str]:
    told: list[str] = []
    await schema.migrate(target, build_index=build_index, tell=told.append)
    return told


async def _check(target: Target) -> None:
    async with open_session(target) as session:
        await schema.check(session)


async def _has_index(target: Target) -> bool:
    async with open_session(target) as session:
        return await schema.has_index(session)


async def test_on_an_empty_database_our_tables_are_made_and_the_index_waits(bare_database: str) -> None:
    told = await _told(Target(bare_database))
    assert _tables(bare_database) == TABLES
    assert _versions(bare_database) == VERSIONS
    assert _indexes(bare_database) == {}
    assert any("index waits for the next" in line for line in told)


def test_the_command_ends_with_0_where_the_index_has_to_wait(bare_database: str, tmp_path: Path) -> None:
    code, told, complained = _run(bare_database, tmp_path)
    assert (code, complained) == (0, "")
    assert "the index waits for the next `resumed migrate`" in told
    assert _tables(bare_database) == TABLES


async def test_the_index_that_waited_is_built_by_the_next_migrate(bare_database: str) -> None:
    await _told(Target(bare_database))
    with PostgresSaver.from_conn_string(bare_database) as saver:
        saver.setup()
    await _told(Target(bare_database))
    assert _indexes(bare_database) == {OURS: True}
    await _check(Target(bare_database))


async def test_beside_langgraphs_tables_the_index_is_built_and_whole(langgraph_database: str) -> None:
    told = await _told(Target(langgraph_database))
    assert _tables(langgraph_database) == TABLES
    assert _indexes(langgraph_database) == {OURS: True}
    assert await _has_index(Target(langgraph_database))
    assert told[-1].endswith("built")
    await _check(Target(langgraph_database))


async def test_repeated_it_changes_nothing_and_says_so(langgraph_database: str) -> None:
    await _told(Target(langgraph_database))
    before = _catalogue(langgraph_database)
    told = await _told(Target(langgraph_database))
    assert _catalogue(langgraph_database) == before
    assert any("nothing to do" in line for line in told)
    assert any("already there" in line for line in told)


def _catalogue(dsn: str) -> list[dict[str, Any]]:
    """Every table, index and function of ours, and every index on LangGraph's tables, by its object id."""
    return _rows(
        dsn,
        "select oid::bigint, relname::text as name from pg_class where relnamespace in"
        " ('resumed'::regnamespace, 'public'::regnamespace) union all"
        " select oid::bigint, proname::text from pg_proc where pronamespace = 'resumed'::regnamespace order by 1",
    )


async def test_without_the_index_only_the_schema_is_made(langgraph_database: str) -> None:
    await _told(Target(langgraph_database), build_index=False)
    assert _tables(langgraph_database) == TABLES
    assert _indexes(langgraph_database) == {}
    assert not await _has_index(Target(langgraph_database))


def test_the_command_takes_no_index(langgraph_database: str, tmp_path: Path) -> None:
    assert _run(langgraph_database, tmp_path, "--no-index")[0] == 0
    assert (_tables(langgraph_database), _indexes(langgraph_database)) == (TABLES, {})


async def test_langgraphs_tables_get_nothing_but_the_index(langgraph_database: str) -> None:
    columns = (
        "select table_name, column_name, data_type, column_default, is_nullable from information_schema.columns"
        " where table_schema = 'public' order by 1, 2"
    )
    things = "select relname from pg_class where relnamespace = 'public'::regnamespace order by 1"
    before = _rows(langgraph_database, columns), {row["relname"] for row in _rows(langgraph_database, things)}
    await _told(Target(langgraph_database))
    after = _rows(langgraph_database, columns), {row["relname"] for row in _rows(langgraph_database, things)}
    assert after == (before[0], before[1] | {OURS})


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        small("langgraph_database", 4, id="four"),
        whole("langgraph_database", 10, id="ten"),
        whole("bare_database", 10, id="ten in an empty one"),
    ],
)
def test_processes_at_once_all_succeed(kind: str, count: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    dsn: str = request.getfixturevalue(kind)
    processes = [_start(dsn, tmp_path) for _ in range(count)]
    ended = [(process.communicate(timeout=DEADLINE), process.returncode) for process in processes]
    assert [code for _, code in ended] == [0] * count, [complained for (_, complained), _ in ended]
    assert sum("migration 1 applied" in told for (told, _), _ in ended) == 1
    assert _tables(dsn) == TABLES
    assert _versions(dsn) == VERSIONS
    assert _indexes(dsn) == ({OURS: True} if kind == "langgraph_database" else {})


async def test_many_tasks_at_once_leave_one_index_and_no_lock(langgraph_database: str) -> None:
    await asyncio.gather(*(_told(Target(langgraph_database)) for _ in range(8)))
    assert _indexes(langgraph_database) == {OURS: True}
    _until(lambda: not _sessions(langgraph_database))
    held = "select count(*) as n from pg_locks where locktype = 'advisory' and database ="
    own = "(select oid from pg_database where datname = current_database())"
    assert _rows(langgraph_database, f"{held} {own}")[0]["n"] == 0


async def test_the_index_is_built_while_the_application_writes(langgraph_database: str, tmp_path: Path) -> None:
    with psycopg.connect(langgraph_database) as writer, _start(langgraph_database, tmp_path) as process:
        writer.execute(_checkpoint("a", 1))
        _until(lambda: _indexes(langgraph_database) == {OURS: False} or process.poll() is not None)
        _execute(langgraph_database, "set statement_timeout = '5s'", _checkpoint("b", 1))
        assert process.poll() is None, process.communicate()
        writer.commit()
        assert process.wait(DEADLINE) == 0
    assert _indexes(langgraph_database) == {OURS: True}


def _checkpoint(thread_id: str, number: int) -> str:
    return f"insert into checkpoints (thread_id, checkpoint_id, checkpoint) values ('{thread_id}', '{number}', '{{}}')"


async def test_an_index_that_is_marked_invalid_is_dropped_and_built_anew(langgraph_database: str) -> None:
    await _told(Target(langgraph_database))
    _execute(langgraph_database, f"update pg_index set indisvalid = false where indexrelid = '{OURS}'::regclass")
    first = _rows(langgraph_database, f"select '{OURS}'::regclass::oid::bigint as oid")
    assert not await _has_index(Target(langgraph_database))
    await _told(Target(langgraph_database))
    assert _indexes(langgraph_database) == {OURS: True}
    assert _rows(langgraph_database, f"select '{OURS}'::regclass::oid::bigint as oid") != first


async def test_an_index_whose_build_was_cut_off_is_dropped_and_built_anew(langgraph_database: str) -> None:
    with psycopg.connect(langgraph_database) as writer:
        writer.execute(_checkpoint("a", 1))
        building = asyncio.create_task(_told(Target(langgraph_database)))
        async with asyncio.timeout(DEADLINE):
            while not (waiting := _waiting_migrates(langgraph_database)):
                await asyncio.sleep(0.02)
        _execute(langgraph_database, *(f"select pg_terminate_backend({pid})" for pid in waiting))
        with pytest.raises(DatabaseUnreachableError):
            await building
        writer.commit()
    assert _indexes(langgraph_database) == {OURS: False}
    await _told(Target(langgraph_database))
    assert _indexes(langgraph_database) == {OURS: True}


async def test_an_index_that_somebody_else_built_is_used_and_none_added(langgraph_database: str) -> None:
    _execute(langgraph_database, "create index theirs on checkpoints (checkpoint_id, thread_id)")
    told = await _told(Target(langgraph_database))
    assert _indexes(langgraph_database) == {"theirs": True}
    assert any("already there" in line for line in told)
    assert await _has_index(Target(langgraph_database))


@pytest.mark.parametrize(
    "columns",
    ["(checkpoint_id) where thread_id like 'orders%'", "(thread_id, checkpoint_id)", "(upper(checkpoint_id))"],
    ids=["a part of the rows", "another first column", "an expression"],
)
async def test_an_index_that_cannot_serve_the_sweep_does_not_stand_in_for_ours(
    langgraph_database: str, columns: str
) -> None:
    _execute(langgraph_database, f"create index theirs on checkpoints {columns}")
    assert not await _has_index(Target(langgraph_database))
    await _told(Target(langgraph_database))
    assert _indexes(langgraph_database)[OURS]


@pytest.mark.parametrize("method", ["hash", "brin"])
async def test_an_index_of_another_kind_than_a_btree_does_not_stand_in_for_ours(
    langgraph_database: str, method: str
) -> None:
    _execute(langgraph_database, f"create index theirs on checkpoints using {method} (checkpoint_id)")
    assert not await _has_index(Target(langgraph_database))
    await _told(Target(langgraph_database))
    assert _indexes(langgraph_database) == {"theirs": True, OURS: True}


async def test_an_index_of_somebody_else_that_is_half_built_is_left_alone_and_ours_added(
    langgraph_database: str,
) -> None:
    _execute(
        langgraph_database,
        "create index theirs on checkpoints (checkpoint_id)",
        "update pg_index set indisvalid = false where indexrelid = 'theirs'::regclass",
    )
    await _told(Target(langgraph_database))
    assert _indexes(langgraph_database) == {"theirs": False, OURS: True}


async def test_a_newer_schema_that_leaves_this_release_behind_is_refused(database: str) -> None:
    newer = schema.SCHEMA_VERSION + 1
    _execute(database, f"insert into resumed.schema_version (version, compatible_from) values ({newer}, {newer})")
    before = _catalogue(database)
    with pytest.raises(DatabaseUnusableError, match="upgrade resumed"):
        await _check(Target(database))
    with pytest.raises(DatabaseUnusableError, match="upgrade resumed"):
        await _told(Target(database))
    assert _catalogue(database) == before
    assert _versions(database) == [*VERSIONS, newer]


def test_the_command_ends_with_3_and_one_sentence_at_a_schema_that_leaves_it_behind(
    database: str, tmp_path: Path
) -> None:
    newer = schema.SCHEMA_VERSION + 1
    _execute(database, f"insert into resumed.schema_version (version, compatible_from) values ({newer}, {newer})")
    code, told, complained = _run(database, tmp_path)
    assert (code, told) == (3, "")
    assert complained.startswith("resumed: ")
    assert complained.count("\n") == 1


async def test_a_newer_schema_that_only_added_is_worked_with(database: str) -> None:
    newer, ours = schema.SCHEMA_VERSION + 1, schema.SCHEMA_VERSION
    _execute(database, f"insert into resumed.schema_version (version, compatible_from) values ({newer}, {ours})")
    await _check(Target(database))
    await _told(Target(database))
    assert _versions(database) == [*VERSIONS, newer]


async def test_an_older_schema_is_refused_and_the_command_named(database: str) -> None:
    _execute(database, "delete from resumed.schema_version where version > 1")
    with pytest.raises(DatabaseUnusableError, match="run `resumed migrate`"):
        await _check(Target(database))


async def test_a_database_without_our_schema_is_refused_and_the_command_named(langgraph_database: str) -> None:
    with pytest.raises(DatabaseUnusableError, match="run `resumed migrate`"):
        await _check(Target(langgraph_database))


async def test_missing_tables_of_langgraph_are_named(bare_database: str) -> None:
    await _told(Target(bare_database))
    with pytest.raises(DatabaseUnusableError, match=r"checkpoint_blobs, checkpoint_writes, checkpoints.*setup\(\)"):
        await _check(Target(bare_database))


FUNCTIONS = {"begin_run", "regain_run", "end_run", "require_head"}
FORGETTING = (
    "forget_attempts",
    "forget_audit",
    "forget_cases",
    "forget_marks",
    "forget_notices",
    "forget_runs",
    "forget_unwanted",
    "forget_versions",
)
NOTING = ("note_case", "note_pause")
BEGIN = "select said, head from resumed.begin_run{}(7, %s, 't', 'orders', '1', 'us', null, null, '{{}}', null)"
REGAIN = "select said, head from resumed.regain_run{}(7, %s, 't')"
END = "select resumed.end_run{}(7, %s, %s) as unlocked"


def _in_version(dsn: str, version: int) -> None:
    """Make our schema as an earlier release left it."""
    folder = resources.files("resumed.store") / "migrations"
    for number, entry in enumerate(sorted(folder.iterdir(), key=lambda entry: entry.name), 1):
        if number <= version:
            made = f"insert into resumed.schema_version (version, compatible_from) values ({number}, 1)"
            _execute(dsn, entry.read_text(encoding="utf-8"), made)


def _definitions(dsn: str) -> dict[str, str]:
    rows = _rows(
        dsn,
        "select p.proname::text as name, pg_get_functiondef(p.oid) as body from pg_proc p"
        " where p.pronamespace = 'resumed'::regnamespace",
    )
    return {row["name"]: row["body"] for row in rows}


async def test_an_upgrade_adds_versioned_functions_and_leaves_those_that_older_releases_call(
    langgraph_database: str,
) -> None:
    _in_version(langgraph_database, 3)
    before = _definitions(langgraph_database)
    assert set(before) == {*FUNCTIONS, "lock_key"}
    told = await _told(Target(langgraph_database))
    assert [line for line in told if "applied" in line] == [
        f"schema resumed: migration {number} applied" for number in VERSIONS[3:]
    ]
    after = _definitions(langgraph_database)
    assert {name: body for name, body in after.items() if name in before} == before
    assert set(after) == {*before, *(f"{name}_v1" for name in (*FUNCTIONS, *FORGETTING, *NOTING, "backlog"))}
    await _check(Target(langgraph_database))


def test_our_own_queries_call_no_function_without_a_version_but_that_of_the_lock_key() -> None:
    called = {
        name.decode()
        for module in sql_modules()
        for query in load_sql(module).values()
        for name in re.findall(rb"resumed\.(\w+)\(", query)
    }
    assert called == {*(f"{name}_v1" for name in (*FUNCTIONS, *FORGETTING)), "lock_key"}


@pytest.mark.parametrize(("old", "new"), [("", "_v1"), ("_v1", "")], ids=["the old one begins", "the new one begins"])
def test_applications_of_two_releases_register_runs_side_by_side(database: str, old: str, new: str) -> None:
    _execute(database, _checkpoint("t", 5))
    with (
        psycopg.connect(database, autocommit=True, row_factory=dict_row) as one,
        psycopg.connect(database, autocommit=True, row_factory=dict_row) as other,
    ):
        assert one.execute(BEGIN.format(old), ["run-1"]).fetchone() == {"said": "begun", "head": "5"}
        assert other.execute(BEGIN.format(new), ["run-2"]).fetchone() == {"said": "locked", "head": None}
        assert one.execute(END.format(old), ["run-1", None]).fetchone() == {"unlocked": True}
        assert other.execute(BEGIN.format(new), ["run-2"]).fetchone() == {"said": "unfinished", "head": "5"}
        assert other.execute(END.format(new), ["none", None]).fetchone() == {"unlocked": True}
        assert one.execute(REGAIN.format(old), ["run-1"]).fetchone() == {"said": "regained", "head": "5"}
        assert one.execute(END.format(old), ["run-1", "finished"]).fetchone() == {"unlocked": True}
        assert other.execute(BEGIN.format(new), ["run-2"]).fetchone() == {"said": "begun", "head": "5"}
        assert other.execute(END.format(new), ["run-2", "failed"]).fetchone() == {"unlocked": True}
    ended = _rows(database, "select run_id, state from resumed.runs order by run_id")
    assert ended == [{"run_id": "run-1", "state": "finished"}, {"run_id": "run-2", "state": "failed"}]


@contextmanager
def _killed_half_way(dsn: str, folder: Path) -> Iterator[list[int]]:
    """Start `migrate`, wait until its backend is blocked, kill its process; gives the backends that live on."""
    with _start(dsn, folder) as process:
        backends = _until(lambda: _waiting_migrates(dsn) or (process.poll() is not None and [0]))
        assert process.poll() is None, process.communicate()
        process.kill()
        assert process.wait(DEADLINE) == -signal.SIGKILL
        yield backends


def test_killed_while_it_makes_the_tables_it_leaves_nothing_and_works_again(
    langgraph_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(langgraph_database) as blocker:
        blocker.execute("create schema resumed")
        with _killed_half_way(langgraph_database, tmp_path):
            blocker.rollback()
    _until(lambda: not _sessions(langgraph_database))
    assert _tables(langgraph_database) == set()
    assert _run(langgraph_database, tmp_path)[0] == 0
    assert (_tables(langgraph_database), _indexes(langgraph_database)) == (TABLES, {OURS: True})


def test_killed_while_it_builds_the_index_it_works_again(langgraph_database: str, tmp_path: Path) -> None:
    with psycopg.connect(langgraph_database) as writer:
        writer.execute(_checkpoint("a", 1))
        with _killed_half_way(langgraph_database, tmp_path):
            assert _indexes(langgraph_database) == {OURS: False}
        writer.commit()
    assert _run(langgraph_database, tmp_path)[0] == 0
    assert (_tables(langgraph_database), _indexes(langgraph_database)) == (TABLES, {OURS: True})


def test_killed_together_with_its_backend_it_leaves_a_half_built_index_and_works_again(
    langgraph_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(langgraph_database) as writer:
        writer.execute(_checkpoint("a", 1))
        with _killed_half_way(langgraph_database, tmp_path) as backends:
            _execute(langgraph_database, *(f"select pg_terminate_backend({pid})" for pid in backends))
        writer.commit()
    _until(lambda: not _sessions(langgraph_database))
    assert _indexes(langgraph_database) == {OURS: False}
    assert _run(langgraph_database, tmp_path)[0] == 0
    assert _indexes(langgraph_database) == {OURS: True}


def _langgraph_in(dsn: str, name: str) -> None:
    """Make LangGraph's tables in a schema of their own."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=0) as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("set search_path = {}").format(sql.Identifier(name)))
        PostgresSaver(connection).setup()


@pytest.mark.parametrize("name", ["langgraph", "LangGraph", "select", ODD_SCHEMA])
async def test_langgraphs_tables_may_be_in_a_schema_of_any_name(bare_database: str, name: str) -> None:
    _langgraph_in(bare_database, name)
    told = await _told(Target(bare_database, name))
    assert told[-1].endswith("built")
    assert (_tables(bare_database), _indexes(bare_database)) == (TABLES, {OURS: True})
    where = (
        "select n.nspname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relname = %s"
    )
    assert _rows(bare_database, where, OURS) == [{"name": name}]
    await _check(Target(bare_database, name))


@pytest.mark.parametrize("name", ["LangGraph", ODD_SCHEMA])
def test_the_command_finds_a_schema_with_capitals_and_quotes_in_its_name(
    bare_database: str, tmp_path: Path, name: str
) -> None:
    _langgraph_in(bare_database, name)
    code, told, complained = _run(bare_database, tmp_path, RESUMED_CHECKPOINT_SCHEMA=name)
    assert (code, complained) == (0, "")
    assert told.splitlines()[-1].endswith("built")
    assert (_tables(bare_database), _indexes(bare_database)) == (TABLES, {OURS: True})


async def test_the_tables_of_another_schema_do_not_count(langgraph_database: str) -> None:
    _langgraph_in(langgraph_database, ODD_SCHEMA)
    await _told(Target(langgraph_database))
    assert await _has_index(Target(langgraph_database))
    assert not await _has_index(Target(langgraph_database, ODD_SCHEMA))
    await _check(Target(langgraph_database, ODD_SCHEMA))
    with pytest.raises(DatabaseUnusableError, match="RESUMED_CHECKPOINT_SCHEMA"):
        await _check(Target(langgraph_database, ODD_SCHEMA.lower()))


async def test_the_check_of_the_head_looks_into_the_schema_of_the_session(langgraph_database: str) -> None:
    _langgraph_in(langgraph_database, ODD_SCHEMA)
    await _told(Target(langgraph_database))
    _execute(langgraph_database, _checkpoint("a", 5))
    ask = "select resumed.require_head_v1('a', '', %s, '9') as good"
    async with (
        open_session(Target(langgraph_database)) as public,
        open_session(Target(langgraph_database, ODD_SCHEMA)) as odd,
    ):
        assert (await (await public.execute(ask, ["5"])).fetchone()) == {"good": True}
        assert (await (await odd.execute(ask, [None])).fetchone()) == {"good": True}
        with pytest.raises(psycopg.DatabaseError, match="the head of the thread has moved"):
            await public.execute(ask, ["4"])
        with pytest.raises(psycopg.DatabaseError, match="the head of the thread has moved"):
            await odd.execute(ask, ["5"])


async def test_a_role_that_may_not_migrate_is_told_to_ask_the_owner(langgraph_database: str) -> None:
    role = f"runner_{uuid.uuid4().hex[:8]}"
    _execute(langgraph_database, f"create role {role} login password 'runner'")
    fields = conninfo.conninfo_to_dict(langgraph_database)
    dsn = conninfo.make_conninfo(langgraph_database, user=role, password="runner")  # noqa: S106 - of this test
    try:
        with pytest.raises(DatabaseUnusableError, match="owner"):
            await schema.migrate(Target(dsn))
        _execute(langgraph_database, f"grant create on database {fields['dbname']} to {role}")
        with pytest.raises(DatabaseUnusableError, match="owner"):
            await schema.migrate(Target(dsn))
    finally:
        _execute(langgraph_database, f"drop owned by {role} cascade", f"drop role {role}")


async def test_a_database_that_is_not_there_is_unusable(server_dsn: str) -> None:
    with pytest.raises(DatabaseUnusableError, match="does not exist"):
        await schema.migrate(Target(in_database(server_dsn, "no_such_database")))
