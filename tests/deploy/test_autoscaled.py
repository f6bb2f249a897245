"""deploy/kubernetes/autoscaled: taken by Kubernetes and by KEDA, and safe to scale in."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from resumed import durations
from resumed.config.settings import Settings
from support.deployment import ROOT, built, needs_linux, rules, tool

FOLDER = ROOT / "deploy" / "kubernetes" / "autoscaled"
WAYS = ["keda", "hpa"]
# The fields of KEDA's own definitions, which kubernetes-validate does not know.
KEDA = json.loads((Path(__file__).parent / "keda.schema.json").read_text())["kinds"]
OF_OPERATORS = {*KEDA, "PodMonitor", "PrometheusRule"}
FIELDS = Settings.model_fields
SLOTS = FIELDS["processes"].default * FIELDS["concurrency"].default
SESSIONS = SLOTS + 4  # config/resumed.toml

pytestmark = needs_linux


def scaling(way: str) -> dict[str, Any]:
    """The numbers of a way to scale, by one set of names."""
    if way == "keda":
        spec = built("autoscaled/keda")["ScaledObject"]["spec"]
        [trigger] = spec["triggers"]
        return {
            "target": spec["scaleTargetRef"]["name"], "least": spec["minReplicaCount"], "most": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"], "kind": trigger["metricType"],
            "each": float(trigger["metadata"]["targetQueryValue"]),
        }  # fmt: skip
    spec = built("autoscaled/hpa")["HorizontalPodAutoscaler"]["spec"]
    [metric] = spec["metrics"]
    return {
        "target": spec["scaleTargetRef"]["name"], "least": spec["minReplicas"], "most": spec["maxReplicas"],
        "behavior": spec["behavior"], "kind": metric["external"]["target"]["type"],
        "each": float(metric["external"]["target"]["averageValue"]),
    }  # fmt: skip


@pytest.mark.parametrize("version", ["1.29", None], ids=["an old cluster", "a new cluster"])
@pytest.mark.parametrize("way", WAYS)
def test_kubernetes_would_take_what_kustomize_builds(way: str, version: str | None, tmp_path: Path) -> None:
    documents = [one for kind, one in built(f"autoscaled/{way}").items() if kind not in OF_OPERATORS]
    path = tmp_path / "built.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    tool("kubernetes-validate", "--strict", *(["--kubernetes-version", version] if version else []), path)


@pytest.mark.parametrize("kind", sorted(KEDA))
def test_keda_would_take_its_objects(kind: str) -> None:
    told = built("autoscaled/keda")[kind]
    assert told["apiVersion"] == "keda.sh/v1alpha1"
    jsonschema.validate(told, KEDA[kind])
    for wrong in ({"spec": {**told["spec"], "replicas": 3}}, {"spec": {}, "kind": 5}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**told, **wrong}, KEDA[kind])


def test_both_ways_scale_the_deployment_by_the_same_numbers() -> None:
    assert scaling("keda") == scaling("hpa")


@pytest.mark.parametrize("way", WAYS)
def test_the_scaler_counts_attempts_and_never_takes_the_last_replica(way: str) -> None:
    told, deployment = scaling(way), built(f"autoscaled/{way}")["Deployment"]
    assert told["target"] == deployment["metadata"]["name"]
    assert told["kind"] == "AverageValue"
    assert told["each"] == SLOTS
    assert 1 <= told["least"] < told["most"]
    assert "replicas" not in deployment["spec"]  # else each apply would undo what the scaler did


@pytest.mark.parametrize("way", WAYS)
def test_a_replica_that_is_taken_away_has_time_to_drain_and_goes_alone(way: str) -> None:
    told, objects = scaling(way), built(f"autoscaled/{way}")
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    grace = durations.parse_duration(objects["ConfigMap"]["data"]["RESUMED_SHUTDOWN_GRACE"])
    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) > grace + timedelta(seconds=10)
    [policy] = told["behavior"]["scaleDown"]["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert timedelta(seconds=policy["periodSeconds"]) > timedelta(seconds=pod["terminationGracePeriodSeconds"])
    assert timedelta(seconds=told["behavior"]["scaleDown"]["stabilizationWindowSeconds"]) > grace
    budget = objects["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    migrating = objects["Job"]["spec"]["template"]["metadata"].get("labels", {})
    assert not budget["selector"]["matchLabels"].items() <= migrating.items()


def test_the_most_replicas_are_those_that_the_connections_carry() -> None:
    text = (FOLDER / "keda" / "scaledobject.yaml").read_text()
    assert f"(200 - 3 - 37) / (1 x 16 + {SESSIONS - SLOTS})" in text
    assert scaling("keda")["most"] == (200 - 3 - 37) // SESSIONS
    assert f"processes x concurrency + {SESSIONS - SLOTS} for each replica" in (
        ROOT / "config" / "resumed.toml"
    ).read_text().replace("\n# ", " ")


@pytest.mark.parametrize("way", WAYS)
def test_each_pod_is_scraped_once(way: str) -> None:
    objects = built(f"autoscaled/{way}")
    assert "annotations" not in objects["Service"]["metadata"]
    selector = objects["PodMonitor"]["spec"]["selector"]["matchLabels"].items()
    assert selector <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_keda_gets_the_address_of_the_scalers_own_role() -> None:
    objects = built("autoscaled/keda")
    [trigger] = objects["ScaledObject"]["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == objects["TriggerAuthentication"]["metadata"]["name"]
    [given] = objects["TriggerAuthentication"]["spec"]["secretTargetRef"]
    assert given == {"parameter": "connection", "name": "resumed-database", "key": "scaler-url"}
    assert "--from-literal=scaler-url=" in (FOLDER / "keda" / "kustomization.yaml").read_text()


def test_the_adapter_serves_the_recorded_load_by_the_name_that_is_asked_for() -> None:
    [rule] = yaml.safe_load((FOLDER / "hpa" / "adapter.yaml").read_text())["externalRules"]
    recorded = {one["record"]: one["expr"] for one in rules() if "record" in one}
    [metric] = built("autoscaled/hpa")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert rule["seriesQuery"] == '{__name__="job:resumed_load:sum"}'
    assert "job:resumed_load:sum" in recorded
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    asked = set(metric["external"]["metric"]["selector"]["matchLabels"])
    assert asked == {"job"}  # what the recorded series has
    assert asked == set(rule["metricsQuery"].partition("by (")[2].partition(")")[0].split(", "))
