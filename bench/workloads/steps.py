"""A graph of four steps that do next to nothing, and the same workflow for DBOS: what a recovery costs beside them."""

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

STEPS = ("a", "b", "c", "d")


class State(TypedDict):
    steps: list[str]


def four_steps() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    before = START
    for name in STEPS:

        async def step(state: State, name: str = name) -> State:
            return {"steps": [*state["steps"], name]}

        graph.add_node(name, step)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


four_steps_graph = four_steps()
