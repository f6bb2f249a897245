"""Sessions of a worker go where its control process said, whatever user code sets, and no forked child ends them."""

import gc
import os

import pytest
from psycopg import pq

from resumed.store.connection import Target, connect, one_row
from resumed.store.libpq_environment import close_sessions_in_fork, complete_dsn

VARIABLES = [one.envvar.decode() for one in pq.Conninfo.get_defaults() if one.envvar and one.envvar != b"PGSERVICE"]
WHO = b"select current_database() as name, pg_backend_pid() as pid"


@pytest.mark.parametrize("variable", [*VARIABLES, None])
async def test_no_variable_that_user_code_sets_changes_where_or_how_we_connect(
    database: str, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = complete_dsn(database)
    for name in [variable] if variable is not None else VARIABLES:
        monkeypatch.setenv(name, "rubbish")
    session = await connect(Target(dsn))
    try:
        assert (await one_row(session, WHO))["name"] == database.rpartition("/")[2]
    finally:
        await session.close()


def test_what_is_given_and_what_the_environment_said_at_the_start_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "first.example")
    monkeypatch.setenv("PGUSER", "somebody")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    said = complete_dsn("postgresql://me@/name?sslmode=require")
    for part in ("host=first.example", "user=me", "dbname=name", "sslmode=require", "connect_timeout=7"):
        assert part in said.split()


async def test_a_forked_child_leaves_the_sessions_of_the_worker_alone(database: str) -> None:
    session = await connect(Target(database))
    before = (await one_row(session, WHO))["pid"]
    child = os.fork()
    if child == 0:
        try:
            close_sessions_in_fork()
            os.write(session.fileno(), b"X\x00\x00\x00\x04")  # the end of a session, as libpq would say it
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (await one_row(session, WHO))["pid"] == before
    await session.close()
