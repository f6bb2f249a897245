"""What commands print: the documented objects on stdout and nothing else, tables for people, exit codes."""

import json
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.bench import Bench
from support.waiting import eventually

SCANNED = {"thread_id", "workflow", "verdict", "reason", "head", "last_activity", "action", "due_at"}
TRIED = {"attempt", "started_at", "finished_at", "outcome", "error_type", "error", "before", "after", "worker"}
COUNTERS = {
    "resumed_attempts_total": {"workflow", "outcome"},
    "resumed_sweep_rows_total": set(),
    "resumed_lock_contention_total": {"workflow"},
    "resumed_locks_lost_total": set(),
    "resumed_worker_restarts_total": set(),
    "resumed_database_errors_total": {"operation"},
}
HISTOGRAMS = {
    "resumed_attempt_duration_seconds": {"workflow"},
    "resumed_recovery_duration_seconds": {"workflow"},
    "resumed_sweep_duration_seconds": set(),
}
GAUGES = {
    "resumed_inflight_attempts": {"workflow"},
    "resumed_workers": {"state"},
    "resumed_workflow_loaded": {"workflow"},
    "resumed_ready": set(),
    "resumed_sweep_lag_seconds": set(),
    "resumed_last_sweep_timestamp_seconds": set(),
    "resumed_paused": {"workflow"},
    "resumed_circuit_open": {"workflow"},
    "resumed_build_info": {"version", "langgraph", "checkpoint_postgres"},
    "resumed_threads": {"workflow", "state", "verdict"},
    "resumed_due_threads": {"workflow"},
    "resumed_oldest_unfinished_timestamp_seconds": {"workflow"},
}


def test_scan_judges_every_unfinished_thread_and_changes_nothing(bench: Bench) -> None:
    bench.application(2, "linear", "asking", ZOO_DELAY="0.01").wait(30)
    bench.crashed_application(3, "alinear", "fan", ends=len(bench.effects("end")) + 6, ZOO_DELAY="0.3")
    tables = ("checkpoints", "resumed.cases", "resumed.attempts")
    before = [bench.rows(f"select * from {table} order by 1, 2, 3") for table in tables]
    found = {one["thread_id"]: one for one in bench.ask("scan")["threads"]}
    assert [bench.rows(f"select * from {table} order by 1, 2, 3") for table in tables] == before
    threads = {"asking": 2, "alinear": 3, "fan": 3}
    assert set(found) == {f"{name}_{number}" for name, many in threads.items() for number in range(many)}
    assert all(set(one) == SCANNED for one in found.values())
    assert {(one["verdict"], one["action"]) for name, one in found.items() if "asking" in name} == {("waiting", "hold")}
    assert {(one["verdict"], one["action"]) for name, one in found.items() if "asking" not in name} == {
        ("stopped", "resume")
    }


@pytest.mark.thorough
def test_scan_of_a_workflow_of_a_verdict_and_up_to_a_limit(bench: Bench) -> None:
    bench.application(2, "linear", "asking", ZOO_DELAY="0.01").wait(30)
    bench.crashed_application(3, "alinear", "fan", ends=len(bench.effects("end")) + 6, ZOO_DELAY="0.3")
    assert len(bench.ask("scan", "--workflow", "fan")["threads"]) == 3
    assert len(bench.ask("scan", "--verdict", "waiting")["threads"]) == 2
    assert len(bench.ask("scan", "--limit", "4")["threads"]) == 4


