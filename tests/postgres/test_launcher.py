"""The private server: started, stopped, restarted with its data, and gone when its owner is gone."""

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from resumed.demo.postgres import PostgresMissingError, PostgresStartError, PrivateServer, find_binaries

DEADLINE = 60.0
OWNER = """
import sys, time
from pathlib import Path
from resumed.demo.postgres import PrivateServer

server = PrivateServer(Path(sys.argv[1]))
server.start()
print(server.pid, server.dsn(), flush=True)
time.sleep(600)
"""


def _until(question: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while not (answer := question()):
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.02)
    return answer


def _answers(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            return connection.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _execute(server: PrivateServer, *statements: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            cursor = connection.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
        return rows


@pytest.fixture(scope="module")
def standing() -> Iterator[PrivateServer]:
    """A server that the tests which only look at one share."""
    with PrivateServer() as server:
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not there yet, where the server's own user can reach it; removed after the test."""
    place = Path(tempfile.gettempdir()) / f"resumed-test-{uuid.uuid4().hex[:8]}"
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_a_server_that_was_started_answers_on_its_port_only_from_this_machine(standing: PrivateServer) -> None:
    assert _answers(standing.dsn())
    assert _execute(standing, "show listen_addresses") == [("127.0.0.1",)]
    assert _execute(standing, "show port") == [(str(standing.port),)]
    assert _execute(standing, "show server_encoding") == [("UTF8",)]
    assert _execute(standing, "show data_directory") == [(str(standing.data),)]


def test_its_databases_are_reached_by_name(standing: PrivateServer) -> None:
    _execute(standing, "create database shop")
    with psycopg.connect(standing.dsn("shop")) as connection:
        assert connection.info.dbname == "shop"


def test_its_files_are_closed_to_others(standing: PrivateServer) -> None:
    assert standing.data.stat().st_mode & 0o077 == 0
    assert standing.folder.stat().st_uid == standing.data.stat().st_uid


def test_at_the_end_the_server_and_its_folder_are_gone() -> None:
    with PrivateServer() as server:
        pid, folder, dsn = server.pid, server.folder, server.dsn()
        assert pid is not None
        assert _runs(pid)
        assert folder.is_dir()
    assert not _runs(pid)
    assert not folder.exists()
    assert not _answers(dsn)
    assert server.pid is None


def test_the_folder_is_removed_and_the_server_stopped_when_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), PrivateServer() as server:
        raise ZeroDivisionError
    assert not server.folder.exists()
    assert not _answers(server.dsn())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["in order", "as in a crash"])
def test_a_server_that_was_stopped_starts_again_with_its_data_on_its_port(
    private_server: PrivateServer, number: signal.Signals
) -> None:
    _execute(private_server, "create table kept (n int)", "insert into kept values (7)", "checkpoint")
    port, first = private_server.port, private_server.pid
    private_server.stop(number)
    assert not _answers(private_server.dsn())
    private_server.start()
    assert (private_server.port, private_server.pid != first) == (port, True)
    assert _execute(private_server, "select n from kept") == [(7,)]


def test_a_restart_keeps_data_and_address_and_ends_every_session_at_once(private_server: PrivateServer) -> None:
    dsn = private_server.dsn()
    _execute(private_server, "create table kept (n int)", "insert into kept values (7)")
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select pg_advisory_lock(1)")
        began = time.monotonic()
        private_server.restart()
        assert time.monotonic() - began < 20
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    assert private_server.dsn() == dsn
    assert _execute(private_server, "select n from kept") == [(7,)]
    assert _execute(private_server, "select pg_try_advisory_lock(1)") == [(True,)]


def test_a_server_beside_another_has_its_own_data_port_and_options(standing: PrivateServer, folder: Path) -> None:
    with PrivateServer(folder, options=("max_connections=23", "work_mem=5MB")) as other:
        assert other.port != standing.port
        assert _execute(other, "show max_connections") == [("23",)]
        assert _execute(other, "show work_mem") == [("5MB",)]
        _execute(standing, "create table ours (n int)")
        assert _execute(other, "select to_regclass('ours')") == [(None,)]
        other.stop()
        other.stop()
        assert other.pid is None
        assert other.data.is_dir()
    assert _answers(standing.dsn())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_the_server_dies_with_its_owner_however_the_owner_dies(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            pid, dsn = owner.stdout.readline().split()
            assert _answers(dsn)
            children = [child.pid for child in psutil.Process(int(pid)).children(recursive=True)]
            assert children
        finally:
            owner.kill()
    for one in (int(pid), *children):
        _until(lambda one=one: not _runs(one))
    assert not _answers(dsn)


def test_a_server_started_in_a_thread_lives_on_when_the_thread_ends(folder: Path) -> None:
    server = PrivateServer(folder)
    try:
        starting = threading.Thread(target=server.start)
        starting.start()
        starting.join(DEADLINE)
        assert server.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        assert _answers(server.dsn())
    finally:
        server.stop()


def test_without_binaries_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESUMED_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresMissingError, match=r"resumed\[demo\].*RESUMED_PG_BIN"):
        find_binaries()
    with pytest.raises(PostgresMissingError):
        PrivateServer(tmp_path / "server").start()


@pytest.mark.parametrize("present", ["initdb", "postgres"])
def test_half_of_the_binaries_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: str) -> None:
    (tmp_path / present).touch()
    monkeypatch.setenv("RESUMED_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresMissingError):
        find_binaries()


def test_the_binaries_that_are_named_are_used_and_the_callers_variables_of_libpq_are_not(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    named = find_binaries()
    monkeypatch.setenv("RESUMED_PG_BIN", str(named))
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "no_such_locale")
    assert find_binaries() == named
    with PrivateServer(folder) as server:
        assert _execute(server, "show data_directory") == [(str(folder / "data"),)]


def test_a_server_that_cannot_start_says_why_and_leaves_no_process(folder: Path) -> None:
    server = PrivateServer(folder, options=("no_such_setting=1",))
    with pytest.raises(PostgresStartError, match="no_such_setting"):
        server.start()
    assert server.pid is None
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(server.data) in (one.info["cmdline"] or [])]


def test_a_port_that_is_taken_is_named_and_the_server_that_has_it_lives_on(
    standing: PrivateServer, folder: Path
) -> None:
    with pytest.raises(PostgresStartError, match=str(standing.port)):
        PrivateServer(folder, port=standing.port).start()
    assert _answers(standing.dsn())


def test_a_server_that_could_not_start_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESUMED_PG_BIN", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = PrivateServer()
    assert server.folder.parent == tmp_path
    with pytest.raises(PostgresMissingError), server:
        pytest.fail("it has started")
    assert not server.folder.exists()
