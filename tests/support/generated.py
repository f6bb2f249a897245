"""What is made from the code or from another file: `make generated` writes it, and tests compare it."""

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from resumed.config.settings import Settings
from resumed.observability.metric_descriptions import Description, Scope
from resumed.observability.metrics import Metrics
from support import sizing
from support.log_events import log_events

ROOT = Path(__file__).parents[2]
PROMETHEUS_RULE = ROOT / "deploy" / "kubernetes" / "monitoring" / "prometheusrule.yaml"
CHART = ROOT / "deploy" / "helm" / "resumed"
# What the chart itself says, from a Secret or so that the pod agrees with it, and what is for tests alone.
_OF_THE_CHART = {"database_url_file", "http_host", "http_port", "shutdown_grace", "pg_bin"}
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FREE = {"workflow", "version", "langgraph", "checkpoint_postgres"}
_OF = {Scope.REPLICA: "replica", Scope.DATABASE: "database"}


def written(path: Path) -> str:
    """Return the document with every part as the code has it now."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", path.read_text())


def prometheus_rule() -> str:
    """Return Prometheus's rules as an object of the Prometheus Operator, under the head that the file has."""
    head, rules = PROMETHEUS_RULE.read_text(), (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    return head.partition("spec:\n")[0] + "spec:\n" + textwrap.indent(rules[rules.index("groups:") :], "  ")


def chart() -> dict[Path, str]:
    """Return the chart's copies, since Helm reads no file outside of it, and its schema with the settings of today."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    plain = {name for name, field in Settings.model_fields.items() if "SecretStr" not in str(field.annotation)}
    names = sorted(f"RESUMED_{name.upper()}" for name in plain - _OF_THE_CHART)
    schema["properties"]["settings"]["propertyNames"]["enum"] = names
    copied = [ROOT / "deploy" / "prometheus" / "rules.yml", ROOT / "deploy" / "grafana" / "resumed.json"]
    return {CHART / "files" / one.name: one.read_text() for one in copied} | {
        CHART / "values.schema.json": json.dumps(schema, indent=2) + "\n"
    }


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def metrics() -> str:
    """Return the table of all metrics."""
    ours = sorted(Metrics().descriptions, key=lambda one: one.name)
    rows = [
        (
            f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.unit, _OF[one.scope],
            one.meaning,
        )
        for one in (*ours, *_of_the_process())
    ]  # fmt: skip
    return table(("metric", "kind", "labels", "unit", "of", "meaning"), rows)


def labels() -> str:
    """Return the table of the values of labels that are there from the start."""
    made = Metrics()
    made.workflow_known("orders")
    rows: list[tuple[str, str, str]] = []
    for family in made.registry.collect():
        values: dict[str, list[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label not in (*_FREE, "le") and value not in values.setdefault(label, []):
                    values[label].append(value)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows += [(f"`{name}`", f"`{label}`", ", ".join(f"`{one}`" for one in all_)) for label, all_ in values.items()]
    return table(("metric", "label", "values"), sorted(rows))


def sizes() -> str:
    """Return the table of loads and what each takes."""
    columns = ("load", "in flight", "replicas", "connections", "cores of Postgres", "of replicas", "WAL", "taken most")
    return table(columns, sizing.rows())


def events() -> str:
    """Return the table of all log events: levels and fields are the code's, the meanings are those in the document."""
    lines = re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", (ROOT / "docs" / "logs.md").read_text(), re.MULTILINE)
    meanings = dict(lines)
    rows = [
        (
            f"`{one.name}`", " or ".join(one.levels), ", ".join(f"`{field}`" for field in one.fields),
            meanings.get(one.name, ""),
        )
        for one in log_events()
    ]  # fmt: skip
    return table(("event", "level", "fields", "meaning"), rows)


def _of_the_process() -> list[Description]:
    """Describe what the client library tells of the control process."""
    found = [one for one in Metrics().registry.collect() if one.name.startswith("process_")]
    names = {"counter": "{}_total"}
    return [
        Description(names.get(one.type, "{}").format(one.name), one.type, f"Control process: {one.documentation}")
        for one in sorted(found, key=lambda one: one.name)
    ]


PARTS: dict[str, Callable[[], str]] = {
    "metrics": metrics,
    "metric-labels": labels,
    "sizes": sizes,
    "log-events": events,
}
DOCUMENTS = sorted(one for one in (ROOT / "docs").glob("*.md") if _PART.search(one.read_text()))

if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(written(document))
    PROMETHEUS_RULE.write_text(prometheus_rule())
    for copy, text in chart().items():
        copy.write_text(text)
