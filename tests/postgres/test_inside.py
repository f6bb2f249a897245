"""What happens inside a subgraph and shows nowhere at the root: a person's edits, and questions that nobody sees."""

import operator
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, interrupt

from resumed.model import Outcome, Verdict
from support.attempting import Place, chain, workflow_of
from support.tiers import usual


class State(TypedDict):
    told: Annotated[list[str], operator.add]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


class Dying(AsyncPostgresSaver):
    """A saver whose process is killed before one of its saves."""

    lives = 10**6

    async def aput(self, *arguments: Any) -> Any:
        self._live()
        return await super().aput(*arguments)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        self._live()
        await super().aput_writes(config, writes, task_id, task_path)

    def _live(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed


async def killed(dsn: str, graph: Any, given: Any, cut: int) -> bool:
    """Run a graph in a process that is killed before this save; False where it comes to its end before."""
    async with Dying.from_conn_string(dsn) as doomed:
        doomed.lives = cut  # type: ignore[attr-defined]  # it is of the class that was asked
        app = bound(graph, doomed)
        try:
            await app.ainvoke(given, CONFIG, durability="sync")
        except Killed:
            return True
        return False


def bound(graph: Any, saver: Any) -> Any:
    return (
        graph.copy(update={"checkpointer": saver}) if isinstance(graph, Pregel) else graph.compile(checkpointer=saver)
    )


def says(name: str) -> Callable[[State], State]:
    return lambda _: {"told": [name]}


def asks(_: State) -> State:
    return {"told": [f"ask {interrupt('well?')}"]}


def wrap(inner: Any) -> StateGraph[Any, Any, Any, Any]:
    return chain(State, ("first", says("first")), ("inner", inner), ("last", says("last")))


def gated(**options: Any) -> Any:
    return chain(State, ("plan", says("plan")), ("deploy", says("deploy")), ("tell", says("tell"))).compile(
        **{"interrupt_before": ["deploy"], **options}
    )


def asking(**options: Any) -> Any:
    return chain(State, ("plan", says("plan")), ("ask", asks), ("tell", says("tell"))).compile(**options)


def apart(inner: Any) -> Any:
    """Two subgraphs in one superstep, the other of which is done."""
    graph = StateGraph(State)
    graph.add_node("inner", inner)
    graph.add_node("other", chain(State, ("one", says("one"))).compile())
    graph.add_edge(START, "inner")
    graph.add_edge(START, "other")
    return graph


FLOWS: dict[str, Any] = {
    "gate": wrap(gated()),
    "gate deep": wrap(wrap(gated()).compile()),
    "gate stateful": wrap(gated(checkpointer=True)),
    "gate apart": apart(gated()),
    "ask": wrap(asking()),
    "ask deep": wrap(wrap(asking()).compile()),
    "ask deeper": wrap(wrap(wrap(asking()).compile()).compile()),
    "ask stateful": wrap(asking(checkpointer=True)),
    "ask apart": apart(asking()),
}  # fmt: skip
THREAD = "inside:1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"workflow": "inside"}}


async def innermost(app: Any, node: str | None = None) -> Any:
    """Give the config of the graph that stands in the inside of all others, or before this node of it, long ago."""
    state = await app.aget_state(CONFIG, subgraphs=True)
    while inner := next((one.state for one in state.tasks if one.name == "inner" and one.state is not None), None):
        state = inner
    if node is None:
        return state.config
    past = {"configurable": {key: state.config["configurable"][key] for key in ("thread_id", "checkpoint_ns")}}
    found = [one.config async for one in app.aget_state_history(past) if node in one.next]
    return found[0]


async def edited(app: Any, flow: str, how: str) -> None:
    middle = "deploy" if "gate" in flow else "ask"
    if how == "fork":
        await app.aupdate_state(await innermost(app, "plan"), {"told": ["edit"]}, as_node="plan")
    elif how == "copy":
        await app.aupdate_state(await innermost(app, "plan"), None, as_node="__copy__")
    else:
        as_node = {"plain": None, "before": "plan", "past": middle}[how]
        await app.aupdate_state(await innermost(app), {"told": ["edit"]}, as_node=as_node)


@pytest.mark.parametrize("how", ["plain", "before", "past", "fork", "copy"])
@pytest.mark.parametrize("flow", usual(FLOWS, "gate", "gate stateful", "ask deep"))
async def test_what_a_person_edits_inside_a_subgraph_is_held(
    flow: str, how: str, database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    app, workflow = bound(FLOWS[flow], saver), workflow_of("inside", FLOWS[flow])
    await app.ainvoke({"told": []}, CONFIG, durability="sync")
    await edited(app, flow, how)
    assert await place.judged(workflow, THREAD) is Verdict.EDITED
    before = await app.aget_state(CONFIG, subgraphs=True)
    assert await place.attempt(workflow, THREAD) == "looked"
    assert await place.attempts(THREAD) == []
    said = await place.inspect(workflow, THREAD)
    assert said is not None
    # An edit in front of a breakpoint still stands at it; one that has passed it, or is not at any, is an edit.
    stands_at = flow.startswith("gate") and how in ("plain", "before", "fork")
    assert (said.verdict, said.unsure) == (Verdict.BREAKPOINT if stands_at else Verdict.EDITED, False), said.reason
    assert (await app.aget_state(CONFIG, subgraphs=True)) == before


async def cuts_after_an_edit(dsn: str, app: Any, flow: str, how: str) -> AsyncIterator[int]:
    """Edit the thread and run it on, killed before each save in turn, each time from the beginning."""
    for cut in range(30):
        await app.checkpointer.adelete_thread(THREAD)
        await app.ainvoke({"told": []}, CONFIG, durability="sync")
        await edited(app, flow, how)
        if not await killed(dsn, FLOWS[flow], None, cut):
            return
        yield cut


@pytest.mark.parametrize("how", ["plain", "before", "past", "fork"])
@pytest.mark.parametrize("flow", usual((one for one in FLOWS if "gate" in one), "gate", "gate stateful"))
async def test_an_edit_that_its_person_has_run_on_is_gone_on_with(
    flow: str, how: str, database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    """Held while nothing has run since, at every save of the run that the person makes of it."""
    app, workflow = bound(FLOWS[flow], saver), workflow_of("inside", FLOWS[flow])
    said: list[str] = []
    async for _ in cuts_after_an_edit(database, app, flow, how):
        seen = await place.inspect(workflow, THREAD)
        said.append(str(seen.verdict) if seen is not None else "goes on")
        if seen is None:
            assert await place.attempt(workflow, THREAD) == "tried"
            assert (await place.attempts(THREAD))[-1].outcome in (Outcome.FINISHED, Outcome.WAITING)
    assert said[0] in ("edited", "breakpoint"), said
    assert "goes on" in said, said
    held = [one != "goes on" for one in said]
    assert held == sorted(held, reverse=True), said


@pytest.mark.parametrize("flow", usual(("ask", "ask deep", "ask stateful", "ask apart"), "ask", "ask deep"))
@pytest.mark.parametrize("how", ["plain", "past"])
async def test_an_edit_at_a_question_that_its_person_has_run_on_is_gone_on_with_or_asked(
    flow: str, how: str, database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    app, workflow = bound(FLOWS[flow], saver), workflow_of("inside", FLOWS[flow])
    said: list[str] = []
    async for _ in cuts_after_an_edit(database, app, flow, how):
        done = await place.attempt(workflow, THREAD)
        said.append(done)
        if done == "tried":
            told = (await app.aget_state(CONFIG)).values["told"]
            assert [one for one in told if one.startswith("ask")] == []
            state = await app.aget_state(CONFIG)
            assert [one.value for one in state.interrupts] == (["well?"] if how == "plain" else []), said
    assert said[0] == "looked", said
    if how == "past" or "deep" in flow:
        assert "tried" in said, said


async def test_an_edit_of_a_subgraphs_own_memory_leaves_a_finished_thread_finished(
    database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    app, workflow = bound(FLOWS["gate stateful"], saver), workflow_of("inside", FLOWS["gate stateful"])
    await app.ainvoke({"told": []}, CONFIG, durability="sync")
    await app.ainvoke(None, CONFIG, durability="sync")
    memory = {"configurable": {"thread_id": THREAD, "checkpoint_ns": "inner"}}
    await app.aupdate_state(memory, {"told": ["edit"]}, as_node="tell")
    assert await place.judged(workflow, THREAD) is Verdict.FINISHED
    await app.ainvoke({"told": []}, CONFIG, durability="sync")
    assert await place.judged(workflow, THREAD) is Verdict.STOPPED
    seen = await place.inspect(workflow, THREAD)
    assert seen is not None
    assert seen.verdict is Verdict.BREAKPOINT


def function_asking() -> Any:
    @task
    async def ask() -> str:
        return f"ask {interrupt('well?')}"

    @entrypoint()
    async def flow(_: Any) -> list[str]:
        return [await ask()]

    return flow


ASKING = {**{name: flow for name, flow in FLOWS.items() if "ask" in name}, "function": function_asking()}


@pytest.mark.parametrize("flow", usual(ASKING, "ask", "ask deep", "function"))
async def test_a_question_that_died_on_its_way_is_asked_so_that_its_person_sees_it(
    flow: str, database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    app, workflow = bound(ASKING[flow], saver), workflow_of("inside", ASKING[flow])
    unseen = 0
    for cut in range(1, 40):
        await saver.adelete_thread(THREAD)
        if not await killed(database, ASKING[flow], {"told": []}, cut):
            break
        if await place.judged(workflow, THREAD) is None:
            continue
        rows = [one async for one in saver.alist(CONFIG)]
        asked = any(channel == "__interrupt__" for row in rows for _, channel, _ in row.pending_writes or ())
        seen = [one.value for one in (await app.aget_state(CONFIG)).interrupts]
        unseen += asked and not seen
        assert await place.attempt(workflow, THREAD) == "tried"
        assert (await place.attempts(THREAD))[-1].outcome is Outcome.WAITING
        state = await app.aget_state(CONFIG)
        assert [one.value for one in state.interrupts] == ["well?"]
        assert await place.attempt(workflow, THREAD) == "looked"
    else:
        pytest.fail("the flow never came to its question")
    assert unseen or flow == "ask apart"
    done = await app.ainvoke(Command(resume="yes"), CONFIG, durability="sync")
    assert "ask yes" in (done["told"] if isinstance(done, dict) else done)


@pytest.mark.parametrize("flow", usual((name for name in ASKING if name != "function"), "ask deep", "ask stateful"))
async def test_a_second_question_that_nobody_sees_is_not_given_the_first_ones_answer(
    flow: str, database: str, place: Place, saver: AsyncPostgresSaver
) -> None:
    """The answer to the first question lies on the head for good; only a resume that leaves it out is safe."""
    inner = chain(State, ("ask", asks), ("again", asks)).compile(checkpointer=True if "stateful" in flow else None)
    wrapped = {"ask": wrap(inner), "ask stateful": wrap(inner), "ask apart": apart(inner)}
    graph = wrapped.get(flow, wrap(wrap(inner).compile()))
    app, workflow = bound(graph, saver), workflow_of("inside", graph)
    tried = 0
    for cut in range(30):
        await saver.adelete_thread(THREAD)
        await app.ainvoke({"told": []}, CONFIG, durability="sync")
        if not await killed(database, graph, Command(resume="x1"), cut):
            break
        tried += await place.attempt(workflow, THREAD) == "tried"
        state = await app.aget_state(CONFIG)
        assert [one.value for one in state.interrupts] == ["well?"]
        assert "ask x1" not in state.values["told"]
    else:
        pytest.fail("the flow never came to its question")
    assert tried
