"""What becomes of attempts: nodes that raise, workers and sessions that die, entries that cannot be loaded."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.bench import Bench
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

ATTEMPTS = "select outcome, charged, advanced, error_type, error_at, error from resumed.attempts order by attempt"

IMPATIENT = {"RESUMED_TEST_TIMINGS": "thread_grace=1s,stop_grace=1s,stuck_grace=3s,busy_delay=1s"}


def test_a_node_that_raises_is_tried_again_and_at_last_quarantined_without_its_secret_being_told(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.crashed_application(1, "fragile", ends=0, starts=1, ZOO_DELAY="0.5")
    daemon = bench.daemon(RESUMED_MAX_ATTEMPTS="3", ZOO_BREAK=str(broken)).until_ready()
    eventually(lambda: daemon.lines("case.quarantined"))
    attempts = bench.rows(ATTEMPTS)
    assert [one["outcome"] for one in attempts] == ["failed"] * 3
    assert all(one["charged"] and one["error_type"] == "RuntimeError" for one in attempts)
    assert all("nodes.py:" in one["error_at"] for one in attempts)
    case = bench.rows("select state, verdict, quarantine_reason from resumed.cases")
    assert case == [{"state": "quarantined", "verdict": "failed", "quarantine_reason": case[0]["quarantine_reason"]}]
    before = daemon.sweeps()
    eventually(lambda: daemon.sweeps() >= before + 5)
    assert len(bench.rows(ATTEMPTS)) == 3
    told = (
        daemon.log.read_text() + str(bench.rows("select * from resumed.attempts")) + str(bench.ask("show", "fragile_0"))
    )
    assert "password=***" in told
    assert "hunter2" not in told
    assert daemon.terminate() == 0


def test_a_new_version_takes_a_thread_out_of_quarantine_and_finishes_it(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.crashed_application(1, "fragile", ends=0, starts=1, ZOO_DELAY="0.5")
    old = bench.daemon(["fragile=zoo.versions:first"], RESUMED_MAX_ATTEMPTS="2", ZOO_BREAK=str(broken))
    eventually(lambda: bench.rows("select from resumed.cases where state = 'quarantined'"))
    new = bench.daemon(["fragile=zoo.versions:second"])
    eventually(lambda: bench.all_closed(1))
    eventually(lambda: [line["outcome"] for line in new.lines("attempt.finished")] == ["finished"])
    assert final_state(bench.dsn, "fragile_0") == undisturbed("fragile")
    assert [old.terminate(), new.terminate()] == [0, 0]


def test_a_worker_that_is_killed_is_replaced_and_its_attempts_are_closed_and_made_again(bench: Bench) -> None:
    bench.crashed_application(5, "linear", ends=5, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="0.7").until_ready()
    eventually(lambda: bench.open_attempts() == 5)
    os.kill(daemon.workers()[0], signal.SIGKILL)
    eventually(lambda: bench.all_closed(5))
    outcomes = [row["outcome"] for row in bench.rows(ATTEMPTS)]
    assert outcomes.count("crashed") == 5
    assert outcomes.count("finished") == 5
    assert [line["worker"].rpartition("-")[2] for line in daemon.lines("worker.started")] == ["0", "0", "isolation"]
    assert daemon.samples("resumed_worker_restarts_total")[0][1] == 1
    assert all(value == 0 for _, value in daemon.samples("resumed_inflight_attempts"))
    assert daemon.terminate() == 0


def test_an_attempt_whose_session_is_ended_is_lost_and_the_thread_is_finished_by_the_next(bench: Bench) -> None:
    bench.crashed_application(1, "alinear", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="1").until_ready()
    eventually(bench.open_attempts)
    bench.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed attempt'")
    eventually(lambda: bench.all_closed(1))
    assert [row["outcome"] for row in bench.rows(ATTEMPTS)] == ["lock_lost", "finished"]
    assert not any(row["charged"] for row in bench.rows(ATTEMPTS))
    assert daemon.samples("resumed_locks_lost_total")[0][1] == 1
    assert final_state(bench.dsn, "alinear_0") == undisturbed("alinear")
    assert daemon.terminate() == 0


def test_a_node_that_cannot_be_stopped_costs_its_worker_after_its_neighbours_have_drained(bench: Bench) -> None:
    bench.crashed_application(1, "linear", "alinear", ends=2, ZOO_DELAY="0.3")
    daemon = bench.daemon(
        ["linear", "alinear"], ZOO_DELAY="60", RESUMED_ATTEMPT_TIMEOUT="1s", **IMPATIENT
    ).until_ready()
    eventually(lambda: bench.rows("select from resumed.attempts where outcome = 'timed_out'"), deadline=90)
    eventually(lambda: daemon.samples("resumed_worker_restarts_total")[0][1] >= 1)
    charged = bench.rows("select distinct outcome from resumed.attempts where charged")
    assert charged == [{"outcome": "timed_out"}]
    assert daemon.terminate() == 0


BROKEN = ["absent=zoo.absent:graph", "raising=zoo.raising:graph", "dying=zoo.dying:graph", "wrong=zoo.nodes:delay"]


def test_broken_entries_take_nothing_with_them(bench: Bench) -> None:
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    daemon = bench.daemon(["linear", "printing=zoo.printing:graph", *BROKEN])
    eventually(lambda: bench.all_closed(2))
    loaded = {labels["workflow"]: value for labels, value in daemon.samples("resumed_workflow_loaded")}
    assert loaded == {"linear": 1, "printing": 1, "absent": 0, "raising": 0, "dying": 0, "wrong": 0}
    assert {line["workflow"] for line in daemon.lines("workflow.failed")} == {"absent", "raising", "dying", "wrong"}
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_broken_entries_are_named_by_the_command(bench: Bench) -> None:
    told = bench.ask("workflows", workflows=["linear", "printing=zoo.printing:graph", *BROKEN])["workflows"]
    assert {one["name"] for one in told if one["loaded"]} == {"linear", "printing"}
    assert {one["name"] for one in told if one["reason"]} == {"absent", "raising", "dying", "wrong"}


@pytest.mark.thorough
def test_a_dry_run_judges_and_resumes_nothing(bench: Bench) -> None:
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    daemon = bench.daemon(RESUMED_DRY_RUN="true")
    eventually(lambda: due(bench) == 2)
    before = daemon.sweeps()
    eventually(lambda: daemon.sweeps() >= before + 5)
    assert not bench.rows(ATTEMPTS)
    assert daemon.terminate() == 0


def test_no_process_is_left_when_the_control_process_is_killed_amid_its_start(bench: Bench) -> None:
    daemon = bench.daemon()
    eventually(daemon.workers)
    workers = [psutil.Process(pid) for pid in daemon.workers()]
    daemon.kill()
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)


def due(bench: Bench) -> Any:
    return bench.one("select count(*) from resumed.cases where state = 'due'")


@pytest.mark.thorough
def test_callables_context_managers_and_a_langgraph_json_are_registered_alike(bench: Bench) -> None:
    graphs = bench.folder / "langgraph.json"
    place = Path(__file__).parent.parent / "graphs" / "zoo" / "graphs.py"
    graphs.write_text(json.dumps({"graphs": {"sends": f"{place}:sends", "absent": "./absent.py:graph"}}))
    bench.crashed_application(2, "linear", "fan", "sends", ends=6, ZOO_DELAY="0.3")
    entries = ["linear=zoo.factories:called", "fan=zoo.factories:entered", "deadly=zoo.factories:dying"]
    done = bench.resumed("once", "--wait", "--graphs", str(graphs), workflows=entries)
    assert done.returncode == 0, done.stderr
    assert bench.all_closed(2)
    for name in ("linear", "fan", "sends"):
        assert final_state(bench.dsn, f"{name}_0") == undisturbed(name)
    told = bench.ask("workflows", "--graphs", str(graphs), workflows=entries)["workflows"]
    assert {one["name"]: one["loaded"] for one in told} == {
        "linear": True, "fan": True, "sends": True, "deadly": False, "absent": False,
    }  # fmt: skip


@pytest.mark.thorough
def test_a_node_that_ignores_its_cancelling_is_never_run_twice_at_once(bench: Bench) -> None:
    bench.crashed_application(1, "stubborn", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="40", RESUMED_ATTEMPT_TIMEOUT="1s", **IMPATIENT).until_ready()
    eventually(lambda: bench.one("select count(*) from resumed.attempts") >= 2, deadline=90)
    ends = bench.rows("select started_at, finished_at from resumed.attempts order by attempt")
    assert ends[0]["finished_at"] <= ends[1]["started_at"]
    begun = [line for line in bench.effects("start") if line["node"] == "stubborn" and line["attempt"] is not None]
    assert len({line["pid"] for line in begun}) == len(begun)
    assert len(daemon.workers()) >= 2
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_a_child_that_a_node_forked_does_not_keep_a_dead_workers_lock(bench: Bench) -> None:
    bench.crashed_application(1, "forking", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="0.7").until_ready()
    eventually(lambda: [line for line in bench.effects("start") if line["node"] == "forked"])
    os.kill(daemon.workers()[0], signal.SIGKILL)
    eventually(lambda: bench.all_closed(1))
    assert daemon.terminate() == 0


def test_a_thread_that_is_deleted_during_its_attempt_closes_its_case(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="1").until_ready()
    eventually(bench.open_attempts)
    for table in ("checkpoint_writes", "checkpoint_blobs", "checkpoints"):
        bench.execute(f"delete from {table}")
    # A sweep may close the case first: the attempt notices at its next save.
    eventually(lambda: bench.all_closed(1) and not bench.open_attempts())
    assert daemon.terminate() == 0


def test_a_second_schema_of_langgraphs_tables_is_refused(bench: Bench) -> None:
    assert bench.resumed("once").returncode == 0
    bench.execute("create schema other")
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        bench.execute(f"create table other.{table} (like public.{table} including all)")
    done = bench.resumed("once", RESUMED_CHECKPOINT_SCHEMA="other")
    assert done.returncode == 3
    assert "RESUMED_CHECKPOINT_SCHEMA" in done.stderr