def test_a_thread_that_is_not_quiet_yet_is_running_until_it_is(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    found = bench.ask("scan", RESUMED_MIN_AGE="5m")["threads"][0]
    assert (found["verdict"], found["action"], found["due_at"]) == ("running", "wait", None)


def test_a_thread_that_somebody_runs_under_its_lock_is_left_alone(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    with bench.connected() as holder:
        key = "('x' || substr(encode(sha256('resume_linear_0'), 'hex'), 1, 16))::bit(64)::bigint"
        holder.execute(f"select pg_advisory_lock({key})")
        assert bench.ask("scan")["threads"][0]["verdict"] == "running"
        daemon = bench.daemon().until_ready()
        eventually(lambda: daemon.sweeps() >= 5)
        assert not bench.rows("select from resumed.attempts")
    eventually(lambda: bench.all_closed(1))
    assert daemon.terminate() == 0


def test_a_thread_that_was_too_old_when_it_was_first_seen_is_left_alone(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    bench.execute("update checkpoints set checkpoint_id = overlay(checkpoint_id placing '1f0' from 1 for 3)")
    bench.execute("update checkpoint_writes set checkpoint_id = overlay(checkpoint_id placing '1f0' from 1 for 3)")
    show = bench.ask("show", "linear_0")
    assert (show["verdict"], show["action"]) == ("expired", "none")


def test_show_gives_state_evidence_and_attempts(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    before = bench.ask("show", "linear_0")
    assert set(before) == SCANNED | {"state", "evidence", "attempts", "audit", "paused"}
    assert (before["state"], before["verdict"], before["attempts"]) == (None, "stopped", [])
    assert "branch:to:" in before["reason"]
    assert bench.resumed("once", "--wait").returncode == 0
    after = bench.ask("show", "linear_0")
    assert (after["state"], after["verdict"], after["action"]) == ("closed", "finished", "close")
    assert [set(one) for one in after["attempts"]] == [TRIED]
    assert after["attempts"][0]["outcome"] == "finished"
    assert after["attempts"][0]["before"] == before["head"]
    assert after["attempts"][0]["after"] == after["head"]


@pytest.mark.thorough
def test_threads_lists_open_cases_of_a_state(bench: Bench) -> None:
    bench.application(2, "asking", ZOO_DELAY="0.01").wait(30)
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    assert bench.ask("threads")["threads"] == []
    assert bench.resumed("once").returncode == 0
    assert {one["thread_id"] for one in bench.ask("threads", "--state", "held")["threads"]} == {"asking_0", "asking_1"}
    assert bench.ask("threads", "--state", "due")["threads"] == []


def test_once_gives_what_it_tried_and_fails_where_an_attempt_failed(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.crashed_application(1, "fragile", "linear", ends=0, starts=2, ZOO_DELAY="0.5")
    done = bench.resumed("once", "--json", ZOO_BREAK=str(broken), RESUMED_RETRY_BASE="30s")
    assert done.returncode == 1
    attempts = {one["workflow"]: one for one in json.loads(done.stdout)["attempts"]}
    assert attempts["linear"]["outcome"] == "finished"
    assert attempts["fragile"]["outcome"] == "failed"
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.thorough
def test_once_with_wait_does_not_wait_for_a_back_off(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.crashed_application(1, "fragile", ends=0, starts=1, ZOO_DELAY="0.5")
    settings = {"ZOO_BREAK": str(broken), "RESUMED_RETRY_BASE": "1h", "RESUMED_RETRY_CAP": "24h"}
    assert bench.resumed("once", "--wait", **settings).returncode == 1
    assert bench.resumed("once", "--wait", **settings).returncode == 0
    assert bench.one("select count(*) from resumed.attempts") == 1
    assert bench.one("select state from resumed.cases") == "backoff"


@pytest.mark.thorough
def test_tables_for_people_name_every_thread(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    assert "linear_0" in bench.resumed("scan").stdout
    assert "stopped" in bench.resumed("show", "linear_0").stdout
    assert "linear" in bench.resumed("workflows").stdout
    assert bench.resumed("threads").stdout == "no open cases\n"


USUAL = [(0, "once"), (0, "migrate"), (1, "unpause"), (0, "demo --help")]
OTHERS = [
    (0, "scan"), (0, "threads"), (0, "workflows"), (0, "audit"), (0, "survey"), (0, "config"), (0, "doctor"),
    (0, "pause --reason x"), (1, "show nobody"), (1, "resume nobody"), (1, "release nobody"),
    (1, "cancel nobody --reason x"), (1, "quarantine nobody --reason x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "command"), [*USUAL, *(pytest.param(*one, marks=pytest.mark.thorough) for one in OTHERS)]
)
def test_every_command_is_a_process_that_ends_as_it_does_inside_ours(bench: Bench, code: int, command: str) -> None:
    here = bench.resumed(*command.split(), workflows=["linear"])
    bench.execute("delete from resumed.pauses")
    done = bench.resumed(*command.split(), workflows=["linear"], process=True)
    assert (done.returncode, here.returncode) == (code, code), done.stderr + here.stderr
    assert bool(done.stdout) == bool(here.stdout)
    assert "Traceback" not in done.stderr


def test_help_lists_every_command_whole_under_a_heading(bench: Bench) -> None:
    told = bench.resumed("--help").stdout
    headings = ("See it work:", "Look:", "Act:", "Operate:")
    assert sorted(headings, key=told.index) == list(headings)
    commands = told[told.index(headings[0]) :].splitlines()
    lines = [line.strip() for line in commands if line.strip() and line.strip() not in headings]
    assert {line.split()[0] for line in lines} >= {"survey", "scan", "audit", "release", "migrate", "run"}
    assert not [line for line in lines if "..." in line or len(line.split(maxsplit=1)[1]) > 55]


def test_a_shell_can_complete_commands(bench: Bench) -> None:
    done = bench.resumed(process=True, _RESUMED_COMPLETE="complete_bash", COMP_WORDS="resumed sur", COMP_CWORD="1")
    assert done.stdout.split() == ["survey"]


def test_audit_lists_who_did_what_and_why_the_newest_first(bench: Bench) -> None:
    assert bench.ask("audit")["audit"] == []
    assert bench.resumed("--actor", "ann", "pause", "linear", "--reason", "the card service is down").returncode == 0
    assert bench.resumed("--actor", "bob", "unpause", "linear").returncode == 0
    found = bench.ask("audit", "--since", "1h")["audit"]
    assert [(one["actor"], one["action"], one["workflow"]) for one in found] == [
        ("bob", "unpause", "linear"),
        ("ann", "pause", "linear"),
    ]
    assert found[1]["reason"] == "the card service is down"
    assert {one["via"] for one in found} == {"cli"}
    assert "the card service is down" in bench.resumed("audit").stdout
    assert bench.resumed("audit", "--since", "soon").returncode == 2


def test_help_and_version_need_no_settings(bench: Bench) -> None:
    for arguments in (["--help"], ["--version"], ["run", "--help"], ["migrate", "--help"]):
        done = bench.resumed(*arguments, RESUMED_DATABASE_URL="", RESUMED_MIN_AGE="never")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_every_metric_of_the_contract_is_there_from_the_start(bench: Bench) -> None:
    daemon = bench.daemon(["linear", "fan"]).until_ready()
    eventually(lambda: daemon.sweeps() >= 1)
    text = httpx.get(f"http://127.0.0.1:{daemon.port}/metrics").text
    samples: dict[str, list[dict[str, str]]] = {}
    kinds = {}
    for family in text_string_to_metric_families(text):
        kinds[family.name] = family.type
        for one in family.samples:
            samples.setdefault(one.name, []).append(dict(one.labels))
    assert_labels(samples, COUNTERS)
    assert_labels(samples, {f"{name}_count": labels for name, labels in HISTOGRAMS.items()})
    assert_labels(samples, GAUGES)
    counters = {name for name, kind in kinds.items() if kind == "counter"}
    assert {name.removesuffix("_total") for name in COUNTERS} <= counters
    assert {labels["outcome"] for labels in samples["resumed_attempts_total"] if labels["workflow"] == "linear"} == {
        "lock_lost", "superseded", "crashed", "timed_out", "drained", "incompatible", "failed", "finished", "waiting",
        "no_progress",
    }  # fmt: skip
    assert daemon.terminate() == 0


def assert_labels(samples: dict[str, Any], expected: dict[str, set[str]]) -> None:
    assert set(expected) - set(samples) == set()
    assert {name: set(samples[name][0]) for name in expected} == expected
