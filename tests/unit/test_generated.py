"""What documents say of the code is what the code says."""

from pathlib import Path

import pytest

from resumed.observability.metrics import Metrics
from support.generated import DOCUMENTS, ROOT, written
from support.log_events import log_events


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_the_parts_that_are_made_from_the_code_are_up_to_date(document: Path) -> None:
    assert document.read_text() == written(document), "run `make generated`"


def test_every_metric_that_is_given_out_is_described_once() -> None:
    made = Metrics()
    given = {
        f"{one.name}_total" if one.type == "counter" else one.name
        for one in made.registry.collect()
        if not one.name.startswith("process_")
    }
    names = [one.name for one in made.descriptions]
    assert sorted(names) == sorted(given)
    assert {one.name: one.meaning for one in made.descriptions} == {
        f"{one.name}_total" if one.type == "counter" else one.name: one.documentation
        for one in made.registry.collect()
        if not one.name.startswith("process_")
    }
    assert ROOT / "docs" / "metrics.md" in DOCUMENTS


def test_every_log_event_has_a_meaning_in_the_document() -> None:
    lines = (ROOT / "docs" / "logs.md").read_text().splitlines()
    events = log_events()
    assert len(events) > 40
    for one in events:
        told = [line for line in lines if line.startswith(f"| `{one.name}` |")]
        assert len(told) == 1, one.name
        assert len(told[0].split(" | ")[-1]) > len("| x."), one.name
