"""A person's `update_state` that fails has saved its writes all the same: the thread stands where it stood."""

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import StateGraph
from langgraph.types import interrupt

from resumed.model import Verdict
from support.attempting import Place, chain, workflow_of

THREAD = "failed:1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"workflow": "failed"}}


class State(TypedDict):
    told: Annotated[list[str], operator.add]


def asks(_: State) -> State:
    return {"told": [interrupt("well?")]}


def sending(sent: list[str], send: Any = None) -> StateGraph[Any, Any, Any, Any]:
    def sends(_: State) -> State:
        sent.append("sent")
        return {"told": ["send"]}

    return chain(State, ("draft", lambda _: {"told": ["draft"]}), ("send", send or sends), ("end", sends))


async def stands_at(app: Any, *, deep: bool) -> Any:
    """Return the config of the graph that an edit is meant for: the root, or its only subgraph."""
    state = await app.aget_state(CONFIG, subgraphs=True)
    return state.tasks[0].state.config if deep else state.config


async def fail_to_edit(app: Any, config: Any, as_node: str | None) -> None:
    with pytest.raises(TypeError):
        await app.aupdate_state(config, {"told": 5}, as_node=as_node)


@pytest.mark.parametrize("deep", [False, True], ids=["root", "subgraph"])
@pytest.mark.parametrize("as_node", [None, "draft", "send"])
async def test_it_does_not_pass_a_breakpoint(
    as_node: str | None, deep: bool, place: Place, saver: AsyncPostgresSaver
) -> None:
    sent: list[str] = []
    inner = sending(sent).compile(interrupt_before=["send"])
    graph = chain(State, ("inner", inner)) if deep else sending(sent)
    app = graph.compile(checkpointer=saver, interrupt_before=None if deep else ["send"])
    workflow = workflow_of("failed", app)
    await app.ainvoke({"told": []}, CONFIG)
    await fail_to_edit(app, await stands_at(app, deep=deep), as_node)
    assert await place.attempt(workflow, THREAD) == "looked"
    said = await place.inspect(workflow, THREAD)
    assert said is not None
    assert said.verdict is Verdict.BREAKPOINT
    assert sent == []


@pytest.mark.parametrize("deep", [False, True], ids=["root", "subgraph"])
@pytest.mark.parametrize("as_node", [None, "draft", "send"])
async def test_it_leaves_an_edited_thread_edited(
    as_node: str | None, deep: bool, place: Place, saver: AsyncPostgresSaver
) -> None:
    sent: list[str] = []
    inner = sending(sent).compile(interrupt_after=["draft"])
    graph = chain(State, ("inner", inner)) if deep else sending(sent)
    app = graph.compile(checkpointer=saver, interrupt_after=None if deep else ["draft"])
    workflow = workflow_of("failed", app)
    await app.ainvoke({"told": []}, CONFIG)
    await app.aupdate_state(await stands_at(app, deep=deep), {"told": ["edit"]}, as_node="draft")
    before = await place.judged(workflow, THREAD)
    await fail_to_edit(app, await stands_at(app, deep=deep), as_node)
    assert (before, await place.judged(workflow, THREAD)) == (Verdict.EDITED, Verdict.EDITED)
    assert await place.attempt(workflow, THREAD) == "looked"
    assert sent == []


@pytest.mark.parametrize("deep", [False, True], ids=["root", "subgraph"])
@pytest.mark.parametrize("as_node", ["draft", "send"])
async def test_it_answers_no_question(as_node: str, deep: bool, place: Place, saver: AsyncPostgresSaver) -> None:
    sent: list[str] = []
    inner = sending(sent, asks)
    app = (chain(State, ("inner", inner.compile())) if deep else inner).compile(checkpointer=saver)
    workflow = workflow_of("failed", app)
    await app.ainvoke({"told": []}, CONFIG)
    await fail_to_edit(app, await stands_at(app, deep=deep), as_node)
    assert await place.judged(workflow, THREAD) is Verdict.WAITING
    assert await place.attempt(workflow, THREAD) == "looked"
    assert sent == []
