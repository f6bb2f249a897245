"""The files of deployment, and the tools that read them."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from resumed.observability.metric_descriptions import Scope
from resumed.observability.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "resumed.json"
GUARD = re.compile(r"(\[\$?\w+\]\))? and on \(job, instance\) resumed_ready(\{[^}]*\})? == 1")

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the lock has the tools that read the files for Linux")
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (apt: prometheus)")

_METRIC = re.compile(r"(?<![:\w])((?:resumed|process)_\w+)(?!:)\b(?:\{([^}]*)\})?")
_AROUND = {"job", "instance"}


def tool(name: str, *arguments: str | Path) -> str:
    """Run a tool of the environment, else of the system, and give what it said."""
    beside = Path(sys.executable).parent / name
    command = [str(beside) if beside.exists() else name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(overlay: str) -> dict[str, dict[str, Any]]:
    """What `kubectl apply -k` would send, by kind: of each, one."""
    documents = list(yaml.safe_load_all(tool("kubectl", "kustomize", ROOT / "deploy" / "kubernetes" / overlay)))
    assert len({one["kind"] for one in documents}) == len(documents)
    return {one["kind"]: one for one in documents}


def composed() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(tool("docker-compose", "config", "--format", "json"))
    return told


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@cache
def metric_labels() -> dict[str, set[str]]:
    """The labels of each series that a daemon has, by its name."""
    metrics = Metrics()
    named = {name for one in metrics.registry.collect() for name in (one.name, *(each.name for each in one.samples))}
    labels = {name: set[str]() for name in named if name.startswith("process_")}
    for one in metrics.descriptions:
        parts = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        labels |= {one.name + part: {*one.labels, *(["le"] if part == "_bucket" else [])} for part in parts}
    return labels


def unknown_to_metrics(query: str) -> set[str]:
    """Metrics and labels that a query names and no daemon has; recorded series are rules' own."""
    known, wrong = metric_labels(), set[str]()
    for name, matchers in _METRIC.findall(query):
        wrong |= {name} - known.keys()
        wrong |= {f"{name}.{label}" for label in re.findall(r"(\w+)\s*[=!]", matchers)} - {
            f"{name}.{label}" for label in known.get(name, set()) | _AROUND
        }
    grouped = {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(",")}
    return wrong | (grouped - _AROUND - set[str]().union(*known.values()))


def unguarded(query: str) -> list[str]:
    """Gauges of the whole database that a query takes from a replica which may have lost it."""
    found = [(match[1], query[match.end() :]) for match in _METRIC.finditer(query)]
    return [name for name, rest in found if name in _shared() and not GUARD.match(rest)]


@cache
def _shared() -> set[str]:
    return {one.name for one in Metrics().descriptions if one.scope is Scope.DATABASE}
