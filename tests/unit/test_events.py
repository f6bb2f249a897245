"""What the daemon says and counts: the documented keys, names, labels, and nothing that it must not tell."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from resumed.model import Attempt, Outcome, Registration, State, ThreadCount, Verdict
from resumed.observability import logs
from resumed.observability.events import Events, configure
from resumed.observability.metrics import BUCKETS
from resumed.observability.redaction import ErrorReport
from support.limits import DEFAULT_LIMITS

WORKFLOW = {"workflow"}
DOCUMENTED = {
    "resumed_attempts": ("counter", {"workflow", "outcome"}),
    "resumed_quarantined": ("counter", WORKFLOW),
    "resumed_acts": ("counter", {"action", "via"}),
    "resumed_console_requests": ("counter", {"code"}),
    "resumed_webhook_failures": ("counter", set()),
    "resumed_sweep_rows": ("counter", set()),
    "resumed_lock_contention": ("counter", WORKFLOW),
    "resumed_locks_lost": ("counter", set()),
    "resumed_worker_restarts": ("counter", set()),
    "resumed_database_errors": ("counter", {"operation"}),
    "resumed_pruned_threads": ("counter", {"workflow", "strategy"}),
    "resumed_prune_refused": ("counter", {"reason"}),
    "resumed_attempt_duration_seconds": ("histogram", WORKFLOW),
    "resumed_recovery_duration_seconds": ("histogram", WORKFLOW),
    "resumed_sweep_duration_seconds": ("histogram", set()),
    "resumed_inflight_attempts": ("gauge", WORKFLOW),
    "resumed_workers": ("gauge", {"state"}),
    "resumed_workflow_loaded": ("gauge", WORKFLOW),
    "resumed_ready": ("gauge", set()),
    "resumed_sweep_lag_seconds": ("gauge", set()),
    "resumed_last_sweep_timestamp_seconds": ("gauge", set()),
    "resumed_paused": ("gauge", WORKFLOW),
    "resumed_circuit_open": ("gauge", WORKFLOW),
    "resumed_build_info": ("gauge", {"version", "langgraph", "checkpoint_postgres"}),
    "resumed_threads": ("gauge", {"workflow", "state", "verdict"}),
    "resumed_due_threads": ("gauge", WORKFLOW),
    "resumed_oldest_unfinished_timestamp_seconds": ("gauge", WORKFLOW),
    "resumed_oldest_thread_timestamp_seconds": ("gauge", {"workflow", "state"}),
    "resumed_suspect_threads": ("gauge", set()),
    "resumed_attempt_slots": ("gauge", set()),
    "resumed_attempt_ceiling": ("gauge", set()),
    "resumed_min_age_seconds": ("gauge", WORKFLOW),
    "resumed_longest_step_seconds": ("gauge", WORKFLOW),
    "resumed_workflow_info": ("gauge", {"workflow", "version"}),
    "resumed_clock_skew_seconds": ("gauge", set()),
    "resumed_index_present": ("gauge", set()),
    "resumed_dry_run": ("gauge", set()),
    "process_cpu_seconds": ("counter", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_virtual_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_max_fds": ("gauge", set()),
}
KEYS = {
    "thread_id",
    "workflow",
    "attempt",
    "worker",
    "before",
    "after",
    "outcome",
    "duration_ms",
    "error_type",
    "error_at",
    "error",
}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STARTED = Attempt(
    thread_id="orders_1",
    attempt=3,
    workflow="orders",
    version="1",
    worker="host/1",
    started_at=NOW,
    finished_at=None,
    outcome=None,
    advanced=False,
    before="head-1",
    after=None,
    error_type=None,
    error_at=None,
    error=None,
)
FINISHED = replace(STARTED, finished_at=NOW + timedelta(seconds=2), outcome=Outcome.FINISHED, after="head-2")
FAILED = replace(
    FINISHED, outcome=Outcome.FAILED, error_type="ValueError", error_at="graphs.py:7", error="password=hunter2 is wrong"
)


@pytest.fixture(autouse=True)
def _json_lines() -> Iterator[None]:
    before = logging.root.handlers[:], logging.root.level
    configure("json", "debug")
    yield
    logging.captureWarnings(capture=False)
    logging.root.handlers[:] = before[0]
    logging.root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.fixture
def events() -> Events:
    made = Events()
    made.workflow_known("orders")
    made.workflows_registered([registration("orders", "1")])
    return made


def registration(name: str, version: str, **limits: Any) -> Registration:
    return Registration(name, version, (), (), replace(DEFAULT_LIMITS, **limits), NOW)


def lines(capture: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged since the last look; every line must be a JSON object, and stdout stay empty."""
    output = capture.readouterr()
    assert output.out == ""
    return [json.loads(line) for line in output.err.splitlines()]


