"""Joins that a checkpoint counts too far: who had run by then is told by what the nodes have seen."""

from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from resumed.runtime.pending_work import repaired_joins

JOIN = "join:a+c:d"
CONFIG: Any = {"configurable": {"thread_id": "1"}}


class Seen(TypedDict):
    seen: Annotated[list[str], lambda left, right: sorted([*left, *right])]


def node(name: str) -> Callable[[Any], dict[str, list[str]]]:
    return lambda _: {"seen": [name]}


def uneven(*, rounds: int, send: bool = False) -> StateGraph[Any, Any, Any, Any]:
    """`a` and the longer way `b`, `x`, `c` join in `d`, so many times; with `send` it is `b` that sends to `c`."""
    graph = StateGraph(Seen)
    for name in ("start", "a", "b", "x", "c", "d"):
        graph.add_node(name, node(name))
    for one, other in ((START, "start"), ("start", "a"), ("start", "b")):
        graph.add_edge(one, other)
    if send:
        graph.add_conditional_edges("b", lambda _: [Send("c", {"seen": []})], ["c"])
    else:
        graph.add_edge("b", "x")
        graph.add_edge("x", "c")
    graph.add_edge(["a", "c"], "d")
    graph.add_conditional_edges("d", lambda state: "start" if state["seen"].count("d") < rounds else END)
    return graph


def stands(graph: Any, saver: InMemorySaver) -> list[CheckpointTuple]:
    graph.invoke({"seen": []}, CONFIG, durability="sync")
    return list(saver.list(CONFIG))


def spoil(one: CheckpointTuple) -> CheckpointTuple:
    values = {**one.checkpoint["channel_values"], JOIN: {"a", "c"}}
    return one._replace(checkpoint={**one.checkpoint, "channel_values": values})


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_join_counted_too_far_is_counted_as_it_was_in_every_round(rounds: int) -> None:
    saver = InMemorySaver()
    graph = uneven(rounds=rounds).compile(checkpointer=saver)
    found = stands(graph, saver)
    untriggered = [one for one in found if (one.checkpoint["channel_values"].get(JOIN) or set()) != {"a", "c"}]
    assert len(untriggered) > 4 * rounds
    for one in untriggered:
        truth = one.checkpoint["channel_values"].get(JOIN) or set()
        assert repaired_joins(graph, spoil(one)) == {JOIN: truth}, one.metadata


def test_a_join_that_has_just_triggered_is_left_as_it_is() -> None:
    saver = InMemorySaver()
    graph = uneven(rounds=2).compile(checkpointer=saver)
    full = [one for one in stands(graph, saver) if one.checkpoint["channel_values"].get(JOIN) == {"a", "c"}]
    assert len(full) == 2
    assert [repaired_joins(graph, one) for one in full] == [{}, {}]


def test_a_join_of_which_that_cannot_be_told_is_named_and_never_counted_wrong() -> None:
    saver = InMemorySaver()
    graph = uneven(rounds=2, send=True).compile(checkpointer=saver)
    told = []
    for one in stands(graph, saver):
        truth = one.checkpoint["channel_values"].get(JOIN) or set()
        told += repaired_joins(graph, spoil(one)).values()
        assert all(said is None or said == truth for said in told[-1:]), one.metadata
    assert None in told
    assert {"a"} in told
