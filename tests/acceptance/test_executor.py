"""Runs of an application that uses the executor: a crash is noticed at once, a life never mistaken for a death."""

import os
import random
import time
from pathlib import Path

import psycopg
import pytest

from acceptance.test_crash import assert_one_at_a_time
from resumed.demo.postgres import PrivateServer
from support.bench import Bench
from support.undisturbed import final_state, final_states, undisturbed
from support.waiting import eventually

RUNS = 20
STATES = "select state, count(*)::int as runs from resumed.runs group by 1 order by 1"
ATTEMPTS = "select count(*) from resumed.attempts"


@pytest.mark.parametrize("min_age", ["10m", pytest.param("1s", marks=pytest.mark.thorough)])
def test_the_runs_of_a_killed_application_are_resumed_within_seconds_and_not_before(bench: Bench, min_age: str) -> None:
    slow = {"RESUMED_MIN_AGE": min_age, "RESUMED_POLL_INTERVAL": "1s", "RESUMED_CONCURRENCY": str(2 * RUNS)}
    daemon = bench.daemon(ZOO_DELAY="0.1", **slow).until_ready()
    application = bench.executed(RUNS // 2, "linear", "alinear", ZOO_DELAY="6")
    eventually(lambda: len(bench.effects("start")) == RUNS)
    time.sleep(4)
    assert bench.one(ATTEMPTS) == 0
    assert bench.rows(STATES) == [{"state": "open", "runs": RUNS}]
    application.kill()
    application.wait()
    killed = time.monotonic()
    eventually(lambda: bench.one(ATTEMPTS) == RUNS, 5)
    print(f"all {RUNS} resumed {time.monotonic() - killed:.1f} s after the kill")
    eventually(lambda: bench.rows(STATES) == [{"state": "finished", "runs": RUNS}])
    assert_finished(bench, [f"{kind}_{number}" for kind in ("linear", "alinear") for number in range(RUNS // 2)])
    assert bench.one("select count(*) from resumed.runs where input is not null") == 0
    assert daemon.terminate() == 0


def test_a_run_killed_around_any_statement_before_its_first_checkpoint_is_lost_nowhere(
    bench: Bench, tmp_path: Path
) -> None:
    place = tmp_path / "statements"
    assert bench.executed(1, "alinear", ZOO_SQL=str(place)).wait(60) == 0
    statements = place.read_text().splitlines()
    upto = next(index for index, line in enumerate(statements, 1) if "INTO checkpoints " in line)
    print("\n".join(statements[:upto]))
    begun = next(index for index, line in enumerate(statements, 1) if "resumed.begin_run" in line)
    deaths = [(edge, number) for number in range(1, upto + 1) for edge in ("before", "after")]
    for index, (edge, number) in enumerate(deaths, 1):
        application = bench.executed(1, "alinear", ZOO_FIRST=str(index), ZOO_DIE=f"{edge}:{number}")
        assert application.wait(60) == -9
    registered = [
        index for index, (edge, number) in enumerate(deaths, 1) if number > begun or (edge, number) == ("after", begun)
    ]
    on_record = {row["thread_id"] for row in bench.rows("select thread_id from resumed.runs where ended_at is null")}
    assert on_record == {f"alinear_{index}" for index in registered}
    done = bench.resumed("once", "--wait", RESUMED_MIN_AGE="10m")
    assert done.returncode == 0, done.stderr
    assert_finished(bench, sorted(on_record))
    assert_one_at_a_time(bench)
    assert bench.rows(STATES) == [{"state": "finished", "runs": len(on_record) + 1}]


def test_the_input_of_a_later_turn_is_applied_by_the_daemon(bench: Bench) -> None:
    assert bench.executed(2, "linear").wait(60) == 0
    second = {"ZOO_GIVEN": '{"seen": ["again"]}'}
    assert bench.executed(1, "linear", ZOO_DIE="after:resumed.begin_run", **second).wait(60) == -9
    assert bench.executed(1, "linear", ZOO_DIE="after:INTO checkpoints ", ZOO_FIRST="1", **second).wait(60) == -9
    assert [one["verdict"] for one in bench.ask("scan")["threads"]] == ["stopped", "stopped"]
    assert bench.resumed("once", "--wait", RESUMED_MIN_AGE="10m").returncode == 0
    once = undisturbed("linear")["seen"]
    for number in range(2):
        assert final_state(bench.dsn, f"linear_{number}")["seen"] == sorted([*once, *once, "again"])
    inputs = "select thread_id, count(*)::int as n from checkpoints where metadata->>'source' = 'input' group by 1"
    assert {row["n"] for row in bench.rows(inputs)} == {2}
    assert bench.rows(STATES) == [{"state": "finished", "runs": 4}]


@pytest.mark.parametrize(
    "death",
    [
        "after:resumed.begin_run",
        *(
            pytest.param(one, marks=pytest.mark.thorough)
            for one in ("after:INTO checkpoint_writes", "before:INTO checkpoints ")
        ),
    ],
)
def test_an_answer_that_a_dead_application_had_been_given_reaches_its_question_once(bench: Bench, death: str) -> None:
    assert bench.executed(1, "asking").wait(60) == 0
    assert bench.rows(STATES) == [{"state": "waiting", "runs": 1}]
    assert bench.executed(1, "asking", ZOO_ANSWER='"yes"', ZOO_DIE=death).wait(60) == -9
    assert bench.resumed("once", "--wait", RESUMED_MIN_AGE="10m").returncode == 0
    assert final_state(bench.dsn, "asking_0")["seen"] == ["ask yes", "first", "last"]
    assert bench.rows(STATES) == [{"state": "finished", "runs": 1}, {"state": "waiting", "runs": 1}]


def test_a_run_that_dies_at_its_question_waits_and_is_not_resumed(bench: Bench) -> None:
    daemon = bench.daemon(RESUMED_MIN_AGE="10m").until_ready()
    for kind in ("asking", "gated"):  # each in a process of its own: the death of one must not find the other at work
        assert bench.executed(1, kind, ZOO_DIE="before:resumed.end_run").wait(60) == -9
    eventually(lambda: bench.rows(STATES) == [{"state": "waiting", "runs": 2}])
    before = bench.rows("select checkpoint_id from checkpoints order by 1")
    time.sleep(2)
    assert bench.rows("select checkpoint_id from checkpoints order by 1") == before
    assert bench.one(ATTEMPTS) == 0
    assert daemon.terminate() == 0


def test_a_finished_run_whose_application_died_before_it_said_so_is_not_touched(bench: Bench) -> None:
    daemon = bench.daemon(RESUMED_MIN_AGE="10m").until_ready()
    assert bench.executed(1, "linear", ZOO_DIE="before:resumed.end_run").wait(60) == -9
    eventually(lambda: bench.rows(STATES) == [{"state": "finished", "runs": 1}])
    assert bench.one(ATTEMPTS) == 0
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_live_runs_outlive_restarts_of_postgres_in_their_own_process(
    own: Bench, private_server: PrivateServer, tmp_path: Path
) -> None:
    patient = {"RESUMED_RECONNECT_GRACE": "10s", "RESUMED_POLL_INTERVAL": "200ms", "RESUMED_MIN_AGE": "1s"}
    daemon = own.daemon(**patient).until_ready()
    log = tmp_path / "application.log"
    application = own.executed(25, "linear", "alinear", ZOO_DELAY="4", log=log)
    eventually(lambda: len(own.effects("start")) == 50)
    for _ in range(2):
        private_server.restart()
        time.sleep(3)
    assert application.wait(60) == 0, log.read_text()[-2000:]
    assert own.one(ATTEMPTS) == 0
    assert own.rows(STATES) == [{"state": "finished", "runs": 50}]
    assert_finished(own, [f"{kind}_{number}" for kind in ("linear", "alinear") for number in range(25)])
    assert_one_at_a_time(own)
    assert daemon.terminate() == 0


@pytest.mark.parametrize("grace", ["0s", pytest.param("10s", marks=pytest.mark.thorough)])
def test_after_a_lost_session_either_the_application_or_the_daemon_finishes(
    bench: Bench, tmp_path: Path, grace: str
) -> None:
    daemon = bench.daemon(RESUMED_MIN_AGE="10m", ZOO_DELAY="0.1", RESUMED_RECONNECT_GRACE=grace).until_ready()
    log = tmp_path / "application.log"
    application = bench.executed(1, "linear", ZOO_DELAY="10", log=log)
    eventually(lambda: len(bench.effects("start")) == 1)
    with psycopg.connect(bench.dsn, autocommit=True) as connection:
        query = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed executor'"
        assert connection.execute(query).rowcount == 4
    code = application.wait(90)
    eventually(lambda: bench.rows(STATES) == [{"state": "finished", "runs": 1}])
    own = [row["metadata"] for row in bench.rows("select metadata from checkpoints order by checkpoint_id")]
    writers = ["daemon" if "attempt" in one else "application" for one in own]
    print(code, writers)
    assert (code, "daemon" in writers) in {(0, False), (1, True)}
    if code:
        assert "RunTakenOverError" in log.read_text()
        assert writers == sorted(writers)
    assert final_state(bench.dsn, "linear_0") == undisturbed("linear")
    assert daemon.terminate() == 0


def test_every_submitted_input_finishes_one_thread_whoever_is_killed(bench: Bench, tmp_path: Path) -> None:
    each = 250 if os.environ.get("RESUMED_TEST_ALL") else 60
    place = tmp_path / "submitted"
    dice = random.Random()
    applications = [
        bench.executed(each, "alinear", ZOO_FIRST=str(one * each), ZOO_SUBMIT=str(place)) for one in range(4)
    ]
    for application in dice.sample(applications, 3):
        goal = len(submitted(place)) + dice.randrange(each // 3)
        eventually(lambda goal=goal: len(submitted(place)) >= goal)
        application.kill()
    eventually(lambda: all(application.poll() is not None for application in applications))
    returned = submitted(place)
    print(f"{len(returned)} ids were given back")
    assert len(returned) == len(set(returned)) >= each
    bench.daemon(ZOO_DELAY="0", RESUMED_CONCURRENCY="20", RESUMED_MIN_AGE="10m")
    stored = {row["thread_id"] for row in bench.rows("select thread_id from resumed.runs")}
    assert set(returned) <= stored
    eventually(lambda: bench.rows(STATES) == [{"state": "finished", "runs": len(stored)}], 120)
    assert_finished(bench, sorted(stored))
    inputs = bench.rows(
        "select thread_id, count(*)::int as n from checkpoints where metadata->>'source' = 'input' group by 1"
    )
    assert {row["n"] for row in inputs} == {1}


def submitted(place: Path) -> list[str]:
    return place.read_text().split() if place.exists() else []


def assert_finished(bench: Bench, threads: list[str]) -> None:
    expected = {kind: undisturbed(kind) for kind in {thread.rpartition("_")[0] for thread in threads}}
    found = final_states(bench.dsn, threads)
    assert found == {thread: expected[thread.rpartition("_")[0]] for thread in threads}


def test_a_submitted_run_that_a_person_cancels_is_never_begun(bench: Bench, tmp_path: Path) -> None:
    assert bench.executed(3, "linear", ZOO_SUBMIT=str(tmp_path / "submitted")).wait(60) == 0
    assert bench.resumed("cancel", "linear_0", "--reason", "a mistake").returncode == 0
    assert bench.resumed("quarantine", "linear_1", "--reason", "let me look").returncode == 0
    assert bench.resumed("once", "--wait").returncode == 0
    states = "select thread_id, state from resumed.runs order by begun_at"
    found = [tuple(row.values()) for row in bench.rows(states)]
    assert found == [("linear_0", "cancelled"), ("linear_1", "submitted"), ("linear_2", "finished")]
    assert bench.resumed("release", "linear_1").returncode == 0
    assert bench.executed(1, "linear").wait(60) == 0
    assert bench.resumed("once", "--wait").returncode == 0
    assert_finished(bench, ["linear_0", "linear_1", "linear_2"])
    assert bench.resumed("scan").stdout.count("linear_") == 0
