"""The rules and alerts of Prometheus: they name what a daemon has, fire when they should, and are silent else."""

import re
from typing import Any

import pytest
import yaml

from support.deployment import ROOT, RULES, alerts, needs_promtool, rules, tool, unguarded, unknown_to_metrics

CASES = ROOT / "tests" / "deploy" / "rules.test.yml"
ALERTS = [
    "Down",
    "NotReady",
    "ReplicaNotReady",
    "SweepStalled",
    "SweepLagging",
    "BacklogNotShrinking",
    "NoAttemptEndsWell",
    "WorkflowFailing",
    "CircuitOpen",
    "ThreadsQuarantined",
    "IncompatibleThreads",
    "WorkflowNotLoaded",
    "MinAgeTooShort",
    "WorkersCrashing",
    "LocksLost",
    "DatabaseErrors",
    "ClockSkew",
    "IndexMissing",
    "UnclaimedThreads",
    "PausedLong",
    "VersionSkew",
]


def judged() -> list[dict[str, Any]]:
    tests = yaml.safe_load(CASES.read_text())["tests"]
    return [one for test in tests for one in test.get("alert_rule_test", [])]


@needs_promtool
def test_each_alert_fires_and_stays_silent_as_its_cases_say() -> None:
    assert "SUCCESS" in tool("promtool", "check", "rules", RULES)
    assert "SUCCESS" in tool("promtool", "test", "rules", CASES)


def test_there_is_every_alert_with_a_case_that_fires_it_and_one_that_leaves_it_silent() -> None:
    assert alerts().keys() == {f"Resumed{name}" for name in ALERTS}
    assert {one["alertname"] for one in judged() if one["exp_alerts"]} == alerts().keys()
    assert {one["alertname"] for one in judged() if not one["exp_alerts"]} == alerts().keys()


@pytest.mark.parametrize("alert", alerts().values(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_what_happened_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    assert len(alert["annotations"]["summary"]) <= 100
    assert all(text.endswith(".") for name, text in alert["annotations"].items() if name != "runbook_url")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_metrics_that_there_are_and_believes_only_who_can_read_the_database(rule: dict[str, Any]) -> None:
    assert unknown_to_metrics(rule["expr"]) == set()
    assert unguarded(rule["expr"]) == []


def test_recorded_series_are_named_by_level_metric_and_operation_and_each_that_is_used_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert all(re.fullmatch(r"job[a-z_]*:resumed_[a-z_]+:[a-z0-9_]+", name) for name in recorded)
    used = {name for rule in rules() for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    assert used <= recorded


def test_what_looks_at_queries_sees_a_name_a_label_and_a_guard_that_are_wrong() -> None:
    assert unknown_to_metrics('sum by (flow) (rate(resumed_attempts{state="x"}[5m]))') == {
        "resumed_attempts", "resumed_attempts.state", "flow",
    }  # fmt: skip
    assert unknown_to_metrics('resumed_threads{workflow="a",code!="b"}') == {"resumed_threads.code"}
    assert unguarded("max by (job) (resumed_due_threads)") == ["resumed_due_threads"]
    assert unguarded("max by (job) (resumed_due_threads and on (job, instance) resumed_ready == 1)") == []
