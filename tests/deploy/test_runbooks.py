"""Each alert has its page, and what a page tells to run can be run: commands parse, queries are of what there is."""

import re
from pathlib import Path

import psycopg
import pytest
import typer
from click import Context
from typer.core import TyperGroup

from resumed.cli.app import app
from resumed.config.settings import Settings
from support.deployment import ROOT, alerts, needs_promtool, tool, unguarded, unknown_to_metrics
from support.runbooks import FOLDER, Page, pages

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
EACH = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
OTHER_TOOLS = {"kubectl", "docker", "systemctl", "curl", "psql", "date", "timedatectl", "chronyc"}


def parse(arguments: list[str]) -> None:
    """Read a command line as the command would. Raises click's UsageError."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    if arguments == ["--version"]:
        return
    with Context(group, info_name="resumed") as whole:
        group.parse_args(whole, list(arguments))
        name, command, rest = group.resolve_command(whole, [*whole._protected_args, *whole.args])  # noqa: SLF001
        assert command is not None
        command.make_context(name, rest, parent=whole)


def test_every_alert_has_its_page_every_page_its_alert_and_the_index_has_all() -> None:
    assert {page.name for page in pages()} == alerts().keys() | {"README"}
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    severities = {name: alert["labels"]["severity"] for name, alert in alerts().items()}
    assert sorted(rows) == sorted((name, name, severity) for name, severity in severities.items())


@pytest.mark.parametrize("name", alerts())
def test_a_page_has_its_sections_in_their_order_and_says_how_bad_it_is(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text()
    assert re.findall(r"^# (.+)$", text, re.MULTILINE)[0] == name
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert text.splitlines()[2].split(",")[0] == alerts()[name]["labels"]["severity"]
    diagnosis = text.partition("## Diagnosis")[2].partition("## Mitigation")[0]
    assert "```" in diagnosis


@EACH
def test_every_command_of_a_page_is_one_and_takes_these_arguments(page: Page) -> None:
    for arguments in page.commands:
        parse(arguments)
    firsts = {line.split()[0] for line in page.shell_lines if "=" not in line.split()[0]}
    assert firsts <= {"resumed", *OTHER_TOOLS}


def test_what_parses_commands_refuses_one_that_is_wrong() -> None:
    for wrong in (["threds"], ["threads", "--state", "stuck"], ["show"], ["pause", "orders"]):
        with pytest.raises(Exception, match=r"No such command|not one of|Missing"):
            parse(wrong)


@EACH
def test_a_page_names_metrics_settings_events_and_files_that_there_are(page: Page) -> None:
    assert set().union(*map(unknown_to_metrics, [*page.queries, *page.inline])) == set()
    settings = {f"RESUMED_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"RESUMED_\w+", page.text)) <= settings
    source = "".join(path.read_text() for path in (ROOT / "src/resumed/observability").glob("*.py"))
    events = [word for word in page.inline if re.fullmatch(r"(?!resumed)[a-z_]+\.[a-z_]+", word)]
    assert [event for event in events if f'"{event}"' not in source] == []
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", page.text)]
    assert [target for target in targets if not (FOLDER / target).exists()] == []
    assert [name for name in re.findall(r"\bdeploy/[\w./]+\w", page.text) if named_in(page, name)] == []


def named_in(page: Page, name: str) -> bool:
    """Return whether a name is that of a file, and there is none; `deploy/resumed` is kubectl's word."""
    return name != "deploy/resumed" and not (ROOT / name).exists()


@needs_promtool
def test_prometheus_takes_the_queries_of_the_pages(tmp_path: Path) -> None:
    queries = [query for page in pages() for query in page.queries]
    assert len(queries) > 20
    lines = [f"  - record: a{number}\n    expr: |\n      {query}\n" for number, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text("groups:\n- name: queries\n  rules:\n" + "".join(lines))
    assert f"{len(queries)} rules found" in tool("promtool", "check", "rules", path)
    assert [name for query in queries for name in unguarded(query)] == []


def test_postgres_takes_the_queries_of_the_pages_and_they_only_read(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = on")
        for page in pages():
            for query in page.blocks("sql"):
                connection.execute(query.encode())
