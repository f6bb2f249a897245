"""The library's verdicts with the graph are the daemon's; without it they say what only the graph can tell."""

import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import EphemeralValue, LastValue
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import Command, interrupt

from resumed import (
    Workflow,
    afind_failed_workflows,
    aget_checkpoint_status,
    aneeds_resume,
    aresume_workflow,
    find_failed_workflows,
    get_checkpoint_status,
    needs_resume,
    resume_workflow,
)
from resumed.judge.verdict import NULL_TASK

THREAD = "orders-1"
CONFIG: Any = {"configurable": {"thread_id": THREAD}, "metadata": {"version": ""}}


class State(TypedDict):
    told: Annotated[list[str], operator.add]


@pytest.fixture
def saver(bare_database: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(bare_database) as it:
        it.setup()
        yield it


def says(name: str) -> Any:
    return lambda _: {"told": [name]}


def chain(**nodes: Any) -> StateGraph[Any, Any, Any, Any]:
    graph, before = StateGraph(State), START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph


def gated(saver: Any, **options: Any) -> Any:
    return chain(one=says("one"), two=says("two")).compile(checkpointer=saver, **options)


class Fault:
    """A node that fails for as long as it is told to."""

    broken = True

    def __call__(self, value: Any) -> Any:
        if self.broken:
            raise ConnectionError
        return f"{value}!"


def low_level(saver: Any, fault: Fault) -> Pregel[Any, Any, Any, Any]:
    return Pregel(
        nodes={
            "first": NodeBuilder().subscribe_only("given").do(lambda value: f"{value}?").write_to("middle"),
            "second": NodeBuilder().subscribe_only("middle").do(fault).write_to("made"),
        },
        channels={"given": EphemeralValue(str), "middle": LastValue(str), "made": LastValue(str)},
        input_channels="given",
        output_channels="made",
        checkpointer=saver,
    )


def stands(dsn: str, graph: Any = None) -> tuple[str, bool, bool, str]:
    status = get_checkpoint_status(THREAD, dsn, graph=graph)
    assert status is not None
    assert needs_resume(THREAD, dsn, graph=graph) is (status.verdict in ("failed", "stopped"))
    found = find_failed_workflows(dsn, min_age_minutes=0, graph=graph)
    assert [one.thread_id for one in found] == ([THREAD] if status.verdict in ("failed", "stopped") else [])
    return status.verdict, status.is_complete, "graph=" in status.reason, status.reason


def never(_: str) -> None:
    pytest.fail("a person was overruled, or nothing was left to run")


@pytest.mark.parametrize("breakpoints", [{"interrupt_before": ["two"]}, {"interrupt_after": ["one"]}])
def test_a_thread_at_a_breakpoint_needs_its_person(bare_database: str, saver: Any, breakpoints: Any) -> None:
    app = gated(saver, **breakpoints)
    app.invoke({"told": []}, CONFIG)
    assert stands(bare_database)[:3] == ("stopped", False, True)
    assert stands(bare_database, app)[:3] == ("breakpoint", False, False)
    said = resume_workflow(THREAD, bare_database, never, graph=app)
    assert (said["status"], said["completed"]) == ("waiting", False)
    app.invoke(None, CONFIG)
    assert stands(bare_database, app)[:2] == ("finished", True)


def test_breakpoints_that_were_given_per_call_are_declared_in_a_workflow(bare_database: str, saver: Any) -> None:
    app = gated(saver)
    app.invoke({"told": []}, CONFIG, interrupt_before=["two"])
    assert stands(bare_database, app)[0] == "stopped"
    assert stands(bare_database, Workflow(graph=app, interrupt_before=["two"]))[0] == "breakpoint"


def test_a_resume_that_comes_to_a_breakpoint_waits(bare_database: str, saver: Any) -> None:
    fault = Fault()
    app = chain(one=lambda _: {"told": [fault("one")]}, two=says("two")).compile(
        checkpointer=saver, interrupt_before=["two"]
    )
    with pytest.raises(ConnectionError):
        app.invoke({"told": []}, CONFIG)
    assert stands(bare_database, app)[0] == "failed"
    fault.broken = False
    said = resume_workflow(THREAD, bare_database, lambda _: app.invoke(None, CONFIG), graph=app)
    assert (said["status"], said["completed"]) == ("waiting", False)


def test_a_low_level_graph_is_never_guessed_to_be_finished(bare_database: str, saver: Any) -> None:
    fault = Fault()
    app = low_level(saver, fault)
    with pytest.raises(ConnectionError):
        app.invoke("x", CONFIG)
    assert stands(bare_database)[:3] == ("failed", False, True)
    assert stands(bare_database, app)[:3] == ("failed", False, False)
    fault.broken = False
    said = resume_workflow(THREAD, bare_database, lambda _: app.invoke(None, CONFIG), graph=app)
    assert (said["status"], said["completed"], said["result"]) == ("success", True, "x?!")
    assert stands(bare_database)[:3] == ("stopped", False, True)
    assert stands(bare_database, app)[:3] == ("finished", True, False)
    said = resume_workflow(THREAD, bare_database, never, graph=app)
    assert (said["status"], said["completed"]) == ("error", True)


def test_an_edit_after_which_nothing_is_left_is_complete(bare_database: str, saver: Any) -> None:
    app = gated(saver)
    app.invoke({"told": []}, CONFIG)
    app.update_state(CONFIG, {"told": ["edit"]}, as_node="two")
    assert stands(bare_database)[:3] == ("edited", False, True)
    assert stands(bare_database, app)[:2] == ("finished", True)
    app.update_state(CONFIG, {"told": ["edit"]}, as_node="one")
    assert stands(bare_database, app)[:2] == ("edited", False)
    assert resume_workflow(THREAD, bare_database, never, graph=app)["status"] == "waiting"


def test_a_question_whose_predecessor_was_answered_waits(bare_database: str, saver: Any) -> None:
    """The first one's answer lies on the head for good, and the application's own resume would give it to the next."""
    app = chain(ask=lambda _: {"told": [interrupt("one?"), interrupt("two?")]}).compile(checkpointer=saver)
    app.invoke({"told": []}, CONFIG)
    app.invoke(Command(resume="yes one"), CONFIG)
    for graph in (None, app):
        assert stands(bare_database, graph)[0] == "waiting"
        assert resume_workflow(THREAD, bare_database, never, graph=graph)["status"] == "waiting"
    app.invoke(Command(resume="yes two"), CONFIG)
    assert stands(bare_database, app)[:2] == ("finished", True)


def test_an_answer_whose_process_died_is_resumed(bare_database: str, saver: Any) -> None:
    app = chain(ask=lambda _: {"told": [interrupt("one?")]}).compile(checkpointer=saver)
    app.invoke({"told": []}, CONFIG)
    saver.put_writes(app.get_state(CONFIG).config, [("__resume__", "yes")], NULL_TASK)
    for graph in (None, app):
        assert stands(bare_database, graph)[0] == "stopped"
    said = resume_workflow(THREAD, bare_database, lambda _: app.invoke(None, CONFIG), graph=app)
    assert (said["completed"], said["result"]) == (True, {"told": ["yes"]})


def test_what_another_graph_left_is_not_this_graphs(bare_database: str, saver: Any) -> None:
    with pytest.raises(ConnectionError):
        chain(gone=lambda _: {"told": [Fault()(1)]}).compile(checkpointer=saver).invoke({"told": []}, CONFIG)
    assert stands(bare_database)[0] == "failed"
    assert stands(bare_database, gated(saver))[0] == "incompatible"
    said = resume_workflow(THREAD, bare_database, never, graph=gated(saver))
    assert said["status"] == "error"
    assert "gone" in said["error"]


def test_what_is_no_graph_is_refused(bare_database: str) -> None:
    for call in (get_checkpoint_status, needs_resume):
        with pytest.raises(TypeError, match="compiled graph"):
            call(THREAD, bare_database, graph="orders")
    with pytest.raises(TypeError, match="compiled graph"):
        find_failed_workflows(bare_database, graph=lambda checkpointer: checkpointer)


async def test_the_asynchronous_twins_take_the_graph_too(bare_database: str, saver: Any) -> None:
    app = gated(saver, interrupt_before=["two"])
    app.invoke({"told": []}, CONFIG)
    status = await aget_checkpoint_status(THREAD, bare_database, graph=app)
    assert status is not None
    assert (status.verdict, await aneeds_resume(THREAD, bare_database, graph=app)) == ("breakpoint", False)
    assert await afind_failed_workflows(bare_database, min_age_minutes=0, graph=app) == []

    async def overrule(_: str) -> None:
        pytest.fail("a person was overruled")

    assert (await aresume_workflow(THREAD, bare_database, overrule, graph=app))["status"] == "waiting"
