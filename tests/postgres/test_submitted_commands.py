"""A `Command` that is submitted for the daemon to begin: given once, and a person's word at the root's breakpoint."""

import asyncio
import operator
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.graph import StateGraph
from langgraph.types import Command

from resumed import AsyncWorkflowExecutor
from resumed.model import Outcome
from support.attempting import Place, chain, workflow_of

THREAD, TWIN = "submitted:1", "submitted:2"


class State(TypedDict):
    told: Annotated[list[str], operator.add]


@pytest.fixture
async def executor(database: str) -> AsyncIterator[AsyncWorkflowExecutor]:
    async with AsyncWorkflowExecutor(database) as it:
        yield it


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": {"workflow": "submitted"}}


def drafts(send: Any = lambda _: {"told": ["send"]}) -> StateGraph[Any, Any, Any, Any]:
    return chain(State, ("draft", lambda _: {"told": ["draft"]}), ("send", send))


def run_of(dsn: str) -> Any:
    with psycopg.connect(dsn) as connection:
        return connection.execute("select state, ended_at is not null, input is null from resumed.runs").fetchone()


@pytest.mark.parametrize(
    "given", [Command(update={"told": ["approved"]}), Command(goto="send")], ids=["update", "goto"]
)
async def test_it_passes_the_breakpoint_at_which_it_was_given(
    given: Command[Any], place: Place, executor: AsyncWorkflowExecutor, database: str
) -> None:
    app = drafts().compile(checkpointer=executor.checkpointer, interrupt_before=["send"])
    for thread in (THREAD, TWIN):
        await app.ainvoke({"told": []}, config(thread))
    await executor.submit("submitted", given, thread_id=THREAD)
    assert await place.attempt(workflow_of("submitted", app), THREAD) == "tried"
    assert [one.outcome for one in await place.attempts(THREAD)] == [Outcome.FINISHED]
    assert run_of(database) == ("finished", True, True)
    assert (await app.aget_state(config(THREAD))).values == await app.ainvoke(given, config(TWIN))


async def test_it_stops_at_the_next_breakpoint(place: Place, executor: AsyncWorkflowExecutor, database: str) -> None:
    app = drafts().compile(checkpointer=executor.checkpointer, interrupt_before="*")
    await app.ainvoke({"told": []}, config(THREAD))
    await executor.submit("submitted", Command(update={"told": ["approved"]}), thread_id=THREAD)
    assert await place.attempt(workflow_of("submitted", app), THREAD) == "tried"
    assert [one.outcome for one in await place.attempts(THREAD)] == [Outcome.WAITING]
    assert run_of(database) == ("waiting", True, True)
    assert (await app.aget_state(config(THREAD))).values["told"] == ["approved", "draft"]


async def test_it_is_kept_where_an_inner_graph_stands_at_a_breakpoint(
    place: Place, executor: AsyncWorkflowExecutor, database: str
) -> None:
    app = chain(State, ("inner", drafts().compile(interrupt_before=["send"]))).compile(
        checkpointer=executor.checkpointer
    )
    await app.ainvoke({"told": []}, config(THREAD))
    await executor.submit("submitted", Command(update={"told": ["approved"]}), thread_id=THREAD)
    assert await place.attempt(workflow_of("submitted", app), THREAD) == "tried"
    assert run_of(database) == ("waiting", True, True)
    assert (await app.aget_state(config(THREAD))).values["told"] == ["approved"]
    assert (await app.ainvoke(None, config(THREAD)))["told"] == ["approved", "draft", "send"]


async def test_it_is_not_given_again_where_the_attempt_that_gave_it_has_failed(
    place: Place, executor: AsyncWorkflowExecutor
) -> None:
    down = True

    def send(_: State) -> State:
        if down:
            raise ConnectionError
        return {"told": ["send"]}

    app = chain(State, ("draft", lambda _: {"told": ["draft"]}), ("send", send)).compile(
        checkpointer=executor.checkpointer
    )
    with pytest.raises(ConnectionError):
        await app.ainvoke({"told": []}, config(THREAD))
    await executor.submit("submitted", Command(update={"told": ["approved"]}), thread_id=THREAD)
    for _ in range(2):
        assert await place.attempt(workflow_of("submitted", app), THREAD) == "tried"
    down = False
    assert await place.attempt(workflow_of("submitted", app), THREAD) == "tried"
    assert (await app.aget_state(config(THREAD))).values["told"] == ["draft", "approved", "send"]


async def test_it_is_not_given_again_where_the_application_that_began_it_has_died(
    place: Place, executor: AsyncWorkflowExecutor
) -> None:
    begun, fate = asyncio.Event(), "fails"

    async def send(_: State) -> State:
        if fate == "fails":
            raise ConnectionError
        if fate == "hangs":
            begun.set()
            await asyncio.sleep(60)
        return {"told": ["send"]}

    app = drafts(send).compile(checkpointer=executor.checkpointer)
    with pytest.raises(ConnectionError):
        await app.ainvoke({"told": []}, config(THREAD))
    await executor.submit("submitted", Command(update={"told": ["approved"]}), thread_id=THREAD)
    fate = "hangs"
    running = asyncio.create_task(executor.run("submitted", app, None, thread_id=THREAD))
    await begun.wait()
    running.cancel()
    await asyncio.wait({running})
    fate = "works"
    assert await place.attempt(workflow_of("submitted", app), THREAD) == "tried"
    assert (await app.aget_state(config(THREAD))).values["told"] == ["draft", "approved", "send"]
