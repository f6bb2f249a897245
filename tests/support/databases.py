"""Databases of a test's server: their addresses, and copies of a template."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import conninfo, sql

from support.waiting import eventually

_SESSIONS = "select 1 from pg_stat_activity where application_name = %s"
_STRATEGIES_SINCE = 150000


def in_database(dsn: str, name: str) -> str:
    """Point a connection string at another database of the same server."""
    fields = conninfo.conninfo_to_dict(dsn)
    host, port, user = fields.get("host", "127.0.0.1"), fields.get("port", 5432), fields.get("user", "postgres")
    password = f":{fields['password']}" if fields.get("password") else ""
    return f"postgresql://{user}{password}@{host}:{port}/{name}"


@contextmanager
def copy_of(server_dsn: str, template: str) -> Iterator[str]:
    """Make a database as a copy of another, and drop it at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        # To copy files costs half of what it costs to log them page by page; older servers know no other way.
        how = "strategy file_copy" if connection.info.server_version >= _STRATEGIES_SINCE else ""
        create = sql.SQL("create database {} template {} {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template), sql.SQL(how)))
    yield in_database(server_dsn, name)
    execute(server_dsn, "drop database {} with (force)", name)


def execute(dsn: str, statement: str, *names: str) -> None:
    """Execute a statement outside any transaction, with these identifiers in it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))  # type: ignore[arg-type]


@contextmanager
def outliving_sessions(dsn: str) -> Iterator[dict[str, str]]:
    """Give variables that name the sessions of what is started with them, and end when those sessions have ended.

    What a process was saving as it was killed may be committed after its death, and is when the block has ended.
    """
    name = f"killed {uuid.uuid4().hex[:8]}"
    yield {"PGAPPNAME": name}
    with psycopg.connect(dsn, autocommit=True) as connection:
        eventually(lambda: connection.execute(_SESSIONS, [name]).fetchone() is None, last_look=0.02)
