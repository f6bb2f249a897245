"""The guide to writing workflows: its blocks run, and its registrations say what the text says of them."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from resumed import Workflow

TEXT = (Path(__file__).parents[2] / "docs" / "writing-workflows.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def written() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "written"}
    exec("\n".join(BLOCKS), names)  # noqa: S102 - our own guide
    return names


def test_the_blocks_run_one_after_the_other_and_register_what_they_name(written: dict[str, Any]) -> None:
    found = {name: one for name, one in written.items() if isinstance(one, Workflow)}
    everything = {"orders", "second", "with_context", "one_way", "reviewed", "patient", "by_tenant", "for_all"}
    assert set(found) == everything
    assert (found["second"].version, list(found["second"].accepts)) == ("2", ["1"])
    assert list(found["reviewed"].interrupt_before) == ["ship"]


def test_the_graph_of_the_guide_comes_to_its_end(written: dict[str, Any]) -> None:
    graph = written["orders"].graph.compile(checkpointer=InMemorySaver())
    assert graph.invoke({"number": 7}, written["call"]) == {
        "number": 7, "paid": "receipt for order-7", "shipped": True,
    }  # fmt: skip


def test_the_key_of_the_guide_is_the_same_in_every_attempt(written: dict[str, Any]) -> None:
    keys = [written["charge"]({"number": 7}, written["call"])["paid"] for _ in range(2)]
    assert keys == ["orders:4711:charge"] * 2


def test_the_context_of_the_guide_is_made_from_the_thread(written: dict[str, Any]) -> None:
    assert asyncio.run(written["with_context"].context("orders:1")).url == "https://shop.example/orders:1"
