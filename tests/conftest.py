"""Gives every test a real Postgres: one server a test process, a template database, a fresh copy for each test."""

import asyncio
import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings
from langgraph.checkpoint.postgres import PostgresSaver

from resumed.demo.postgres import PrivateServer
from resumed.store import schema
from resumed.store.connection import Target
from support import preloaded
from support.databases import copy_of, execute, in_database
from support.servers import fresh_server

pytest_plugins = ["support.durations"]
_TEMPLATES = ("bare", "langgraph", "ready")


def pytest_unconfigure() -> None:
    preloaded.end()


# A busy machine is no fault of an example.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure() -> None:
    """Tests decide their own settings: none comes from the shell they are started in."""
    kept = ("RESUMED_TEST_DATABASE_URL", "RESUMED_PG_BIN", "RESUMED_TEST_ALL")
    for name in [name for name in os.environ if name.startswith(("RESUMED_", "PG")) and name not in kept]:
        del os.environ[name]


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """The server that this test process uses, with its templates made."""
    given = os.environ.get("RESUMED_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with fresh_server() as server:
        yield server.dsn()


@pytest.fixture(scope="session")
def templates(server_dsn: str) -> dict[str, str]:
    """Template databases: empty, with LangGraph's tables, with ours too."""
    mark = uuid.uuid4().hex[:8]
    names = {kind: f"resumed_{kind}_{mark}" for kind in _TEMPLATES}
    for name in names.values():
        execute(server_dsn, "create database {}", name)
    for kind in ("langgraph", "ready"):
        with PostgresSaver.from_conn_string(in_database(server_dsn, names[kind])) as saver:
            saver.setup()
    asyncio.run(schema.migrate(Target(in_database(server_dsn, names["ready"]))))
    return names


@pytest.fixture
def database(server_dsn: str, templates: dict[str, str]) -> Iterator[str]:
    """The DSN of a fresh database with LangGraph's tables, our schema and the index."""
    with copy_of(server_dsn, templates["ready"]) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def shared_database(server_dsn: str, templates: dict[str, str]) -> Iterator[str]:
    """One database, ready for use, for all tests of a file, each of which begins with nothing of its kind in it."""
    with copy_of(server_dsn, templates["ready"]) as dsn:
        yield dsn


@pytest.fixture
def langgraph_database(server_dsn: str, templates: dict[str, str]) -> Iterator[str]:
    """The DSN of a fresh database that only LangGraph has been in."""
    with copy_of(server_dsn, templates["langgraph"]) as dsn:
        yield dsn


@pytest.fixture
def bare_database(server_dsn: str, templates: dict[str, str]) -> Iterator[str]:
    """The DSN of a fresh, empty database."""
    with copy_of(server_dsn, templates["bare"]) as dsn:
        yield dsn


@pytest.fixture
def private_server() -> Iterator[PrivateServer]:
    """A server of the test's own, to be stopped, restarted or reached through a pooler."""
    with fresh_server() as server:
        yield server