def value(events: Events, name: str, **labels: str) -> float | None:
    """Return a sample as Prometheus would read it."""
    body, _ = events.render()
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    return next((sample.value for sample in samples if sample.name == name and sample.labels == labels), None)


def test_the_metrics_are_those_of_the_contract_with_its_labels(events: Events) -> None:
    body, content_type = events.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families.keys() == DOCUMENTED.keys()
    for name, (kind, labels) in DOCUMENTED.items():
        assert families[name].type == kind
        assert families[name].samples, f"{name} has no child from the start"
        assert {label for sample in families[name].samples for label in sample.labels} - {"le"} == labels
        assert families[name].documentation


def test_every_child_exists_from_the_start_at_0(events: Events) -> None:
    for outcome in Outcome:
        assert value(events, "resumed_attempts_total", workflow="orders", outcome=outcome) == 0
    for operation in ("sweep", "dispatch", "attempt", "close", "self_test", "http"):
        assert value(events, "resumed_database_errors_total", operation=operation) == 0
    for state in ("starting", "ready", "draining", "isolation"):
        assert value(events, "resumed_workers", state=state) == 0
    for workflow in ("", "orders"):
        assert value(events, "resumed_due_threads", workflow=workflow) == 0
        assert value(events, "resumed_threads", workflow=workflow, state="held", verdict="waiting") == 0
        for state in ("due", "running", "backoff", "held", "quarantined"):
            assert value(events, "resumed_oldest_thread_timestamp_seconds", workflow=workflow, state=state) == 0
    for name in (
        "quarantined_total", "inflight_attempts", "workflow_loaded", "paused", "circuit_open", "longest_step_seconds",
    ):  # fmt: skip
        assert value(events, f"resumed_{name}", workflow="orders") == 0
    for name in (
        "attempt_slots", "attempt_ceiling", "clock_skew_seconds", "index_present", "dry_run", "suspect_threads",
        "webhook_failures_total",
    ):  # fmt: skip
        assert value(events, f"resumed_{name}") == 0
    assert value(events, "resumed_console_requests_total", code="401") == 0
    assert value(events, "resumed_recovery_duration_seconds_count", workflow="orders") == 0


def test_the_buckets_reach_from_a_tenth_of_a_second_to_a_day() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (0.1, 86_400)
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_two_sets_of_metrics_live_in_one_process(events: Events) -> None:
    Events().attempt_started(STARTED)
    assert value(events, "resumed_inflight_attempts", workflow="orders") == 0


def test_the_versions_in_use_are_told(events: Events) -> None:
    body = events.render()[0].decode()
    line = next(line for line in body.splitlines() if line.startswith("resumed_build_info{"))
    assert 'langgraph="1.' in line
    assert 'checkpoint_postgres="' in line
    assert line.endswith(" 1.0")


