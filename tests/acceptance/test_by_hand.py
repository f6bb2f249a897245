"""What a person does at a terminal: resume one thread, examine what is around, see the settings."""

import json
from typing import Any

import pytest

from support.bench import Bench
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

LOCK = "select pg_advisory_lock(('x' || substr(encode(sha256('resume_linear_0'), 'hex'), 1, 16))::bit(64)::bigint)"


def test_resume_makes_one_attempt_now_and_finishes_the_thread(bench: Bench) -> None:
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    done = bench.resumed("resume", "linear_0", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["thread_id"], told["outcome"], told["attempt"]) == ("linear_0", "finished", 1)
    assert final_state(bench.dsn, "linear_0") == undisturbed("linear")
    assert bench.rows("select thread_id, outcome from resumed.attempts") == [
        {"thread_id": "linear_0", "outcome": "finished"}
    ]
    again = bench.resumed("resume", "linear_0")
    assert again.returncode == 1
    assert "finished" in again.stdout


def test_resume_does_not_wait_for_a_back_off_and_releases_a_quarantine_only_by_force(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.crashed_application(1, "fragile", ends=0, starts=1, ZOO_DELAY="0.5")
    failing = {"ZOO_BREAK": str(broken), "RESUMED_RETRY_BASE": "1h", "RESUMED_RETRY_CAP": "24h"}
    failing["RESUMED_MAX_ATTEMPTS"] = "2"
    assert bench.resumed("once", **failing).returncode == 1
    assert bench.one("select state from resumed.cases") == "backoff"
    assert "RuntimeError" in bench.resumed("resume", "fragile_0", "--json", **failing).stdout
    assert bench.one("select consecutive from resumed.cases") == 1
    assert bench.resumed("resume", "fragile_0", **{**failing, "RESUMED_MAX_ATTEMPTS": "1"}).returncode == 1
    assert bench.one("select state from resumed.cases") == "quarantined"
    broken.unlink()
    refused = bench.resumed("resume", "fragile_0", **failing)
    assert refused.returncode == 1
    assert "--force releases it" in refused.stdout
    assert bench.one("select count(*) from resumed.attempts") == 3
    assert bench.resumed("resume", "fragile_0", "--force").returncode == 0
    assert final_state(bench.dsn, "fragile_0") == undisturbed("fragile")


@pytest.mark.parametrize(
    ("workflow", "verdict"),
    [("asking", "waiting"), pytest.param("gated", "breakpoint", marks=pytest.mark.thorough)],
)
def test_resume_never_decides_for_a_person_by_force_or_without(bench: Bench, workflow: str, verdict: str) -> None:
    bench.application(1, workflow, ZOO_DELAY="0.01").wait(30)
    query = "select * from checkpoints order by 1, 2, 3"
    rows = bench.rows(query)
    for force in ([], ["--force"]):
        done = bench.resumed("resume", f"{workflow}_0", "--json", *force)
        assert done.returncode == 1
        assert json.loads(done.stdout)["outcome"] == verdict
    assert bench.rows(query) == rows
    assert bench.rows("select from resumed.attempts") == []


def test_resume_of_a_locked_thread_is_busy(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    with bench.connected() as holder:
        holder.execute(LOCK)
        done = bench.resumed("resume", "linear_0", "--force", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["outcome"] == "busy"
    assert bench.rows("select from resumed.attempts") == []


@pytest.mark.thorough
def test_resume_of_a_thread_that_is_not_quiet_yet_wants_force(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    careful = bench.resumed("resume", "linear_0", RESUMED_MIN_AGE="5m")
    assert careful.returncode == 1
    assert "may still be running" in careful.stdout
    assert bench.resumed("resume", "linear_0", "--force", RESUMED_MIN_AGE="5m").returncode == 0


@pytest.mark.thorough
def test_resume_of_nobodys_thread_says_what_is_missing(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    assert "there is no thread" in bench.resumed("resume", "nobody").stderr
    done = bench.resumed("resume", "linear_0", workflows=["fan"])
    assert done.returncode == 1
    assert "unclaimed" in done.stdout


def test_resume_beside_a_running_daemon_makes_one_attempt_in_all(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="4").until_ready()  # longer than a command takes to start on a busy machine
    eventually(bench.open_attempts)
    done = bench.resumed("resume", "linear_0", "--force", "--json")
    assert json.loads(done.stdout)["outcome"] == "busy"
    eventually(lambda: bench.all_closed(1))
    assert len(bench.rows("select from resumed.attempts")) == 1
    assert daemon.terminate() == 0


def findings(bench: Bench, code: int = 0, **settings: Any) -> dict[str, list[dict[str, Any]]]:
    done = bench.resumed("doctor", "--json", **settings)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        assert set(one) == {"check", "level", "finding", "remedy"}
        assert one["level"] == "ok" or one["remedy"]
        found.setdefault(one["check"], []).append(one)
    return found


def test_doctor_finds_nothing_wrong_with_a_healthy_place(bench: Bench) -> None:
    bench.application(2, "linear", ZOO_DELAY="0.3").wait(30)
    found = findings(bench, workflows=["linear"], RESUMED_MIN_AGE="5m")
    assert {one["level"] for many in found.values() for one in many} == {"ok"}
    assert set(found) == {
        "workflows", "database", "schema", "index", "clock", "connections", "lock table", "min_age", "locks", "pauses",
    }  # fmt: skip
    assert "linear: longest step seen 0." in found["min_age"][0]["finding"]


@pytest.mark.thorough
def test_doctor_warns_of_a_min_age_below_twice_the_longest_step(bench: Bench) -> None:
    bench.application(1, "linear", ZOO_DELAY="1").wait(30)
    found = findings(bench, workflows=["linear"], RESUMED_MIN_AGE="1500ms")
    assert found["min_age"][0]["level"] == "warning"


def test_doctor_names_everything_that_is_wrong(bench: Bench) -> None:
    bench.execute("drop index resumed_checkpoint_id_idx")
    found = findings(bench, code=1, workflows=["linear", "absent=zoo.absent:graph"], RESUMED_CONCURRENCY="5000")
    levels = {check: {one["level"] for one in many} for check, many in found.items()}
    assert levels["index"] == {"warning"}
    assert levels["workflows"] == {"ok", "error"}
    assert levels["connections"] == {"warning"}


@pytest.mark.thorough
def test_doctor_without_a_schema_or_a_database_is_exit_3_and_still_tells_the_rest(bench: Bench) -> None:
    bench.execute("drop schema resumed cascade")
    found = findings(bench, code=3)
    assert "resumed migrate" in found["schema"][0]["finding"]
    assert found["locks"][0]["level"] == "ok"
    found = findings(bench, code=3, RESUMED_DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert found["database"][0]["level"] == "error"
    assert found["workflows"]


def test_config_shows_every_setting_with_its_source_and_no_secret(bench: Bench) -> None:
    bench.folder.joinpath("resumed.toml").write_text('poll_interval = "7s"\nconsole_token = "hunter2"\n')
    done = bench.resumed(
        "config", "--json", RESUMED_DATABASE_URL="postgresql://me:hunter2@host/name", RESUMED_POLL_INTERVAL=""
    )
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    shown = {one["name"]: one for one in json.loads(done.stdout)["settings"]}
    assert shown["poll_interval"] == {"name": "poll_interval", "value": "7s", "source": "file resumed.toml"}
    assert shown["database_url"]["source"] == "environment"
    assert shown["max_age"] == {"name": "max_age", "value": "1d", "source": "default"}
    assert "max_age" in bench.resumed("config").stdout
