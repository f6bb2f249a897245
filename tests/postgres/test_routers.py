"""A node and its router fail one after the other: whatever order their rows suggest, nothing is left out."""

import operator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph

from resumed.model import Outcome
from support.attempting import place_at, workflow_of

THREAD = "routers:1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"workflow": "routers"}}


class State(TypedDict):
    told: Annotated[list[str], operator.add]


async def test_a_node_whose_router_failed_after_the_node_itself_had_is_run_again_and_routed(database: str) -> None:
    """The older error stays in place beside the output, so which came first cannot be told."""
    failing = {"node": 1, "router": 2}

    def fails(what: str) -> None:
        failing[what] -= 1
        if failing[what] >= 0:
            raise ConnectionError(what)

    def first(_: State) -> State:
        fails("node")
        return {"told": ["first"]}

    def route(_: State) -> Literal["second"]:
        fails("router")
        return "second"

    graph = StateGraph(State)
    graph.add_node("first", first)
    graph.add_node("second", lambda _: {"told": ["second"]})
    graph.add_edge(START, "first")
    graph.add_conditional_edges("first", route)
    graph.add_edge("second", END)
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        app = graph.compile(checkpointer=saver)
        with pytest.raises(ConnectionError, match="node"):
            await app.ainvoke({"told": []}, CONFIG)
        async with place_at(database) as place:
            for _ in range(3):
                assert await place.attempt(workflow_of("routers", graph), THREAD) == "tried"
            outcomes = [one.outcome for one in await place.attempts(THREAD)]
        assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.FINISHED]
        assert (await app.aget_state(CONFIG)).values["told"] == ["first", "second"]
