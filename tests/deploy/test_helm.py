"""The Helm chart: linted and rendered by Helm's own engine, strict about values, and the same as the manifests."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from resumed.config.settings import Settings
from support.deployment import DASHBOARD, ROOT, RULES, built, needs_linux, needs_promtool, tool
from support.generated import chart
from support.helm import CHART, Helm, RefusedError, needs_helm

KEDA = json.loads((Path(__file__).parent / "keda.schema.json").read_text())["kinds"]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCALED = {"autoscaling": {"enabled": True}}
WATCHED = {"monitoring": {"podMonitor": True, "prometheusRule": True, "dashboard": True, "labels": {"release": "prom"}}}
FULL = {
    **SCALED,
    **WATCHED,
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {"RESUMED_CONCURRENCY": 32, "RESUMED_DRY_RUN": True, "RESUMED_MIN_AGE": "10m"},
    "extraEnvFrom": [{"secretRef": {"name": "models"}}],
    "shutdownGraceSeconds": 300,
    "migrate": {"index": False},
    "serviceAccountName": "shop",
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "shop"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
}
VARIANTS = {
    "default": {}, "full": FULL, "burst": {"mode": "burst"}, "burst full": {**FULL, "mode": "burst",
        "autoscaling": {"enabled": False}, "monitoring": {"dashboard": True}
    },
}  # fmt: skip
OF_OPERATORS = {*KEDA, "PodMonitor", "PrometheusRule"}

pytestmark = [needs_linux, needs_helm]


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    made = Helm()
    yield made
    made.close()


def objects(helm: Helm, values: dict[str, Any], name: str = "resumed") -> dict[str, dict[str, Any]]:
    """What an installation would send, by kind: of each, one."""
    texts = [text for path, text in helm.render(values, name).items() if path.endswith(".yaml")]
    documents = [one for text in texts for one in yaml.safe_load_all(text) if one]
    assert len({one["kind"] for one in documents}) == len(documents)
    return {one["kind"]: one for one in documents}


def pod_of(told: dict[str, Any]) -> dict[str, Any]:
    if told["kind"] == "CronJob":
        return dict(told["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    return dict(told["spec"]["template"]["spec"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_linter_has_nothing_but_advice(helm: Helm, variant: str) -> None:
    told = helm.lint(VARIANTS[variant])
    assert told["errors"] == []
    assert [one for one in told["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("version", ["1.29", None], ids=["an old cluster", "a new cluster"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_and_keda_would_take_what_is_rendered(
    helm: Helm, variant: str, version: str | None, tmp_path: Path
) -> None:
    told = objects(helm, VARIANTS[variant])
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump_all([one for kind, one in told.items() if kind not in OF_OPERATORS]))
    tool("kubernetes-validate", "--strict", *(["--kubernetes-version", version] if version else []), path)
    for kind in KEDA.keys() & told.keys():
        jsonschema.validate(told[kind], KEDA[kind])


def test_each_mode_and_switch_brings_its_own_objects_and_no_other(helm: Helm) -> None:
    assert set(objects(helm, {})) == {"Deployment", "PodDisruptionBudget", "Job"}
    assert set(objects(helm, {"migrate": {"enabled": False}, "podDisruptionBudget": False})) == {"Deployment"}
    assert set(objects(helm, {"mode": "burst"})) == {"CronJob", "Job"}
    assert set(objects(helm, SCALED)) - set(objects(helm, {})) == {"ScaledObject", "TriggerAuthentication"}
    watched = {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert set(objects(helm, WATCHED)) - set(objects(helm, {})) == watched


def test_the_pods_are_those_of_the_manifests(helm: Helm) -> None:
    ours, theirs = objects(helm, {}), built("base")
    for kind in ("Deployment", "Job"):
        rendered, plain = pod_of(ours[kind]), pod_of(theirs[kind])
        same = ("enableServiceLinks", "automountServiceAccountToken", "securityContext")
        assert {name: rendered[name] for name in same} == {name: plain[name] for name in same}
        [container], [other] = rendered["containers"], plain["containers"]
        for name in ("command", "securityContext", "startupProbe", "livenessProbe", "readinessProbe", "ports"):
            assert container.get(name) == other.get(name), name
        assert container["env"][0] == other["env"][0]
    assert ours["Deployment"]["spec"]["strategy"] == theirs["Deployment"]["spec"]["strategy"]
    assert (
        pod_of(ours["Deployment"])["containers"][0]["resources"]
        == (pod_of(theirs["Deployment"])["containers"][0]["resources"])
    )


def test_migrations_run_before_everything_else_and_need_no_other_object(helm: Helm) -> None:
    job = objects(helm, FULL)["Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    [container] = pod_of(job)["containers"]
    assert container["command"] == ["resumed", "migrate", "--no-index"]
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "resumed-database", "key": "owner-url"}
    plain = {one["name"]: one["value"] for one in container["env"][1:]}
    assert plain == {
        "RESUMED_SHUTDOWN_GRACE": "300s", "RESUMED_LOG_FORMAT": "json", "RESUMED_CONCURRENCY": "32",
        "RESUMED_DRY_RUN": "true", "RESUMED_MIN_AGE": "10m",
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["full", "burst full"])
def test_a_pod_is_killed_only_after_its_drain_and_gets_settings_that_the_daemon_takes(helm: Helm, variant: str) -> None:
    told = objects(helm, VARIANTS[variant])
    pod = pod_of(told["CronJob" if variant.startswith("burst") else "Deployment"])
    assert pod["terminationGracePeriodSeconds"] == 320
    given = {one["name"]: one["value"] for one in pod["containers"][0]["env"] if "value" in one}
    settings = Settings(**{name.removeprefix("RESUMED_").lower(): value for name, value in given.items()})
    assert (settings.shutdown_grace.total_seconds(), settings.concurrency, settings.dry_run) == (300, 32, True)


def test_a_burst_is_one_run_of_once_at_a_time(helm: Helm) -> None:
    spec = objects(helm, {"mode": "burst", "burst": {"schedule": "@hourly"}})["CronJob"]["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("@hourly", "Forbid")
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    [container] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["resumed", "once", "--wait"]
    assert "livenessProbe" not in container


def test_two_releases_in_one_namespace_have_names_and_pods_of_their_own(helm: Helm) -> None:
    one, other = objects(helm, FULL, "shop"), objects(helm, FULL, "resumed-eu")
    assert one["Deployment"]["metadata"]["name"] == "shop-resumed"
    assert other["Deployment"]["metadata"]["name"] == "resumed-eu"
    for told in (one, other):
        labels = told["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
        selectors = [
            told["Deployment"]["spec"]["selector"], told["PodDisruptionBudget"]["spec"]["selector"],
            told["PodMonitor"]["spec"]["selector"],
        ]  # fmt: skip
        assert all(one["matchLabels"].items() <= labels for one in selectors)
        assert not selectors[0]["matchLabels"].items() <= told["Job"]["spec"]["template"]["metadata"]["labels"].items()
        assert told["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == told["Deployment"]["metadata"]["name"]
        [trigger] = told["ScaledObject"]["spec"]["triggers"]
        assert trigger["authenticationRef"]["name"] == told["TriggerAuthentication"]["metadata"]["name"]
    assert one["Deployment"]["spec"]["selector"] != other["Deployment"]["spec"]["selector"]


def test_the_scaler_says_the_same_as_the_manifests(helm: Helm) -> None:
    told, plain = objects(helm, SCALED), built("autoscaled/keda")
    assert "replicas" not in told["Deployment"]["spec"]
    assert told["ScaledObject"]["spec"] == {
        **plain["ScaledObject"]["spec"],
        "triggers": [{**plain["ScaledObject"]["spec"]["triggers"][0], "authenticationRef": {"name": "resumed"}}],
    }
    assert told["TriggerAuthentication"]["spec"] == plain["TriggerAuthentication"]["spec"]
    assert (
        told["PodDisruptionBudget"]["spec"]["maxUnavailable"]
        == (plain["PodDisruptionBudget"]["spec"]["maxUnavailable"])
    )
    slowly = objects(helm, {**SCALED, "shutdownGraceSeconds": 900})["ScaledObject"]["spec"]
    [policy] = slowly["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["policies"]
    assert policy == {"type": "Pods", "value": 1, "periodSeconds": 960}


def test_the_charts_copies_and_its_settings_are_those_of_the_repository() -> None:
    assert {path.name for path, text in chart().items() if path.read_text() != text} == set(), "run `make generated`"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (told["version"], told["appVersion"]) == (version, version)


@needs_promtool
def test_the_rules_are_those_of_prometheus_under_the_name_of_the_database(helm: Helm, tmp_path: Path) -> None:
    told = objects(helm, WATCHED)
    assert told["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())
    assert told["PrometheusRule"]["metadata"]["labels"]["release"] == "prom"
    named = objects(helm, {"monitoring": {**WATCHED["monitoring"], "job": "shop-eu"}})
    [endpoint] = named["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [{"action": "replace", "targetLabel": "job", "replacement": "shop-eu"}]
    text = yaml.safe_dump(named["PrometheusRule"]["spec"])
    assert 'job="resumed"' not in text
    path = tmp_path / "rules.yml"
    path.write_text(text)
    assert "SUCCESS" in tool("promtool", "check", "rules", path)


def test_the_dashboard_is_the_one_of_the_repository(helm: Helm) -> None:
    told = objects(helm, WATCHED)["ConfigMap"]
    assert json.loads(told["data"]["resumed.json"]) == json.loads(DASHBOARD.read_text())
    assert told["metadata"]["labels"]["grafana_dashboard"] == "1"


# What is refused

NEVER = [[], {}, 1.5, True, "", "so much", -1, {"unknown": 1}, [1]]


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every value of the schema, and what it says of it."""
    for name, one in schema.get("properties", {}).items():
        yield (*path, name), one
        yield from leaves(one, (*path, name))


