"""Agents that stop inside a tool, that can only be invoked, or that say themselves how far they may go."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call, wrap_tool_call
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.errors import GraphRecursionError

from postgres.agents_killed import GO, compiled, noted
from resumed.model import Outcome, Verdict
from support.attempting import Place, place_at, workflow_of

from agents import shapes  # isort: skip - found only once the graphs are on the path
from agents.flows import comparable  # isort: skip
from agents.models import call, scripted  # isort: skip
from agents.tools import look_up, pay, pay_now  # isort: skip

THREAD = "agent:1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"workflow": "agent"}}


def stopping_in_deep() -> Any:
    """A deep agent whose subagent stops before each of its tools."""
    model = scripted([call("look_up", "l1", what="the price")], [call("pay", "p1", amount=1)])
    inner = create_agent(model, [look_up, pay], name="worker", interrupt_before=["tools"])
    return shapes.deep(subagents=[{"name": "worker", "description": "Does the work.", "runnable": inner}])


STOPPING = {
    "in a tool": lambda: shapes.in_tool(interrupt_before=["tools"]),
    "in a subagent of a deep agent": stopping_in_deep,
}


class DiedError(RuntimeError):
    """The application's process is taken for dead from here on."""


def dying(saver: Any, saves: int) -> Any:
    """Have every save of a checkpoint fail after so many, as if nothing of the process were left."""
    made = [0]

    def counted(save: Any) -> Any:
        def put(*arguments: Any, **options: Any) -> Any:
            made[0] += 1
            if made[0] > saves:
                raise DiedError
            return save(*arguments, **options)

        return put

    for name in ("put", "aput", "put_writes", "aput_writes"):
        if name in type(saver).__dict__:
            setattr(saver, name, counted(getattr(saver, name)))
    return saver


@dataclass
class Scene:
    """A database, a worker's place and a file of what tools did."""

    dsn: str
    log: Path
    place: Place

    def ran(self) -> list[str]:
        return [one.call for one in noted(self.log) if one.thread == THREAD]

    async def attempts(self, workflow: Any, times: int = 1) -> list[Outcome | None]:
        """Make so many attempts if there is anything to try; return all outcomes."""
        for _ in range(times):
            await self.place.attempt(workflow, THREAD)
        return [one.outcome for one in await self.place.attempts(THREAD)]

    @asynccontextmanager
    async def saver(self) -> AsyncIterator[AsyncPostgresSaver]:
        async with AsyncPostgresSaver.from_conn_string(self.dsn) as saver:
            yield saver


@pytest.fixture
async def scene(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    log = tmp_path / "effects"
    monkeypatch.setenv("AGENTS_LOG", str(log))
    async with place_at(database) as place:
        yield Scene(database, log, place)


async def walked(make: Any) -> Any:
    """Run an agent in memory, a person approving every stop; return the state that it comes to."""
    graph, config = compiled(make(), InMemorySaver()), {"configurable": {"thread_id": "undisturbed"}}
    await graph.ainvoke(GO, config)
    while (await graph.aget_state(config)).next:
        await graph.ainvoke(None, config)
    return comparable((await graph.aget_state(config)).values)


@pytest.mark.parametrize("where", STOPPING)
async def test_a_breakpoint_inside_a_tool_is_passed_by_a_person_only(where: str, scene: Scene) -> None:
    graph = STOPPING[where]()
    workflow = workflow_of("agent", graph)
    async with scene.saver() as saver:
        application = compiled(graph, saver)
        await application.ainvoke(GO, CONFIG)
        for passed in ([], ["l1"]):  # before the first tool, and before the second
            outcomes = await scene.attempts(workflow, 3)
            assert set(outcomes) <= {Outcome.WAITING}
            assert scene.ran() == passed
            assert (await scene.place.reason(THREAD))[0] is Verdict.BREAKPOINT
            await application.ainvoke(None, CONFIG)
        stands = await application.aget_state(CONFIG)
        assert (stands.next, comparable(stands.values)) == ((), await walked(STOPPING[where]))
    assert sorted(scene.ran()) == ["l1", "p1", "p2"]


@pytest.mark.parametrize("where", STOPPING)
@pytest.mark.parametrize("saves", [2, 4, 6, 8])
async def test_an_attempt_goes_as_far_as_the_breakpoint_inside_a_tool(where: str, saves: int, scene: Scene) -> None:
    graph = STOPPING[where]()
    workflow = workflow_of("agent", graph)
    async with scene.saver() as saver:
        with suppress(DiedError):  # it may reach the breakpoint first
            await compiled(graph, dying(saver, saves)).ainvoke(GO, CONFIG, durability="sync")
    outcomes = await scene.attempts(workflow, 3)
    assert set(outcomes) <= {Outcome.WAITING}
    assert scene.ran() == []
    assert (await scene.place.reason(THREAD))[0] is Verdict.BREAKPOINT


@wrap_tool_call
def guarded(request: Any, handler: Any) -> Any:
    """Middleware as most write it: without an asynchronous form."""
    return handler(request)


@wrap_model_call
def watched(request: Any, handler: Any) -> Any:
    """The same around the model."""
    return handler(request)


@pytest.mark.parametrize("middleware", [guarded, watched], ids=["around tools", "around the model"])
@pytest.mark.parametrize("saves", [1, 4, 6])
async def test_an_agent_that_can_only_be_invoked_is_finished(middleware: Any, saves: int, scene: Scene) -> None:
    model = scripted([call("look_up", "l1", what="it")], [call("pay_now", "p1", amount=1)])
    graph = create_agent(model, [look_up, pay_now], middleware=[middleware], name="guarded")
    with PostgresSaver.from_conn_string(scene.dsn) as saver, pytest.raises(DiedError):
        compiled(graph, dying(saver, saves)).invoke(GO, CONFIG, durability="sync")
    assert await scene.attempts(workflow_of("agent", graph)) == [Outcome.FINISHED]
    assert set(scene.ran()) == {"l1", "p1"}


async def test_an_agent_goes_as_far_as_it_says_itself_whatever_the_setting(scene: Scene) -> None:
    batches = [[call("look_up", f"l{number}", what="it")] for number in range(8)]
    graph = create_agent(scripted(*batches), [look_up], name="long")  # binds 9999
    async with scene.saver() as saver:
        with pytest.raises(DiedError):
            await compiled(graph, dying(saver, 3)).ainvoke(GO, CONFIG, durability="sync")
    scene.place.worker = replace(scene.place.worker, recursion_limit=5)
    assert await scene.attempts(workflow_of("agent", graph)) == [Outcome.FINISHED]


async def test_an_agent_that_goes_round_in_circles_is_stopped_where_it_says_itself(scene: Scene) -> None:
    batches = [[call("look_up", f"l{number}", what="it")] for number in range(100)]
    graph = create_agent(scripted(*batches), [look_up], name="long").with_config(recursion_limit=12)
    async with scene.saver() as saver:
        with pytest.raises(GraphRecursionError):
            await compiled(graph, saver).ainvoke(GO, CONFIG, durability="sync")
    before = len(scene.ran())
    assert await scene.attempts(workflow_of("agent", graph)) == [Outcome.FAILED]
    assert len(scene.ran()) - before <= 12
    assert [one.error_type for one in await scene.place.attempts(THREAD)] == ["GraphRecursionError"]
