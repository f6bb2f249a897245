"""The guide to the library: its blocks run, one after the other, on a database that has been migrated."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resumed import CheckpointerManager, get_checkpoint_status
from support.bench import Bench

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [body for language, body in BLOCKS if language == kind]


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "sql"}


def test_the_blocks_run_and_leave_what_the_text_says(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "guide", "POSTGRES_CONN": bench.dsn}
    with CheckpointerManager.get_or_create(bench.dsn):
        for body in blocks("python"):
            exec(compile(body, "docs/library.md", "exec"), names)  # noqa: S102 - our own guide
    said = capsys.readouterr().out
    assert "failed: the service is down" in said
    assert "resumed: {'data': 'steps one two', 'step_count': 2}" in said
    assert "{'status': 'repaired', 'workflow_id': 'my_workflow_123'}" in said
    for number in ("123", "124", "125", "126", "127", "7"):
        status = get_checkpoint_status(f"my_workflow_{number}", bench.dsn)
        assert status is not None
        assert status.is_complete, number
    states = {row["state"] for row in bench.rows("select distinct state from resumed.runs")}
    assert states == {"finished", "cancelled"}
    assert names["charge"].__name__ == "charge"


def test_the_queries_are_queries(bench: Bench) -> None:
    with psycopg.connect(bench.dsn, autocommit=True) as connection:
        for body in blocks("sql"):
            connection.execute(body)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
    assert (ROOT / "examples" / "service").is_dir()
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
