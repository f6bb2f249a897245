"""The files of deployment, each taken by the tool that will read it, and what of them is ours to promise."""

import json
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import yaml

from resumed import durations
from resumed.config.settings import Settings
from support.deployment import ROOT, RULES, built, composed, needs_linux, needs_promtool, tool
from support.generated import PROMETHEUS_RULE, prometheus_rule

DOCKERFILES = sorted([ROOT / "Dockerfile", *(ROOT / "deploy" / "docker").glob("Dockerfile.*")])
OVERLAYS = ["base", "overlays/sidecar"]
GRACE: timedelta = Settings.model_fields["shutdown_grace"].default
PORT = Settings.model_fields["http_port"].default

pytestmark = needs_linux
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed (apt: systemd)"
)


def daemon_of(overlay: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of the Deployment, and the daemon's container in it."""
    pod = built(overlay)["Deployment"]["spec"]["template"]["spec"]
    return pod, next(one for one in pod["containers"] if one["name"] == "resumed")


def settings_named_in(text: str) -> set[str]:
    words = text.replace("=", " ").replace(":", " ").replace('"', " ").split()
    return {word for word in words if word.startswith("RESUMED_")}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_is_one_that_hadolint_has_nothing_to_say_about(dockerfile: Path) -> None:
    assert tool("hadolint", "--no-color", dockerfile) == ""


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_a_number_that_is_not_root(dockerfile: Path) -> None:
    users = [line.split()[1] for line in dockerfile.read_text().splitlines() if line.startswith("USER ")]
    assert users[-1] == "65532:65532"


def test_the_last_stage_of_our_image_builds_nothing_and_runs_the_daemon() -> None:
    last = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    steps = [line.partition(" ")[0] for line in last.splitlines() if line[:1].isupper()]
    assert "RUN" not in steps
    assert "HEALTHCHECK" in steps
    assert last.endswith('ENTRYPOINT ["resumed"]\nCMD ["run"]\n')


def test_the_images_are_built_from_what_the_tests_run_with() -> None:
    tested, built_from = (pins(ROOT / name) for name in ("requirements.lock", "requirements-run.lock"))
    assert "langgraph" in built_from
    assert built_from.items() <= tested.items()


def pins(lock: Path) -> dict[str, str]:
    assert "://" not in lock.read_text()
    words = [line.split()[0].partition("==") for line in lock.read_text().splitlines() if "==" in line]
    return {name: version for name, _, version in words}


def test_the_health_check_ends_with_1_where_nobody_answers_and_with_0_where_livez_does() -> None:
    script = ROOT / "deploy" / "docker" / "livez.py"
    with HTTPServer(("127.0.0.1", 0), Livez) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command, environment = [sys.executable, str(script)], {"RESUMED_HTTP_PORT": str(server.server_port)}
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
        Livez.status = 503
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1
        server.shutdown()
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1


class Livez(BaseHTTPRequestHandler):
    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_compose_takes_its_file_without_a_warning() -> None:
    assert tool("docker-compose", "config", "-q") == ""


def test_compose_takes_the_example_services_file_without_a_warning() -> None:
    file = ROOT / "examples" / "service" / "docker-compose.yml"
    assert tool("docker-compose", "--file", file, "config", "-q") == ""
    services = json.loads(tool("docker-compose", "--file", file, "config", "--format", "json"))["services"]
    assert services["sidecar"]["image"] == services["service"]["image"]


def test_compose_has_a_replica_like_the_sidecar_and_lets_both_drain() -> None:
    services = composed()["services"]
    assert {"postgres", "application", "sidecar", "replica", "prometheus"} <= set(services)
    sidecar, replica = ({**services[name], "ports": None} for name in ("sidecar", "replica"))
    assert sidecar == replica
    assert sidecar["image"] == services["application"]["image"]
    assert durations.parse_duration(sidecar["stop_grace_period"]) > GRACE
    assert [port["target"] for port in services["sidecar"]["ports"]] == [PORT]


@needs_promtool
def test_prometheus_takes_the_scrape_configuration_and_asks_both_daemons() -> None:
    path = ROOT / "deploy" / "prometheus" / "scrape.yml"
    assert "SUCCESS" in tool("promtool", "check", "config", path)
    jobs = yaml.safe_load(path.read_text())["scrape_configs"]
    targets = [target for job in jobs for config in job["static_configs"] for target in config["targets"]]
    assert targets == [f"sidecar:{PORT}", f"replica:{PORT}"]
    mounted = {volume["source"]: volume["target"] for volume in composed()["services"]["prometheus"]["volumes"]}
    assert mounted == {str(one): f"/etc/prometheus/{one.name}" for one in (path, RULES)}
    assert yaml.safe_load(path.read_text())["rule_files"] == [RULES.name]


@pytest.mark.parametrize("version", ["1.29", None], ids=["an old cluster", "a new cluster"])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_would_take_what_kustomize_builds(overlay: str, version: str | None, tmp_path: Path) -> None:
    path = tmp_path / "built.yaml"
    path.write_text(tool("kubectl", "kustomize", ROOT / "deploy" / "kubernetes" / overlay))
    chosen = ["--kubernetes-version", version] if version else []
    tool("kubernetes-validate", "--strict", *chosen, path)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_time_to_drain_and_no_links_to_services(overlay: str) -> None:
    pod, daemon = daemon_of(overlay)
    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) > GRACE + timedelta(seconds=10)
    assert pod["enableServiceLinks"] is False
    assert daemon["startupProbe"]["httpGet"]["path"] == daemon["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert daemon["ports"] == [{"name": "metrics", "containerPort": PORT}]


def test_a_sidecar_has_no_readiness_and_runs_the_applications_own_image() -> None:
    pod, daemon = daemon_of("overlays/sidecar")
    application = next(one for one in pod["containers"] if one["name"] != "resumed")
    assert "readinessProbe" not in daemon
    assert "readinessProbe" in application
    assert daemon["image"] == application["image"]
    assert daemon["command"] == ["resumed", "run"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_service_finds_the_pods_of_the_daemon_and_not_the_one_that_migrates(overlay: str) -> None:
    told = built(overlay)
    selector = told["Service"]["spec"]["selector"].items()
    assert selector <= told["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= told["Job"]["spec"]["template"]["metadata"].get("labels", {}).items()


def test_the_rules_for_the_prometheus_operator_are_those_of_prometheus() -> None:
    assert PROMETHEUS_RULE.read_text() == prometheus_rule(), "run `make generated`"
    assert built("monitoring")["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_monitor_finds_the_pods_of_the_daemon_and_calls_their_job_as_the_rules_do(overlay: str) -> None:
    told, monitor = built(overlay), built("monitoring")["PodMonitor"]["spec"]
    selector = monitor["selector"]["matchLabels"].items()
    assert selector <= told["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= told["Job"]["spec"]["template"]["metadata"].get("labels", {}).items()
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in daemon_of(overlay)[1]["ports"]}
    job = {"action": "replace", "targetLabel": "job", "replacement": "resumed"}
    assert endpoint["relabelings"] == [job]
    assert set(re.findall(r'job="(\w+)"', RULES.read_text())) == {job["replacement"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_job_migrates_as_the_owner_and_the_daemon_runs_as_the_runner(overlay: str) -> None:
    migrating = built(overlay)["Job"]["spec"]["template"]["spec"]["containers"][0]
    assert migrating["command"] == ["resumed", "migrate"]
    keys = [one["env"][0]["valueFrom"]["secretKeyRef"]["key"] for one in (migrating, daemon_of(overlay)[1])]
    assert keys == ["owner-url", "runner-url"]


@needs_systemd
def test_the_unit_is_one_that_systemd_takes_and_lets_it_drain(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "systemd" / "resumed.service").read_text()
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert timedelta(seconds=int(lines["TimeoutStopSec"])) > GRACE + timedelta(seconds=10)
    assert lines["ExecStart"].startswith("/opt/shop/bin/resumed ")
    here = tmp_path / "resumed.service"
    here.write_text(text.replace("/opt/shop/bin/resumed", sys.executable))
    tool("systemd-analyze", "verify", here)


def test_every_setting_that_a_file_names_is_one() -> None:
    files = [*(ROOT / "deploy").rglob("*"), ROOT / "Dockerfile", ROOT / "docker-compose.yml"]
    known = {f"RESUMED_{name.upper()}" for name in Settings.model_fields}
    for path in files:
        if path.is_file() and path.suffix != ".sql" and path.parent.name != "__pycache__":
            named = {name.strip("().,;") for name in settings_named_in(path.read_text())}
            assert named - {"RESUMED_PORT"} <= known, path


def test_the_public_workflow_runs_targets_of_the_makefile_on_every_python_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {words[1] for step in steps if (words := step.split())[0] == "make"}
    assert targets == {"check", "compat", "install", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets)
    matrix = workflow["jobs"]["check"]["strategy"]["matrix"]["include"]
    promised = (ROOT / "pyproject.toml").read_text()
    assert all(f"Python :: {one['python']}" in promised for one in matrix)
    assert len(matrix) == promised.count("Python :: 3.")
    assert len({one["postgres"] for one in matrix}) == 3


def test_a_commit_hook_runs_the_linters_of_the_makefile() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    named = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert named == {"ruff", "mypy", "lint-imports"}
    assert all(f"$(BIN)/{tool}" in (ROOT / "Makefile").read_text() for tool in named)
