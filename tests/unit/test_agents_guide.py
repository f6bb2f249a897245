"""The guide to agents: its blocks run, and its agents do what the text says of them."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from resumed import Workflow

ROOT = Path(__file__).parents[2]
GRAPHS = ROOT / "tests" / "graphs"
sys.path.insert(0, str(GRAPHS)) if str(GRAPHS) not in sys.path else None

from agents.models import call, scripted  # noqa: E402 - found only once the graphs are on the path
from agents.tools import SessionClosedError, tool_session  # noqa: E402

TEXT = (ROOT / "docs" / "agents.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
GO: Any = {"messages": [HumanMessage("go")]}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    model = scripted([call("refund", "c1", order=7)])
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda _: model)
    names: dict[str, Any] = {"__name__": "written", "open_session": tool_session}
    exec("\n".join(BLOCKS), names)  # noqa: S102 - our own guide
    return names


def test_the_blocks_register_what_they_name(written: dict[str, Any]) -> None:
    found = {name: one for name, one in written.items() if isinstance(one, Workflow)}
    assert set(found) == {"refunds", "searches", "careful", "synchronous"}
    assert (found["refunds"].version, found["synchronous"].face) == ("1", "sync")


async def test_the_agent_asks_and_refunds_once_it_is_approved_with_a_key_that_is_always_the_same(
    written: dict[str, Any],
) -> None:
    told = []
    for _ in range(2):
        agent = written["refund_agent"](InMemorySaver())
        await agent.ainvoke(GO, written["call"], **written["options"])
        stands = await agent.aget_state(written["call"])
        assert [one["name"] for one in stands.interrupts[0].value["action_requests"]] == ["refund"]
        done = await written["approve"](agent, "refunds:4711")
        told.append([one.content for one in done["messages"] if one.type == "tool"])
    assert told == [["refunded order 7 (refunds:4711:c1)"]] * 2


async def test_the_session_of_the_guide_is_open_within_its_context(
    written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    written["init_chat_model"] = lambda _: scripted([call("ask_server", "a1", what="one")])
    async with written["search_agent"](None) as agent:
        done = await agent.ainvoke(GO, written["call"])
        assert [one.content for one in done["messages"] if one.type == "tool"] == ["the server says one"]
    with pytest.raises(SessionClosedError):
        await agent.ainvoke(GO, written["call"])


def test_the_limit_of_the_guide_is_bound(written: dict[str, Any]) -> None:
    assert written["careful_agent"](None).config["recursion_limit"] == 50
    assert written["refund_agent"](None).config["recursion_limit"] == 9999


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
