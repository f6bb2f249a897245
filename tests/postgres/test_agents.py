"""Agents as people build them, killed at their saver's calls: each is finished, and nothing is done that may not be.

By default at a fixed sample of the calls, with RESUMED_TEST_ALL=1 at every one. `-s` prints what was counted.
"""

from pathlib import Path

import pytest

from postgres.agents_killed import EVERY, Killed, finish_all, kill
from support.tiers import usual

GROUPS = {
    "an agent with its tools": ("plain", "tool_node", "structured", "limited", "summarized"),
    "several agents": ("supervised", "companies", "swarm", "keeping_state"),
    "an agent in a tool": ("deep", "in_tool"),
    "tools that live on a session": ("session", "client"),
    "a person who decides": ("approved", "rejected", "edited", "told"),
    "a person who decides of one call at a time": ("each_approved", "half_approved", "deep_approved"),
}

USUAL = ("tools that live on a session", "a person who decides")


def test_every_agent_is_tried() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(EVERY)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", usual(GROUPS, *USUAL))
async def test_what_is_killed_at_a_call_of_its_saver_is_finished_as_if_nothing_had_been(
    group: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "effects"
    monkeypatch.setenv("AGENTS_LOG", str(log))
    points = kill(database, log, GROUPS[group])
    for name in GROUPS[group]:
        times, calls = (sum(told[k] for one, told in points.items() if one.split(":")[0] == name) for k in (0, 1))
        assert times > 0, name
        killed = Killed(database, log, name)
        await finish_all(killed)
        print(f"\n{name}: killed at {times} of {calls} calls; {dict(killed.counted)}")