def at(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


@pytest.mark.parametrize("path", [path for path, _ in leaves(SCHEMA)], ids=".".join)
def test_each_value_is_refused_where_it_is_wrong(helm: Helm, path: tuple[str, ...]) -> None:
    said = dict(leaves(SCHEMA))[path]
    merged = isinstance(DEFAULTS.get(path[0]), dict) and len(path) == 1 and DEFAULTS[path[0]]
    # Helm lays a map over the default one, and keeps that where something else is given.
    wrong = [{"unknown": 1}] if merged else [one for one in NEVER if not jsonschema.Draft7Validator(said).is_valid(one)]
    assert wrong, "there is nothing that this would refuse"
    for one in wrong:
        with pytest.raises(RefusedError, match=f"{path[-1]}|unknown"):
            helm.render(at(path, one))


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"image": {"registry": "x"}},
        {"monitoring": {"podmonitor": True}},
        {"settings": {"RESUMED_MIN_AGES": "5m"}},
        {"settings": {"RESUMED_DATABASE_URL": "postgresql://owner:secret@db/shop"}},
        {"settings": {"RESUMED_CONSOLE_TOKEN": "secret"}},
        {"settings": {"RESUMED_SHUTDOWN_GRACE": "1h"}},  # the pod would not agree
        {"settings": {"RESUMED_CONCURRENCY": 1_000_000}},
        {"extraEnvFrom": [{}]},
        {"imagePullSecrets": ["registry"]},
        {"burst": {"schedule": "every day"}},
        {"autoscaling": {"minReplicas": 0}},  # nobody would sweep
        {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 8}},
        {"mode": "burst", "autoscaling": {"enabled": True}},
        {"mode": "burst", "monitoring": {"podMonitor": True}},
        {"mode": "burst", "monitoring": {"prometheusRule": True}},
    ],
    ids=json.dumps,
)
def test_what_makes_no_sense_is_refused(helm: Helm, values: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        helm.render(values)


def test_every_value_that_there_is_has_a_default_and_a_place_in_the_schema() -> None:
    assert {"global", *DEFAULTS} == set(SCHEMA["properties"])
    for name, value in DEFAULTS.items():
        if isinstance(value, dict) and value and name not in ("settings", "resources"):
            assert set(value) == set(SCHEMA["properties"][name]["properties"]), name
