"""The self-test of the locks, against real Postgres and through a real PgBouncer in each of its pool modes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import conninfo

from resumed import AsyncWorkflowExecutor
from resumed.demo.postgres import PrivateServer, find_binaries
from resumed.errors import DatabaseUnreachableError, DatabaseUnusableError
from resumed.store import schema
from resumed.store.connection import Target
from resumed.store.lock_selftest import run_lock_selftest
from support.databases import in_database

COMMAND = Path(sys.executable).parent / "resumed"
PGBOUNCER = Path("/usr/sbin/pgbouncer")
DEADLINE = 60.0
needs_pgbouncer = pytest.mark.skipif(not PGBOUNCER.exists(), reason="pgbouncer is not installed (apt: pgbouncer)")
SENTENCE = "transaction pooler"


@dataclass(frozen=True)
class Pooler:
    """A PgBouncer before a server; `dsn` leads to a database of that server through it."""

    port: int

    def dsn(self, direct: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{conninfo.conninfo_to_dict(direct)['dbname']}"


@contextmanager
def _pooler(server_dsn: str, folder: Path, mode: str, **settings: str) -> Iterator[Pooler]:
    fields = conninfo.conninfo_to_dict(server_dsn)
    password = f" password={fields['password']}" if fields.get("password") else ""
    port = _free_port()
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "ignore_startup_parameters": "extra_float_digits",
        **settings,
    }
    ini = folder / f"pgbouncer-{mode}.ini"
    ini.write_text(
        f"[databases]\n* = host={fields.get('host', '127.0.0.1')} port={fields.get('port', 5432)}"
        f" user={fields.get('user', 'postgres')}{password}\n"
        "[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    unprivileged = ["-u", "nobody"] if os.geteuid() == 0 else []
    log = folder / f"pgbouncer-{mode}.log"
    with log.open("wb") as told, subprocess.Popen([PGBOUNCER, *unprivileged, ini], stdout=told, stderr=told) as process:
        try:
            _until_it_answers(process, f"postgresql://postgres@127.0.0.1:{port}/{fields['dbname']}", log)
            yield Pooler(port)
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_it_answers(process: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        assert process.poll() is None, log.read_text()[-1000:]
        try:
            with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            assert time.monotonic() < end, log.read_text()[-1000:]
            time.sleep(0.02)
        else:
            return


def _environment(dsn: str, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESUMED_", "PG"))}
    fast = {"RESUMED_RECONNECT_GRACE": "0s", "RESUMED_HTTP_HOST": "127.0.0.1", "RESUMED_HTTP_PORT": "0"}
    return {**kept, **fast, "RESUMED_DATABASE_URL": dsn, **settings}


def _once(dsn: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "once"], env=_environment(dsn), cwd=folder, capture_output=True, text=True, timeout=DEADLINE,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


async def test_postgres_itself_passes(database: str) -> None:
    await run_lock_selftest(Target(database))


async def test_it_leaves_no_lock_and_no_session_behind(database: str) -> None:
    await run_lock_selftest(Target(database))
    with psycopg.connect(database, autocommit=True) as connection:
        end = time.monotonic() + DEADLINE
        left = "select count(*) from pg_stat_activity where application_name = 'resumed self-test'"
        while connection.execute(f"{left} and datname = current_database()").fetchone() != (0,):
            assert time.monotonic() < end
            time.sleep(0.02)
        locks = "select count(*) from pg_locks where locktype = 'advisory' and database = "
        mine = "(select oid from pg_database where datname = current_database())"
        assert connection.execute(locks + mine).fetchone() == (0,)


async def test_many_replicas_that_test_at_once_do_not_disturb_each_other(database: str) -> None:
    await asyncio.gather(*(run_lock_selftest(Target(database)) for _ in range(8)))


async def test_it_passes_while_every_lock_of_the_application_is_held(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as application:
        application.execute("select pg_advisory_lock(n) from generate_series(1, 500) n")
        await run_lock_selftest(Target(database))


@needs_pgbouncer
async def test_a_pooler_in_session_mode_passes(database: str, tmp_path: Path) -> None:
    with _pooler(database, tmp_path, "session") as pooler:
        await run_lock_selftest(Target(pooler.dsn(database)))


@needs_pgbouncer
@pytest.mark.parametrize(
    "settings",
    [{}, {"server_round_robin": "1"}, {"default_pool_size": "3"}],
    ids=["as it comes", "round robin", "a pool of three"],
)
async def test_a_pooler_in_transaction_mode_is_refused(database: str, tmp_path: Path, settings: dict[str, str]) -> None:
    refused = pytest.raises(DatabaseUnusableError, match=SENTENCE)
    with _pooler(database, tmp_path, "transaction", **settings) as pooler, refused:
        await run_lock_selftest(Target(pooler.dsn(database)))


@needs_pgbouncer
async def test_a_pooler_in_statement_mode_is_refused(database: str, tmp_path: Path) -> None:
    with _pooler(database, tmp_path, "statement") as pooler, pytest.raises(DatabaseUnusableError, match=SENTENCE):
        await run_lock_selftest(Target(pooler.dsn(database)))


@needs_pgbouncer
def test_the_command_ends_with_3_and_one_sentence_at_a_pooler_in_transaction_mode(
    database: str, tmp_path: Path
) -> None:
    with _pooler(database, tmp_path, "transaction") as pooler:
        done = _once(pooler.dsn(database), tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("resumed: ")
    assert done.stderr.count("\n") == 1
    assert SENTENCE in done.stderr
    assert "direct connection" in done.stderr


async def test_a_database_that_cannot_be_reached_is_not_called_unusable() -> None:
    with pytest.raises(DatabaseUnreachableError):
        await run_lock_selftest(Target(f"postgresql://postgres@127.0.0.1:{_free_port()}/postgres"))


async def test_a_database_that_does_not_exist_is_unusable(server_dsn: str) -> None:
    with pytest.raises(DatabaseUnusableError, match="does not exist"):
        await run_lock_selftest(Target(in_database(server_dsn, "no_such_database")))


async def test_a_standby_is_refused_by_name_and_by_the_command(private_server: PrivateServer, tmp_path: Path) -> None:
    with PostgresSaver.from_conn_string(private_server.dsn()) as saver:
        saver.setup()
    await schema.migrate(Target(private_server.dsn()))
    private_server.stop()
    with _standby(private_server, tmp_path):
        with pytest.raises(DatabaseUnusableError, match=r"standby.*primary"):
            await run_lock_selftest(Target(private_server.dsn()))
        done = _once(private_server.dsn(), tmp_path)
    assert done.returncode == 3
    assert "standby" in done.stderr
    assert done.stderr.count("\n") == 1


@contextmanager
def _standby(server: PrivateServer, folder: Path) -> Iterator[None]:
    """Start the stopped server's data as a standby that has no primary to follow."""
    (server.data / "standby.signal").touch()
    settings = [f"port={server.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"]
    options = [part for setting in settings for part in ("-c", setting)]
    command = [find_binaries() / "postgres", "-D", server.data, *options]
    user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    log = folder / "standby.log"
    with (
        log.open("wb") as told,
        subprocess.Popen(command, cwd=server.folder, stdout=told, stderr=told, **user) as process,
    ):
        try:
            _until_it_answers(process, server.dsn(), log)
            yield
        finally:
            process.send_signal(signal.SIGINT)


@needs_pgbouncer
async def test_the_executor_refuses_a_transaction_pooler(database: str, tmp_path: Path) -> None:
    with _pooler(database, tmp_path, "transaction") as pooler:
        executor = AsyncWorkflowExecutor(pooler.dsn(database))
        with pytest.raises(DatabaseUnusableError, match=SENTENCE):
            await executor.__aenter__()
