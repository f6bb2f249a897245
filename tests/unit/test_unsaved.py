"""Subgraphs that save nothing are found wherever a graph may run one: LangGraph's synchronous saving fails there."""

from functools import partial
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph

from resumed.engine.running import durability
from resumed.engine.unsaved import holds_unsaved


class State(TypedDict):
    seen: str


def graph_of(node: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


def leaf(_: Any) -> dict[str, str]:
    return {"seen": "leaf"}


SAVING = graph_of(leaf).compile()
UNSAVED = graph_of(leaf).compile(checkpointer=False)
RUNNING_ANOTHER: Any = None


def calls(state: Any) -> Any:
    return UNSAVED.invoke(state)


async def acalls(state: Any) -> Any:
    return await UNSAVED.ainvoke(state)


def calls_in_turn(state: Any) -> Any:
    return calls(state)


def calls_a_saving_one(state: Any) -> Any:
    return SAVING.invoke(state)


def given(_: str, state: Any) -> Any:
    return UNSAVED.invoke(state)


@task
def in_a_task(state: Any) -> Any:
    return UNSAVED.invoke(state)


@entrypoint()
def functional(state: Any) -> Any:
    return in_a_task(state).result()


class Calls:
    def __init__(self) -> None:
        self.graph = UNSAVED

    def __call__(self, state: Any) -> Any:
        return self.graph.invoke(state)

    def method(self, state: Any) -> Any:
        return self.graph.invoke(state)


NODES = {
    "a node": UNSAVED,
    "two deep": graph_of(graph_of(UNSAVED).compile()).compile(),
    "called": calls,
    "called by a coroutine": acalls,
    "called by what is called": calls_in_turn,
    "partial": partial(given, "x"),
    "object": Calls(),
    "method": Calls().method,
    "in the functional API": functional,
}


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
async def test_a_subgraph_without_a_checkpointer_is_found_and_runs_with_the_durability_that_suits_it(node: Any) -> None:
    graph = graph_of(node).compile(checkpointer=InMemorySaver())
    assert durability(graph) == "async"
    config: Any = {"configurable": {"thread_id": "1"}}
    assert await graph.ainvoke({"seen": ""}, config, durability=durability(graph)) == {"seen": "leaf"}


@pytest.mark.parametrize("node", [leaf, SAVING, calls_a_saving_one, graph_of(SAVING).compile(checkpointer=True)])
def test_where_all_save_the_next_superstep_waits_for_it(node: Any) -> None:
    graph = graph_of(node).compile(checkpointer=InMemorySaver())
    assert not holds_unsaved(graph)
    assert durability(graph) == "sync"


def test_a_graph_that_calls_itself_is_looked_through_once() -> None:
    def again(state: Any) -> Any:
        return RUNNING_ANOTHER.invoke(state)

    global RUNNING_ANOTHER  # noqa: PLW0603 - what a recursive agent does
    RUNNING_ANOTHER = graph_of(again).compile()
    assert not holds_unsaved(RUNNING_ANOTHER)


async def test_synchronous_saving_still_fails_there_so_that_all_this_is_needed() -> None:
    graph = graph_of(UNSAVED).compile(checkpointer=InMemorySaver())
    with pytest.raises(AttributeError):
        await graph.ainvoke({"seen": ""}, {"configurable": {"thread_id": "1"}}, durability="sync")
