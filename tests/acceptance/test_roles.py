"""`deploy/sql/roles.sql`: the owner migrates, the runner is enough for the daemon, and what is missing is named."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import conninfo, sql

from resumed.demo.postgres import find_binaries
from resumed.errors import DatabaseUnusableError
from resumed.store import schema
from resumed.store.connection import Target, open_session
from support.bench import Bench
from support.receiver import receiver
from support.undisturbed import final_state, undisturbed
from support.waiting import DEADLINE, eventually

ROLES = Path(__file__).parents[2] / "deploy" / "sql" / "roles.sql"
PASSWORD = "of this test"  # noqa: S105
GRANTS = """
select upper(a.privilege_type) as right, 'schema ' || n.nspname as thing
from pg_namespace n, aclexplode(n.nspacl) a where a.grantee = %(runner)s::regrole
union all
select upper(a.privilege_type), 'table ' || n.nspname || '.' || c.relname
from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
where a.grantee = %(runner)s::regrole
union all
select upper(a.privilege_type), 'function ' || n.nspname || '.' || p.proname
from pg_proc p join pg_namespace n on n.oid = p.pronamespace, aclexplode(p.proacl) a
where a.grantee = %(runner)s::regrole
order by 2, 1
"""
WRITES = {"SELECT", "INSERT", "UPDATE"}
LEAST = {
    "schema public": {"USAGE"},
    "schema resumed": {"USAGE"},
    "table public.checkpoints": WRITES,
    "table public.checkpoint_blobs": {"SELECT", "INSERT"},
    "table public.checkpoint_writes": WRITES,
    "table resumed.schema_version": {"SELECT"},
    "table resumed.workflows": WRITES,
    "table resumed.cases": WRITES,
    "table resumed.attempts": WRITES,
    "table resumed.watermarks": WRITES,
    "table resumed.pauses": WRITES,
    "table resumed.audit": {"SELECT", "INSERT"},
    "table resumed.runs": WRITES,
    "table resumed.prune_positions": WRITES,
    "table resumed.prune_marks": WRITES,
    "table resumed.webhook": WRITES,
    "table resumed.notices": {"SELECT"},
    "function resumed.forget_notices_v1": {"EXECUTE"},
    "function resumed.forget_unwanted_v1": {"EXECUTE"},
    "function resumed.note_case_v1": {"EXECUTE"},
    "function resumed.note_pause_v1": {"EXECUTE"},
    "function resumed.forget_cases_v1": {"EXECUTE"},
    "function resumed.forget_attempts_v1": {"EXECUTE"},
    "function resumed.forget_runs_v1": {"EXECUTE"},
    "function resumed.forget_versions_v1": {"EXECUTE"},
    "function resumed.forget_audit_v1": {"EXECUTE"},
    "function resumed.forget_marks_v1": {"EXECUTE"},
    "function resumed.backlog_v1": {"EXECUTE"},
    "function resumed.begin_run": {"EXECUTE"},
    "function resumed.regain_run": {"EXECUTE"},
    "function resumed.end_run": {"EXECUTE"},
    "function resumed.begin_run_v1": {"EXECUTE"},
    "function resumed.regain_run_v1": {"EXECUTE"},
    "function resumed.end_run_v1": {"EXECUTE"},
    "function resumed.lock_key": {"EXECUTE"},
    "function resumed.require_head": {"EXECUTE"},
    "function resumed.require_head_v1": {"EXECUTE"},
}

# Without these nothing is forgotten or no notice is sent, and all else is done.
OPTIONAL = ("forget_", "prune_", "webhook", "notices", "note_")


@dataclass(frozen=True)
class Roles:
    """A database of an application, and the roles in it; `admin` is the superuser's address."""

    admin: str
    application: str
    owner: str
    runner: str

    def address(self, role: str) -> str:
        return conninfo.make_conninfo(self.admin, user=role, password=PASSWORD)

    def execute(self, statement: str, *names: str, role: str | None = None) -> None:
        """Execute a statement whose `{}` are names, as the superuser or as a role."""
        composed = sql.SQL(statement).format(*(sql.SQL(".").join(map(sql.Identifier, one.split("."))) for one in names))
        with psycopg.connect(self.address(role) if role else self.admin, autocommit=True) as connection:
            connection.execute(composed)

    def grants(self) -> dict[str, set[str]]:
        """What the runner itself has been granted, by the thing it is on."""
        found: dict[str, set[str]] = {}
        with psycopg.connect(self.admin, autocommit=True) as connection:
            for right, thing in connection.execute(GRANTS, {"runner": f'"{self.runner}"'}):
                found.setdefault(thing, set()).add(right)
        return found

    def apply(self, as_whom: str | None = None, **more: str) -> str:
        """Run the file as the superuser, or as a role, and give what it said."""
        names = {"owner": self.owner, "runner": self.runner, **more}
        options = [part for name, value in names.items() for part in ("-v", f"{name}={value}")]
        address = self.address(as_whom) if as_whom else self.admin
        psql = [str(find_binaries() / "psql"), "-X", "-q", address, "-v", "ON_ERROR_STOP=1", *options]
        done = subprocess.run([*psql, "-f", str(ROLES)], capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        for role in (self.owner, self.runner):
            self.execute(f"alter role {{}} password '{PASSWORD}'", role)
        return done.stdout


@pytest.fixture
def roles(bare_database: str) -> Iterator[Roles]:
    """A database in which the application's own role has made LangGraph's tables."""
    mark = uuid.uuid4().hex[:8]
    made = Roles(bare_database, f"shop_{mark}", f"Owner of {mark}", f"runner_{mark}")
    made.execute(f"create role {{}} login password '{PASSWORD}'", made.application)
    made.execute("grant create on schema public to {}", made.application)
    yield made
    for role in (made.owner, made.runner, made.application):
        with psycopg.connect(made.admin, autocommit=True) as connection:
            if connection.execute("select from pg_roles where rolname = %s", [role]).rowcount:
                made.execute("drop owned by {} cascade", role)
                made.execute("drop role {}", role)


@pytest.fixture
def prepared(roles: Roles, bench: Bench) -> Roles:
    """The same after everything that an operator does once; the bench then acts as the runner."""
    with PostgresSaver.from_conn_string(roles.address(roles.application)) as saver:
        saver.setup()
    roles.apply()
    done = bench.resumed("migrate", RESUMED_DATABASE_URL=roles.address(roles.owner))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    roles.apply()
    bench.dsn = roles.address(roles.runner)
    return roles


def test_the_runner_alone_is_enough_to_finish_what_a_killed_application_left(prepared: Roles, bench: Bench) -> None:
    bench.dsn = prepared.address(prepared.application)
    bench.crashed_application(2, "linear", "sends", "nested", ends=6, ZOO_DELAY="0.3")
    bench.dsn = prepared.address(prepared.runner)
    daemon = bench.daemon()
    eventually(lambda: bench.all_closed(6))
    kinds = ("linear", "sends", "nested")
    assert all(final_state(prepared.admin, f"{kind}_{n}") == undisturbed(kind) for kind in kinds for n in range(2))
    assert daemon.terminate() == 0
    assert [line for line in daemon.lines() if line["event"] == "database.failed"] == []


@pytest.mark.thorough
def test_the_runner_is_enough_for_the_reading_commands(prepared: Roles, bench: Bench) -> None:
    bench.dsn = prepared.address(prepared.application)
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    bench.dsn = prepared.address(prepared.runner)
    assert [one["thread_id"] for one in bench.ask("scan")["threads"]] == ["linear_0"]
    assert bench.ask("show", "linear_0")["verdict"] == "stopped"
    assert bench.ask("threads")["threads"] == []


def test_the_runner_is_enough_for_a_persons_orders(prepared: Roles, bench: Bench) -> None:
    bench.dsn = prepared.address(prepared.application)
    bench.crashed_application(2, "linear", ends=1, ZOO_DELAY="0.3")
    bench.dsn = prepared.address(prepared.runner)
    for order in (
        ["pause", "linear", "--reason", "x"],
        ["unpause", "linear"],
        ["cancel", "linear_0", "--reason", "x"],
        ["quarantine", "linear_0", "linear_1", "--reason", "x"],
        ["release", "linear_0"],
        ["release", "--all", "--yes"],
        ["resume", "linear_1"],
    ):
        done = bench.resumed(*order)
        assert done.returncode == 0, (order, done.stdout, done.stderr)
    assert bench.one("select count(*) from resumed.audit") == 7


def test_the_runner_is_enough_to_send_notices(prepared: Roles, bench: Bench) -> None:
    bench.dsn = prepared.address(prepared.application)
    assert bench.application(1, "asking", ZOO_DELAY="0").wait(30) == 0
    bench.dsn = prepared.address(prepared.runner)
    with receiver() as receiving:
        done = bench.resumed("once", workflows=["asking"], **receiving.settings())
        assert done.returncode == 0, done.stderr
        assert [entry["threads"] for entry in receiving.notices("case.waiting")] == [["asking_0"]]


def test_the_runner_has_the_least_grants_and_none_elsewhere(prepared: Roles) -> None:
    assert prepared.grants() == LEAST
    for statement in (
        "delete from checkpoints",
        "delete from resumed.cases",
        "delete from resumed.audit",
        "truncate resumed.cases",
        "update resumed.schema_version set version = 99",
        "update resumed.audit set actor = 'somebody'",
        "insert into resumed.notices (type) values ('case.quarantined')",
        "drop table resumed.cases",
        "create table public.mine ()",
        "create table resumed.mine ()",
        "create schema mine",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            prepared.execute(statement, role=prepared.runner)


PRUNED = ("table public.checkpoints", "table public.checkpoint_blobs", "table public.checkpoint_writes")


def test_the_runner_prunes_only_with_the_right_that_is_given_for_it(prepared: Roles, bench: Bench) -> None:
    bench.dsn = prepared.address(prepared.application)
    bench.application(2, "linear", ZOO_DELAY="0").wait()
    bench.dsn = prepared.address(prepared.runner)
    command = ["prune", "--older-than", "1ms", "--yes", "--json"]
    denied = bench.resumed(*command, workflows=["linear"])
    assert denied.returncode == 3
    assert (
        f"the role {prepared.runner} lacks DELETE on checkpoint_blobs, checkpoint_writes, checkpoints" in denied.stderr
    )
    prepared.apply(prune="yes")
    assert prepared.grants() == {**LEAST, **{table: LEAST[table] | {"DELETE"} for table in PRUNED}}
    done = bench.resumed(*command, workflows=["linear"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pruned"] == 2
    prepared.apply()
    assert prepared.grants() == LEAST


def test_the_scaler_may_ask_for_the_backlog_and_for_nothing_else(prepared: Roles) -> None:
    scaler = f"{prepared.runner} scaler"
    assert prepared.apply(scaler=scaler) == ""
    try:
        prepared.execute(f"alter role {{}} password '{PASSWORD}'", scaler)
        prepared.execute(
            "insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, before)"
            " values ('t', 1, 'orders', '1', 'us', now(), 'head')"
        )
        with psycopg.connect(prepared.address(scaler), autocommit=True) as connection:
            assert connection.execute("select load from resumed.backlog").fetchone() == (1,)
            connection.execute("set default_transaction_read_only = off")
            for refused in REFUSED_TO_THE_SCALER:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(refused)
        assert prepared.grants() == LEAST
    finally:
        prepared.execute("drop owned by {} cascade", scaler)
        prepared.execute("drop role {}", scaler)


REFUSED_TO_THE_SCALER = [
    *(f"select from {thing.removeprefix('table ')}" for thing in LEAST if thing.startswith("table ")),
    *(f"delete from {thing.removeprefix('table ')}" for thing in LEAST if thing.startswith("table ")),
    "select resumed.forget_versions_v1(now())",
    "create table public.mine ()",
    "create table resumed.mine ()",
    "drop view resumed.backlog",
]


async def test_the_runner_forgets_what_is_over_and_nothing_else(prepared: Roles) -> None:
    """By functions of the owner, which look at the age and the state themselves."""
    with psycopg.connect(prepared.admin, autocommit=True) as connection:
        connection.execute(
            "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
            " first_seen_at, updated_at) select state || age, 'finished', 'x', state, '', '', now(), now(),"
            " now() - age * '1 day'::interval from unnest(array['closed', 'held']) state, unnest(array[0, 40]) age"
        )
        connection.execute(
            "insert into resumed.audit (actor, action, at) select 'x', 'pause', now() - age * '1 day'::interval"
            " from unnest(array[40, 20]) age"
        )
    async with open_session(Target(prepared.address(prepared.runner))) as session:
        far = "'infinity'::timestamptz"
        everything = "array(select thread_id from resumed.cases)"
        await session.execute(
            f"select resumed.forget_cases_v1({everything}, {far}), resumed.forget_audit_v1({far}, 100)"
        )
        left = await (await session.execute("select thread_id from resumed.cases order by 1")).fetchall()
        assert [row["thread_id"] for row in left] == ["closed0", "held0", "held40"]
        kept = await (await session.execute("select count(*)::int as entries from resumed.audit")).fetchone()
        assert kept == {"entries": 1}


async def test_each_missing_grant_is_named(prepared: Roles) -> None:
    await check(prepared)
    for thing, rights in LEAST.items():
        for right in rights:
            kind, _, name = thing.partition(" ")
            whom = "public, {}" if kind != "table" else "{}"  # functions, and the schema public, are open to all
            prepared.execute(f"revoke {right} on {kind} {{}} from {whom}", name, prepared.runner)
            if any(f"resumed.{part}" in thing for part in OPTIONAL):
                await check(prepared)
                prepared.execute(f"grant {right} on {kind} {{}} to {{}}", name, prepared.runner)
                continue
            with pytest.raises(DatabaseUnusableError) as refused:
                await check(prepared)
            assert f"the role {prepared.runner} lacks {right} on {thing}: " in str(refused.value)
            prepared.execute(f"grant {right} on {kind} {{}} to {{}}", name, prepared.runner)
    await check(prepared)


async def test_who_only_reads_needs_no_right_to_write(prepared: Roles) -> None:
    for thing, rights in LEAST.items():
        if thing.startswith("table ") and rights - {"SELECT"}:
            prepared.execute("revoke insert, update on {} from {}", thing.removeprefix("table "), prepared.runner)
    await check(prepared, writing=False)
    with pytest.raises(DatabaseUnusableError, match=r"INSERT, UPDATE on table public\.checkpoints"):
        await check(prepared)


@pytest.mark.parametrize(
    ("command", "revoked", "said"),
    [
        ("once", "usage on schema resumed", "USAGE on schema resumed"),
        ("once", "insert on table public.checkpoint_blobs", "INSERT on table public.checkpoint_blobs"),
        ("run", "select on table resumed.schema_version", "SELECT on table resumed.schema_version"),
        ("run", "update on table public.checkpoints", "UPDATE on table public.checkpoints"),
    ],
)
def test_a_daemon_that_lacks_a_grant_ends_with_3_and_one_sentence(
    prepared: Roles, bench: Bench, command: str, revoked: str, said: str
) -> None:
    prepared.execute(f"revoke {revoked} from {{}}", prepared.runner)
    done = bench.resumed(command)
    sentences = [line for line in done.stderr.splitlines() if line.startswith("resumed: ")]
    assert done.returncode == 3, done.stderr
    assert len(sentences) == 1
    assert said in sentences[0]
    assert "deploy/sql/roles.sql" in sentences[0]
    assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_a_grant_that_is_taken_from_a_running_daemon_is_waited_for(prepared: Roles, bench: Bench) -> None:
    daemon = bench.daemon().until_ready()
    prepared.execute("revoke usage on schema resumed from {}", prepared.runner)
    eventually(lambda: ready(daemon.port) == 503)
    assert any("permission denied for schema resumed" in str(line) for line in daemon.lines("database.failed"))
    prepared.execute("grant usage on schema resumed to {}", prepared.runner)
    eventually(lambda: ready(daemon.port) == 200)
    assert daemon.terminate() == 0


def test_before_langgraphs_tables_are_there_it_says_to_come_again_and_the_order_does_not_matter(
    roles: Roles, bench: Bench
) -> None:
    said = roles.apply()
    assert "not migrated yet" in said
    assert "LangGraph's tables are not there yet" in said
    assert bench.resumed("migrate", RESUMED_DATABASE_URL=roles.address(roles.owner)).returncode == 0
    with PostgresSaver.from_conn_string(roles.address(roles.application)) as saver:
        saver.setup()
    assert roles.apply() == ""
    assert roles.grants() == LEAST
    done = bench.resumed("migrate", RESUMED_DATABASE_URL=roles.address(roles.owner))
    assert done.stdout.splitlines()[-1].endswith("built")
    assert bench.resumed("once", RESUMED_DATABASE_URL=roles.address(roles.runner)).returncode == 0


def test_one_run_before_the_first_migrate_is_enough_to_begin(roles: Roles, bench: Bench) -> None:
    with PostgresSaver.from_conn_string(roles.address(roles.application)) as saver:
        saver.setup()
    roles.apply()
    assert bench.resumed("migrate", RESUMED_DATABASE_URL=roles.address(roles.owner)).returncode == 0
    assert bench.resumed("once", RESUMED_DATABASE_URL=roles.address(roles.runner)).returncode == 0


def test_what_another_role_has_migrated_becomes_the_owners(roles: Roles, bench: Bench) -> None:
    with PostgresSaver.from_conn_string(roles.address(roles.application)) as saver:
        saver.setup()
    assert bench.resumed("migrate", RESUMED_DATABASE_URL=roles.admin).returncode == 0
    roles.apply()
    roles.execute("alter table resumed.cases add column later int", role=roles.owner)
    assert roles.grants() == LEAST


def test_langgraphs_tables_of_a_superuser_make_nobody_one(roles: Roles) -> None:
    with PostgresSaver.from_conn_string(roles.admin) as saver:
        saver.setup()
    assert "belong to a role above the owner" in roles.apply()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        roles.execute("create index on checkpoints (checkpoint_id)", role=roles.owner)


def test_the_role_that_langgraphs_tables_belong_to_may_be_the_owner(roles: Roles, bench: Bench) -> None:
    with PostgresSaver.from_conn_string(roles.address(roles.application)) as saver:
        saver.setup()
    same = replace(roles, owner=roles.application)
    same.apply()
    assert bench.resumed("migrate", RESUMED_DATABASE_URL=same.address(same.owner)).returncode == 0
    assert same.apply() == ""
    assert same.grants() == LEAST


def test_an_administrator_who_is_no_superuser_can_run_the_file(roles: Roles, bench: Bench, dba: str) -> None:
    with PostgresSaver.from_conn_string(roles.address(roles.application)) as saver:
        saver.setup()
    roles.apply(dba)
    assert bench.resumed("migrate", RESUMED_DATABASE_URL=roles.address(roles.owner)).stdout.endswith("built\n")
    assert roles.apply(dba) == ""
    assert roles.grants() == LEAST
    assert bench.resumed("once", RESUMED_DATABASE_URL=roles.address(roles.runner)).returncode == 0


@pytest.fixture
def dba(roles: Roles) -> Iterator[str]:
    """An administrator as managed servers give one: makes roles, owns the database, is no superuser."""
    name = f"dba_{uuid.uuid4().hex[:8]}"
    database = str(conninfo.conninfo_to_dict(roles.admin)["dbname"])
    roles.execute(f"create role {{}} login createrole password '{PASSWORD}'", name)
    roles.execute("alter database {} owner to {}", database, name)
    roles.execute("grant {} to {} with admin option", roles.application, name)
    yield name
    roles.execute("alter database {} owner to current_user", database)
    roles.execute("drop owned by {} cascade", name)
    for made in (roles.owner, roles.runner):
        roles.execute("drop owned by {} cascade", made)
        roles.execute("drop role {}", made)
    roles.execute("drop role {}", name)


async def check(roles: Roles, *, writing: bool = True) -> None:
    async with open_session(Target(roles.address(roles.runner))) as session:
        await schema.check(session, writing=writing)


def ready(port: int) -> Any:
    return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code
