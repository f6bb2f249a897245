"""What people get wrong: one clear sentence on stderr, the documented exit code, no traceback, no password."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from resumed.demo.postgres import PrivateServer
from support.bench import Bench
from support.daemon import Daemon
from support.servers import fresh_server
from support.waiting import eventually

DATABASE_COMMANDS = (["run"], ["once"], ["scan"], ["threads"], ["show", "linear_0"], ["resume", "linear_0"])
READING = [command for command in DATABASE_COMMANDS if command != ["run"]]
SECRET = "hunter2"  # noqa: S105 - the very thing that must not be seen


def refused(done: Any, code: int, *said: str) -> None:
    """The command ended with this code and said these words in one sentence of its own."""
    sentences = [line for line in done.stderr.splitlines() if line.startswith("resumed: ")]
    assert done.returncode == code, done.stderr
    assert len(sentences) == 1, done.stderr
    assert all(words in sentences[0] for words in said), sentences[0]
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr + done.stdout


@pytest.mark.parametrize("command", [["once"], ["scan"], ["threads"], ["show", "linear_0"], ["migrate"]])
def test_a_database_that_cannot_be_reached_is_exit_3(bench: Bench, command: list[str]) -> None:
    address = f"postgresql://user:{SECRET}@127.0.0.1:1/name"
    refused(bench.resumed(*command, RESUMED_DATABASE_URL=address), 3, "cannot be reached", "check that it runs")


def test_run_waits_for_its_database_alive_and_not_ready_and_then_judges_it(bench: Bench) -> None:
    with fresh_server() as server:
        server.stop()
        daemon = bench.daemon(RESUMED_DATABASE_URL=server.dsn())
        assert eventually(lambda: get(daemon, "livez")).status_code == 200
        assert get(daemon, "readyz").status_code == 503
        assert "resumed_ready 0.0" in get(daemon, "metrics").text
        server.start()
        assert daemon.process.wait(30) == 3
        assert "run `resumed migrate`" in daemon.log.read_text()


@pytest.mark.thorough
def test_a_running_daemon_outlives_its_database(bench: Bench) -> None:
    with fresh_server() as server:
        assert bench.resumed("migrate", RESUMED_DATABASE_URL=server.dsn()).returncode == 0
        setup(server.dsn())
        bench.dsn = server.dsn()
        daemon = bench.daemon().until_ready()
        server.stop()
        eventually(lambda: get(daemon, "readyz").status_code == 503)
        assert get(daemon, "livez").status_code == 200
        server.start()
        eventually(lambda: get(daemon, "readyz").status_code == 200)
        bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
        eventually(lambda: bench.all_closed(2))
        assert daemon.terminate() == 0


@pytest.mark.parametrize("command", [*DATABASE_COMMANDS, ["migrate"]])
def test_a_wrong_password_is_exit_3_and_is_not_repeated(bench: Bench, guarded: str, command: list[str]) -> None:
    done = bench.resumed(*command, RESUMED_DATABASE_URL=guarded)
    refused(done, 3, "password authentication failed", "RESUMED_DATABASE_URL")


@pytest.mark.parametrize("command", DATABASE_COMMANDS)
def test_a_database_without_our_schema_names_the_command_that_makes_it(bench: Bench, command: list[str]) -> None:
    bench.execute("drop schema resumed cascade")
    refused(bench.resumed(*command), 3, "run `resumed migrate`")


@pytest.mark.parametrize("command", [*DATABASE_COMMANDS, ["migrate"]])
def test_a_schema_that_is_too_new_asks_for_a_newer_release(bench: Bench, command: list[str]) -> None:
    bench.execute("insert into resumed.schema_version (version, compatible_from) values (99, 99)")
    refused(bench.resumed(*command), 3, "99", "upgrade resumed")


@pytest.mark.parametrize("command", DATABASE_COMMANDS)
def test_missing_tables_of_langgraph_say_whose_they_are(bench: Bench, command: list[str]) -> None:
    bench.execute("drop table checkpoint_writes")
    refused(bench.resumed(*command), 3, "checkpoint_writes", "setup()", "RESUMED_CHECKPOINT_SCHEMA")


@pytest.mark.thorough
def test_without_the_index_everything_works_and_the_daemon_says_what_is_missing(bench: Bench) -> None:
    bench.execute("drop index resumed_checkpoint_id_idx")
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    daemon = bench.daemon()
    eventually(lambda: bench.all_closed(2))
    assert len(daemon.lines("index.missing")) == 1
    assert "resumed migrate" in daemon.lines("index.missing")[0]["reason"]
    assert daemon.terminate() == 0


def test_without_workflows_nothing_is_touched_and_it_says_how_to_register_one(bench: Bench) -> None:
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    done = bench.resumed("once", "--wait", workflows=[])
    assert done.returncode == 0, done.stderr
    assert "resumed.workflows" in done.stderr
    assert {row["verdict"] for row in bench.rows("select verdict from resumed.cases")} == {"unclaimed"}
    assert "resumed.workflows" in bench.resumed("workflows", workflows=[]).stdout


def test_an_unknown_setting_in_the_file_stops_the_start(bench: Bench) -> None:
    bench.folder.joinpath("resumed.toml").write_text('pol_interval = "5s"\n')
    refused(bench.resumed("scan"), 2, "pol_interval", "poll_interval")


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(bench: Bench) -> None:
    done = bench.resumed("scan", RESUMED_POL_INTERVAL="5s")
    assert done.returncode == 0
    assert "RESUMED_POL_INTERVAL" in done.stderr
    assert "RESUMED_POLL_INTERVAL" in done.stderr


def test_what_kubernetes_injects_for_a_service_is_ignored(bench: Bench) -> None:
    injected = {
        "RESUMED_PORT": "tcp://10.0.0.1:9764",
        "RESUMED_PORT_9764_TCP": "tcp://10.0.0.1:9764",
        "RESUMED_PORT_9764_TCP_PORT": "9764",
        "RESUMED_SERVICE_HOST": "10.0.0.1",
        "RESUMED_SERVICE_PORT": "9764",
        "RESUMED_HTTP_PORT": "tcp://10.0.0.1:9764",
    }
    done = bench.resumed("scan", **injected)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("RESUMED_MIN_AGE", "-5s"),
        ("RESUMED_POLL_INTERVAL", "0s"),
        ("RESUMED_POLL_INTERVAL", "soon"),
        ("RESUMED_MAX_AGE", "1m"),
        ("RESUMED_RETRY_CAP", "1s"),
        ("RESUMED_CONCURRENCY", "0"),
        ("RESUMED_HTTP_PORT", "99999"),
        ("RESUMED_DATABASE_URL", f"postgres//user:{SECRET}@host/name"),
    ],
)
def test_an_impossible_value_names_its_setting(bench: Bench, setting: str, value: str) -> None:
    extra = {"RESUMED_MIN_AGE": "5m", "RESUMED_RETRY_BASE": "30s", setting: value}
    refused(bench.resumed("scan", **extra), 2, setting)


@pytest.mark.parametrize(
    "thread",
    ["nobody's", "x" * 10_000, "o'clock \"; drop table checkpoints; --", "two\nlines\x1b[31m", "%s%(a)s"],
)
def test_a_thread_that_does_not_exist_is_exit_1_whatever_its_name(bench: Bench, thread: str) -> None:
    done = bench.resumed("show", thread)
    refused(done, 1, "there is no thread")
    assert len(done.stderr) < 300
    assert "\x1b" not in done.stderr


def test_a_nul_in_a_thread_id_is_wrong_usage(bench: Bench) -> None:
    done = bench.resumed("show", "-", given="linear\0_0\n")
    refused(done, 2, "NUL")


@pytest.mark.parametrize(
    "thread",
    [
        'o\'clock "quoted"; --',
        *(pytest.param(one, marks=pytest.mark.thorough) for one in ("two\nlines\ttab", "é✓ " * 200, "%s%(a)s")),
    ],
)
def test_a_thread_with_an_odd_name_is_found_and_finished_like_any_other(bench: Bench, thread: str) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    for table in ("checkpoints", "checkpoint_writes", "checkpoint_blobs"):
        bench.execute(f"update {table} set thread_id = %(thread)s", thread=thread)
    assert [one["thread_id"] for one in bench.ask("scan")["threads"]] == [thread]
    assert bench.resumed("once", "--wait").returncode == 0
    told = bench.ask("show", thread)
    assert (told["thread_id"], told["verdict"], told["state"]) == (thread, "finished", "closed")


def test_a_port_that_is_taken_is_exit_2(bench: Bench) -> None:
    holder = bench.daemon().until_ready()
    refused(bench.resumed("run", RESUMED_HTTP_PORT=str(holder.port)), 2, "is taken", "RESUMED_HTTP_PORT")
    assert holder.terminate() == 0


def test_a_file_of_graphs_that_is_not_there_is_exit_2_and_one_that_is_no_json_is_unavailable(bench: Bench) -> None:
    refused(bench.resumed("scan", "--graphs", "absent.json"), 2, "absent.json", "--graphs")
    refused(bench.resumed("run", RESUMED_GRAPHS="absent.json"), 2, "RESUMED_GRAPHS")
    bench.folder.joinpath("broken.json").write_text("{")
    told = bench.ask("workflows", "--graphs", "broken.json", workflows=["linear"])["workflows"]
    assert {one["name"]: one["loaded"] for one in told} == {"broken.json": False, "linear": True}


@pytest.mark.thorough
def test_two_entries_with_one_name_are_both_unavailable(bench: Bench) -> None:
    graphs = bench.folder / "langgraph.json"
    graphs.write_text('{"graphs": {"linear": "zoo.graphs:linear", "fan": "zoo.graphs:fan"}}')
    told = bench.ask("workflows", "--graphs", str(graphs), workflows=["linear"])["workflows"]
    assert {one["name"]: one["loaded"] for one in told} == {"linear": False, "fan": True}


@pytest.mark.parametrize("command", [["config"], ["doctor"]])
def test_commands_about_settings_refuse_impossible_ones(bench: Bench, command: list[str]) -> None:
    refused(bench.resumed(*command, RESUMED_POLL_INTERVAL="soon"), 2, "RESUMED_POLL_INTERVAL")
    refused(bench.resumed("--config", "absent.toml", *command), 2, "absent.toml")


@pytest.mark.parametrize(
    "arguments",
    [["resume"], ["doctor", "now"], ["walk"], ["scan", "--verdict", "happy"], ["scan", "--limit", "0"], ["show"]],
)
def test_wrong_usage_is_exit_2(bench: Bench, arguments: list[str]) -> None:
    done = bench.resumed(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def get(daemon: Daemon, path: str) -> Any:
    return httpx.get(f"http://127.0.0.1:{daemon.port}/{path}")


def setup(dsn: str) -> None:
    from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415 - only this one needs it

    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """An address with a wrong password, on a server that asks for one."""
    with fresh_server() as server:
        yield guard(server)


def guard(private_server: PrivateServer) -> str:
    with psycopg.connect(private_server.dsn(), autocommit=True) as connection:
        connection.execute("create role guarded login password 'right'")
        rules = private_server.data / "pg_hba.conf"
        rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        connection.execute("select pg_reload_conf()")
    return private_server.dsn().replace("postgres@", f"guarded:{SECRET}@")