def test_an_attempt_is_told_by_one_line_at_its_start_and_one_at_its_end(
    events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    events.attempt_started(STARTED)
    events.attempt_finished(FINISHED)
    started, finished = lines(capsys)
    for line in (started, finished):
        assert line.keys() == KEYS | {"event", "level", "timestamp"}
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert started["event"] == "attempt.started"
    assert {key for key in KEYS if started[key] is None} == KEYS - {
        "thread_id",
        "workflow",
        "attempt",
        "worker",
        "before",
    }
    assert finished["event"] == "attempt.finished"
    assert (finished["outcome"], finished["duration_ms"], finished["level"]) == ("finished", 2000, "info")


def test_an_attempt_is_counted_and_timed(events: Events) -> None:
    events.attempt_started(STARTED)
    assert value(events, "resumed_inflight_attempts", workflow="orders") == 1
    events.attempt_finished(FINISHED, stopped_at=NOW - timedelta(minutes=5))
    assert value(events, "resumed_inflight_attempts", workflow="orders") == 0
    assert value(events, "resumed_attempts_total", workflow="orders", outcome="finished") == 1
    assert value(events, "resumed_attempt_duration_seconds_sum", workflow="orders") == 2
    assert value(events, "resumed_recovery_duration_seconds_sum", workflow="orders") == 302


def test_an_attempt_that_another_replica_began_takes_nothing_off_ours(events: Events) -> None:
    events.attempt_finished(replace(FINISHED, outcome=Outcome.CRASHED))
    assert value(events, "resumed_inflight_attempts", workflow="orders") == 0
    assert value(events, "resumed_attempts_total", workflow="orders", outcome="crashed") == 1


def test_only_a_finished_thread_has_recovered(events: Events) -> None:
    events.attempt_finished(FAILED, stopped_at=NOW)
    assert value(events, "resumed_recovery_duration_seconds_count", workflow="orders") == 0


def test_a_lost_lock_is_counted(events: Events) -> None:
    events.attempt_finished(replace(FINISHED, outcome=Outcome.LOCK_LOST))
    assert value(events, "resumed_locks_lost_total") == 1


def test_clocks_that_disagree_make_no_negative_duration(events: Events) -> None:
    events.attempt_finished(replace(FINISHED, finished_at=NOW - timedelta(seconds=3)))
    assert value(events, "resumed_attempt_duration_seconds_sum", workflow="orders") == 0


def test_an_error_is_logged_masked_and_as_a_warning(events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    events.attempt_finished(FAILED)
    (line,) = lines(capsys)
    assert (line["error_type"], line["error_at"], line["error"]) == (
        "ValueError",
        "graphs.py:7",
        "password=*** is wrong",
    )
    assert line["level"] == "warning"


def test_without_log_errors_only_class_and_place_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Events(log_errors=False)
    quiet.attempt_finished(FAILED)
    quiet.database_failed("sweep", ValueError("the message"))
    quiet.workflow_failed("orders", "the message")
    attempt, database, workflow = lines(capsys)
    assert (attempt["error"], attempt["error_type"], attempt["error_at"]) == (None, "ValueError", "graphs.py:7")
    assert (database["error"], database["error_type"]) == (None, "ValueError")
    assert workflow["reason"] is None


@given(thread_id=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_thread_id_is_one_line_of_json_and_no_label(capsys: pytest.CaptureFixture[str], thread_id: str) -> None:
    events = Events()
    events.attempt_started(replace(STARTED, thread_id=f"zq{thread_id}"))
    (line,) = lines(capsys)
    assert line["thread_id"] == f"zq{thread_id}"
    assert b"zq" not in events.render()[0]


def count(workflow: str, state: State, verdict: Verdict, threads: int, **more: Any) -> ThreadCount:
    return ThreadCount(workflow, state, verdict, threads, **{"due": 0, "oldest_at": None, **more})


def test_the_threads_of_the_database_are_gauges_and_what_is_gone_falls_to_0(events: Events) -> None:
    events.threads_counted(
        [
            count("orders", State.DUE, Verdict.FAILED, 3, due=2, oldest_at=NOW),
            count("orders", State.DUE, Verdict.STOPPED, 1, due=1, oldest_at=NOW - timedelta(hours=1)),
            count("orders", State.CLOSED, Verdict.FINISHED, 9, oldest_at=NOW - timedelta(days=9)),
            count("", State.HELD, Verdict.UNCLAIMED, 4, oldest_at=NOW),
            count("elsewhere", State.HELD, Verdict.FAILED, 5, oldest_at=NOW),
        ]
    )
    assert value(events, "resumed_threads", workflow="orders", state="due", verdict="failed") == 3
    assert value(events, "resumed_threads", workflow="", state="held", verdict="unclaimed") == 4
    assert value(events, "resumed_threads", workflow="elsewhere", state="held", verdict="failed") == 5
    assert value(events, "resumed_due_threads", workflow="orders") == 3
    oldest = (NOW - timedelta(hours=1)).timestamp()
    assert value(events, "resumed_oldest_unfinished_timestamp_seconds", workflow="orders") == oldest
    events.threads_counted([count("orders", State.DUE, Verdict.FAILED, 1, due=1, oldest_at=NOW)])
    assert value(events, "resumed_threads", workflow="orders", state="due", verdict="stopped") == 0
    assert value(events, "resumed_threads", workflow="elsewhere", state="held", verdict="failed") == 0
    assert value(events, "resumed_due_threads", workflow="orders") == 1
    events.threads_counted([])
    assert value(events, "resumed_oldest_unfinished_timestamp_seconds", workflow="orders") == 0


def test_the_gauges_of_the_database_are_there_while_a_count_holds_and_gone_after_one_that_failed(
    events: Events,
) -> None:
    names = ("threads", "due_threads", "suspect_threads", "oldest_thread_timestamp_seconds")
    rows = [count("orders", State.DUE, Verdict.FAILED, 3, due=2, oldest_at=NOW)]

    def told() -> bool:
        body = events.render()[0].decode()
        found = {sample.name for family in text_string_to_metric_families(body) for sample in family.samples}
        assert len(found & {f"resumed_{name}" for name in names}) in (0, len(names))
        assert "resumed_ready" in found
        assert "# TYPE resumed_threads gauge" in body
        return "resumed_threads" in found

    assert told()
    events.threads_uncounted()
    assert not told()
    events.threads_counted(rows)
    assert told()
    assert value(events, "resumed_due_threads", workflow="orders") == 2
    events.threads_counted(rows, timedelta(0))
    assert not told()


def test_the_oldest_thread_is_told_state_by_state_and_suspects_over_all_workflows(events: Events) -> None:
    hour = timedelta(hours=1)
    events.threads_counted(
        [
            count("orders", State.DUE, Verdict.FAILED, 3, oldest_at=NOW - hour, suspects=2),
            count("orders", State.DUE, Verdict.STOPPED, 3, oldest_at=NOW - 2 * hour),
            count("orders", State.HELD, Verdict.WAITING, 1, oldest_at=NOW - 500 * hour),
            count("others", State.BACKOFF, Verdict.FAILED, 1, oldest_at=NOW, suspects=1),
        ]
    )
    oldest = {
        state: value(events, "resumed_oldest_thread_timestamp_seconds", workflow="orders", state=state)
        for state in ("due", "held", "running")
    }
    assert oldest == {
        "due": (NOW - 2 * hour).timestamp(), "held": (NOW - 500 * hour).timestamp(), "running": 0
    }  # fmt: skip
    assert value(events, "resumed_suspect_threads") == 3


def test_what_is_told_of_a_version_goes_with_it_and_a_workflow_that_failed_has_no_min_age(events: Events) -> None:
    events.workflows_registered([registration("orders", "2", min_age=timedelta(0)), registration("refunds", "")])
    assert value(events, "resumed_workflow_info", workflow="orders", version="1") is None
    assert value(events, "resumed_workflow_info", workflow="orders", version="2") == 1
    assert value(events, "resumed_workflow_info", workflow="refunds", version="") == 1
    assert value(events, "resumed_min_age_seconds", workflow="orders") == 0
    assert value(events, "resumed_min_age_seconds", workflow="refunds") == 300
    events.workflows_registered([])
    events.workflow_failed("orders", "ImportError")
    assert value(events, "resumed_min_age_seconds", workflow="orders") is None


def test_acts_are_counted_by_known_words_and_any_other_word_makes_no_series(events: Events) -> None:
    for action in ("resume", "release", "quarantine", "cancel", "pause", "unpause", "prune", "other"):
        for via in ("cli", "daemon", "library", "other"):
            assert value(events, "resumed_acts_total", action=action, via=via) == 0
    before = events.render()[0].count(b"resumed_acts_total{")
    events.acts_counted({("cancel", "cli"): 2, ("cancel", None): 3, ("x" * 99, "y"): 4, ("z", "cli"): 5})
    assert value(events, "resumed_acts_total", action="cancel", via="cli") == 2
    assert value(events, "resumed_acts_total", action="cancel", via="other") == 3
    assert value(events, "resumed_acts_total", action="other", via="other") == 4
    assert value(events, "resumed_acts_total", action="other", via="cli") == 5
    assert events.render()[0].count(b"resumed_acts_total{") == before


def test_the_longest_step_never_falls(events: Events) -> None:
    for seconds in (3, 8, 5):
        events.steps_measured({"orders": timedelta(seconds=seconds)})
    events.steps_measured({})
    assert value(events, "resumed_longest_step_seconds", workflow="orders") == 8


def test_a_clock_behind_the_databases_is_a_negative_skew(events: Events) -> None:
    events.clock_compared(timedelta(milliseconds=-1500))
    assert value(events, "resumed_clock_skew_seconds") == -1.5


def test_what_goes_into_quarantine_is_counted_thread_by_thread_and_said_once_a_sweep(
    events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    events.case_quarantined("orders_1", "orders", "5 charged attempts")
    events.cases_quarantined("orders", 700, "orders_2", "no version takes it: token=hunter2")
    assert value(events, "resumed_quarantined_total", workflow="orders") == 701
    said = lines(capsys)[-1]
    assert (said["event"], said["threads"], said["thread_id"]) == ("cases.quarantined", 700, "orders_2")
    assert said["reason"] == "no version takes it: token=***"


def test_a_sweep_is_counted_and_one_that_changed_nothing_is_not_news(
    events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    events.sweep_finished(rows=7, cases=0, duration=timedelta(milliseconds=200), lag=timedelta(seconds=-1))
    events.sweep_finished(rows=5, cases=2, duration=timedelta(milliseconds=200), lag=timedelta(seconds=4))
    assert [line["level"] for line in lines(capsys)] == ["debug", "info"]
    assert value(events, "resumed_sweep_rows_total") == 12
    assert value(events, "resumed_sweep_duration_seconds_count") == 2
    assert value(events, "resumed_sweep_lag_seconds") == 4
    assert value(events, "resumed_last_sweep_timestamp_seconds") == pytest.approx(datetime.now(UTC).timestamp(), abs=60)


def test_what_happens_to_workers_is_told_and_counted(events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    events.worker_started("w1", 42)
    events.worker_registered("w1", {"refunds", "orders"})
    events.worker_killed("w1", "its attempt timed out")
    events.worker_died("w1", -9, 3)
    events.worker_restarted("w1")
    events.worker_stopped("w1")
    events.workers_counted({"ready": 2})
    events.workers_counted({"draining": 1})
    said = [line["event"] for line in lines(capsys)]
    assert said == [f"worker.{done}" for done in ("started", "registered", "killed", "died", "restarted", "stopped")]
    assert value(events, "resumed_worker_restarts_total") == 1
    assert value(events, "resumed_workers", state="ready") == 0
    assert value(events, "resumed_workers", state="draining") == 1


def test_what_happens_to_workflows_is_told_and_counted(events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    events.workflow_loaded("orders", "2")
    assert value(events, "resumed_workflow_loaded", workflow="orders") == 1
    events.workflow_failed("orders", "ImportError: no module\ntraceback")
    assert value(events, "resumed_workflow_loaded", workflow="orders") == 0
    events.workflows_paused([""], ["orders"])
    events.circuit_changed("orders", opened=True)
    assert value(events, "resumed_paused", workflow="orders") == 1
    assert value(events, "resumed_paused", workflow="") == 1
    events.workflows_paused(["orders", "elsewhere"], ["orders", "other"])
    events.workflows_paused(["orders", "elsewhere"], ["orders", "other"])
    assert [value(events, "resumed_paused", workflow=one) for one in ("", "orders", "other")] == [0, 1, 0]
    assert value(events, "resumed_circuit_open", workflow="orders") == 1
    events.circuit_changed("orders", opened=False)
    assert value(events, "resumed_circuit_open", workflow="orders") == 0
    said = lines(capsys)
    assert [line["event"] for line in said] == [
        "workflow.loaded",
        "workflow.failed",
        "workflow.paused",
        "circuit.opened",
        "workflow.unpaused",
        "workflow.paused",
        "workflow.paused",
        "circuit.closed",
    ]
    assert said[1]["reason"] == "ImportError: no module"
    assert [line["workflow"] for line in said if "paused" in line["event"]] == [None, None, "elsewhere", "orders"]


def test_what_happens_to_the_process_is_told_and_counted(events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    events.service_started("0.1.0", dry_run=False)
    events.settings_ignored(["RESUMED_X is no setting and has no effect"])
    events.http_opened("127.0.0.1", 9764)
    events.readiness_changed(ready=True, reason="")
    events.database_failed("sweep", ConnectionError("to postgresql://u:hunter2@h failed\nmore"))
    events.lock_contended("orders_1", "orders")
    events.case_refused("orders_1", "orders", "waiting", "an interrupt has no answer")
    events.case_quarantined("orders_1", "orders", "5 charged attempts in a row made no progress")
    events.clock_skew_detected(timedelta(seconds=3))
    events.application_clock_doubted(timedelta(minutes=10))
    events.attempt_unreachable("orders_1")
    events.thread_failed("orders_1", ErrorReport("OSError", None, "token=hunter2"))
    events.shutdown_started(timedelta(seconds=25))
    events.shutdown_finished()
    said = {line["event"]: line for line in lines(capsys)}
    assert len(said) == 14
    assert said["database.failed"]["error"] == "to postgresql://***@h failed"
    assert said["shutdown.started"]["grace"] == "25s"
    assert said["thread.failed"]["error"] == "token=***"
    assert value(events, "resumed_database_errors_total", operation="attempt") == 1
    assert said["clock_skew.detected"]["ahead_ms"] == 3000
    assert said["application_clock.doubted"]["ahead_ms"] == 600_000
    assert value(events, "resumed_ready") == 1
    assert value(events, "resumed_database_errors_total", operation="sweep") == 1
    assert value(events, "resumed_lock_contention_total", workflow="orders") == 1
    events.readiness_changed(ready=False, reason="the database does not answer")
    assert value(events, "resumed_ready") == 0


def test_a_clock_skew_may_be_reported_without_a_measure(events: Events, capsys: pytest.CaptureFixture[str]) -> None:
    events.clock_skew_detected()
    assert lines(capsys)[0]["ahead_ms"] is None


def test_a_workflow_with_an_awkward_name_is_rendered_so_that_it_can_be_read(events: Events) -> None:
    name = 'a "b"\\\n{c}é'
    events.workflow_known(name)
    assert value(events, "resumed_paused", workflow=name) == 0


def test_below_the_level_nothing_is_said_and_counting_goes_on(
    events: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("json", "error")
    events.attempt_finished(FINISHED)
    assert lines(capsys) == []
    assert value(events, "resumed_attempts_total", workflow="orders", outcome="finished") == 1


def test_what_libraries_say_is_one_line_of_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("late by %s\nwith password=hunter2", "5s")
    try:
        int("hunter2")
    except ValueError:
        library.exception("a job failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        configure("json")
        warnings.warn("old way", FutureWarning, stacklevel=1)
    said = lines(capsys)
    assert {line["event"] for line in said} == {"library.warned"}
    assert [line["message"] for line in said[:2]] == ["late by 5s", "a job failed"]
    assert (said[1]["error_type"], said[1]["level"], said[1]["library"]) == ("ValueError", "error", "some.library")
    assert "hunter2" not in json.dumps(said)
    assert "old way" in said[2]["message"]


def test_a_faulty_log_call_of_a_library_is_said_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    (ours,) = (handler for handler in logging.root.handlers if type(handler).__module__ == logs.__name__)
    ours.handle(logging.LogRecord("some.library", logging.ERROR, "x.py", 1, "wrong %s %s", ("argument",), None))
    assert lines(capsys)[0]["message"] == "wrong %s %s"


def test_a_stderr_that_is_closed_stops_nothing(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    configure("json")
    events.attempt_started(STARTED)


def test_on_a_terminal_lines_are_for_people_and_move_no_cursor(
    events: Events, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure(None)
    events.case_refused("orders\x1b[2J\n1", "orders", "waiting", "no answer")
    written = capsys.readouterr().err
    assert "case.refused" in written
    assert "\x1b[2J" not in written
    assert written.count("\n") == 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(written)
