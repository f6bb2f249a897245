"""The dashboard of Grafana, by the rules of Grafana's dashboard linter, and what of it is ours to promise."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.deployment import (
    DASHBOARD,
    ROOT,
    composed,
    metric_labels,
    needs_linux,
    needs_promtool,
    tool,
    unguarded,
    unknown_to_metrics,
)
from support.panels import expressions, filled_in, panels

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "s", "cps", "rps", "bytes", "percentunit", "bool_yes_no"}  # of those that Grafana has
EACH = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])


def selectors(expression: str) -> list[tuple[str, str]]:
    return re.findall(r"\b((?:resumed|process)_\w+)(?:\{([^}]*)\})?", expression)


def test_the_rows_and_variables_are_there_and_the_dashboard_is_not_edited_in_place() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Work", "Policy", "Daemon", "Database"]
    assert list(VARIABLES) == ["datasource", "job", "workflow", "instance"]
    assert BOARD["editable"] is False
    assert (BOARD["uid"], BOARD["title"], bool(BOARD["description"])) == ("resumed", "resumed", True)


def test_variables_are_as_the_linter_wants_them() -> None:
    source = VARIABLES["datasource"]
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    for name, everything in (("job", ".+"), ("workflow", ".*"), ("instance", ".+")):
        one = VARIABLES[name]
        assert (one["type"], one["label"], one["datasource"]) == ("query", name.capitalize(), SOURCE)
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, everything)
        assert one["refresh"] == 2  # on each change of the time
        query = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"]["query"])
        assert query is not None
        assert query[2] == name
        assert unknown_to_metrics(query[1]) == set()


@EACH
def test_a_panel_has_title_description_unit_and_source(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    assert all(target["datasource"] == SOURCE for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@EACH
def test_a_query_asks_for_the_chosen_job_and_instance_and_counts_over_the_rate_interval(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expression = target["expr"]
        assert unknown_to_metrics(expression) == set()
        assert unguarded(expression) == []
        assert re.findall(r"\[([^]]+)\]", expression.replace("[$__rate_interval]", "")) == []
        for name, matchers in selectors(expression):
            assert {'job=~"$job"', 'instance=~"$instance"'} <= set(matchers.split(",")), expression
            chosen = 'workflow=~"$workflow"' in matchers
            assert chosen is ("workflow" in metric_labels()[name]), expression
            if name.endswith(("_total", "_bucket")):
                assert re.search(rf"(rate|increase)\({name}\{{", expression), expression


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        re.sub("_bucket$", "", name) for panel in panels() for one in expressions(panel) for name, _ in selectors(one)
    }
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in metric_labels() if name.startswith("resumed_")}
    assert {name for name in ours if name not in shown and not name.endswith("_created")} == set()


def test_panels_do_not_cover_each_other_and_fill_the_width_at_most() -> None:
    everything = BOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    places = [panel["gridPos"] for panel in everything]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [pair for pair in combinations(places, 2) if _overlap(*pair)] == []


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))


def test_a_legend_names_labels_that_the_query_leaves() -> None:
    for panel in panels():
        for target in panel["targets"]:
            named = re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))
            grouped = re.search(r"by \(([^)]*)\)", target["expr"])
            left = set(grouped[1].split(", ")) if grouped else {"job", "instance"}
            assert set(named) <= left, target["expr"]


@needs_promtool
def test_prometheus_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [filled_in(one, "5m") for panel in panels() for one in expressions(panel)]
    path = tmp_path / "queries.yml"
    lines = [f"  - record: a{number}\n    expr: '{query}'\n" for number, query in enumerate(queries)]
    path.write_text("groups:\n- name: queries\n  rules:\n" + "".join(lines))
    assert f"{len(queries)} rules found" in tool("promtool", "check", "rules", path)


@needs_linux
def test_compose_has_a_grafana_that_finds_the_dashboard_and_the_prometheus_beside_it() -> None:
    services = composed()["services"]
    mounted = {volume["target"]: Path(volume["source"]) for volume in services["grafana"]["volumes"]}
    provisioned = {
        kind: yaml.safe_load(mounted[f"/etc/grafana/provisioning/{kind}/resumed.yml"].read_text())
        for kind in ("datasources", "dashboards")
    }
    [source] = provisioned["datasources"]["datasources"]
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "scrape.yml").read_text())
    [port] = services["prometheus"]["ports"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://prometheus:{port['target']}")
    assert source["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]
    [provider] = provisioned["dashboards"]["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounted[home] == DASHBOARD
    assert str(Path(home).parent) == provider["options"]["path"]
    assert services["grafana"]["networks"].keys() == services["prometheus"]["networks"].keys()
    assert all(port["host_ip"] == "127.0.0.1" for port in services["grafana"]["ports"])
