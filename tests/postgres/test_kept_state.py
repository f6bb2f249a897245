"""Inner graphs that keep their own state below others, and what one that has outlived its superstep proves."""

import operator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from resumed.model import Outcome, Verdict
from support.attempting import Place, chain, workflow_of

THREAD = "kept:1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"workflow": "kept"}}


class State(TypedDict):
    told: Annotated[list[str], operator.add]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


def says(name: str) -> Any:
    return lambda _: {"told": [name]}


class Mortal:
    """A step that kills its process the first time."""

    lives = 0

    def __call__(self, _: State) -> State:
        self.lives += 1
        if self.lives == 1:
            raise Killed
        return {"told": ["mortal"]}


def called(graph: Any, way: str) -> Any:
    """Return a node that is the graph, or that calls it where no search finds it."""
    hidden = [graph]

    async def call(_: State) -> State:
        return {"told": (await hidden[0].ainvoke({"told": []}))["told"]}

    return graph if way == "itself" else call


@pytest.mark.parametrize("outer", ["itself", "hidden"])
@pytest.mark.parametrize("inner", ["itself", "hidden"])
async def test_a_breakpoint_is_passed_once_a_graph_that_keeps_its_state_has_run_behind_it(
    outer: str, inner: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    keeping = chain(State, ("one", says("one")), ("two", Mortal())).compile(checkpointer=True)
    middle = chain(State, ("plan", says("plan")), ("keeping", called(keeping, inner))).compile(
        interrupt_before=["keeping"]
    )
    graph = chain(State, ("outer", called(middle, outer)), ("end", says("end")))
    app = graph.compile(checkpointer=saver)
    await app.ainvoke({"told": []}, CONFIG, durability="sync")
    with pytest.raises(Killed):
        await app.ainvoke(None, CONFIG, durability="sync")
    assert await place.attempt(workflow_of("kept", graph), THREAD) == "tried"
    assert [one.outcome for one in await place.attempts(THREAD)] == [Outcome.FINISHED]


@pytest.mark.parametrize("inner", ["itself", "hidden"])
async def test_a_graph_below_one_that_saves_nothing_is_not_behind_it(
    inner: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    """It begins anew, whatever it has kept of the run before."""
    keeping = chain(State, ("one", says("one"))).compile(checkpointer=True)
    nothing = chain(State, ("keeping", called(keeping, inner))).compile(checkpointer=False)
    graph = chain(State, ("before", says("before")), ("nothing", nothing), ("end", says("end")))
    await graph.compile(checkpointer=saver).ainvoke({"told": []}, CONFIG, durability="async")
    stopping = graph.compile(checkpointer=saver, interrupt_before=["nothing"])
    twin: Any = {"configurable": {"thread_id": "kept:2"}}
    await graph.compile(checkpointer=saver).ainvoke({"told": []}, twin, durability="async")
    for config in (CONFIG, twin):
        await stopping.ainvoke({"told": []}, config, durability="async")
    assert await place.attempt(workflow_of("kept", graph), THREAD) == "tried"
    assert [one.outcome for one in await place.attempts(THREAD)] == [Outcome.FINISHED]
    plain = await graph.compile(checkpointer=saver).ainvoke(None, twin, durability="async")
    assert (await stopping.aget_state(CONFIG)).values == plain


def save_late(dsn: str) -> None:
    """Have an inner graph's last checkpoint be newer than the head, as of a node that outlives its run."""
    late = empty_checkpoint()["id"]
    with psycopg.connect(dsn) as connection:
        moved = connection.execute(
            "update checkpoints c set checkpoint_id = %s, checkpoint = checkpoint || jsonb_build_object('id', %s::text)"
            " where checkpoint_ns > '' and checkpoint_id ="
            " (select max(checkpoint_id) from checkpoints k where k.checkpoint_ns = c.checkpoint_ns)",
            (late, late),
        )
        assert moved.rowcount == 1


@pytest.mark.parametrize("edited", [False, True], ids=["breakpoint", "edited"])
async def test_what_an_earlier_superstep_has_saved_late_decides_nothing(
    edited: bool, database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    inner = chain(State, ("one", says("one"))).compile()
    graph = chain(State, ("inner", inner), ("send", says("send")))
    app = graph.compile(checkpointer=saver, interrupt_before=["send"])
    await app.ainvoke({"told": []}, CONFIG, durability="sync")
    if edited:
        await app.aupdate_state(CONFIG, {"told": ["edit"]})
    save_late(database)
    workflow = workflow_of("kept", graph if edited else app)
    assert await place.attempt(workflow, THREAD) == "looked"
    said = await place.inspect(workflow, THREAD)
    assert said is not None
    assert said.verdict is (Verdict.EDITED if edited else Verdict.BREAKPOINT)
