"""LangGraph's private loops, as far as the guard of an attempt relies on them: a new release says here what moved."""

from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel._loop import PregelLoop

from resumed.runtime.langgraph_internals import (
    calling_loop,
    graph_of_loop,
    let_unsaved_graphs_run,
    loading_in_thread,
    namespace_of,
    on_loop_end,
    parents_of,
    resumes,
    stopped_at,
    task_of,
)

CONFIG: Any = {"configurable": {"thread_id": "1"}}


class Seen(TypedDict):
    seen: str


class Watching(InMemorySaver):
    """Notes which loop loads what."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[tuple[PregelLoop | None, CheckpointTuple | None, bool]] = []
        self.over: list[tuple[str, str | None]] = []

    def get_tuple(self, config: Any) -> CheckpointTuple | None:
        with loading_in_thread():
            loop = calling_loop()
        return self._noted(loop, super().get_tuple(config))

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        return self._noted(calling_loop(), InMemorySaver.get_tuple(self, config))

    def _noted(self, loop: PregelLoop | None, loaded: CheckpointTuple | None) -> CheckpointTuple | None:
        resuming = loop is not None and loaded is not None and resumes(loop, loaded)
        self.loads.append((loop, loaded, resuming))
        if loop is not None:
            on_loop_end(loop, lambda: self.over.append((namespace_of(loop), stopped_at(loop))))
        return loaded


def leaf(_: Any) -> dict[str, str]:
    return {"seen": "leaf"}


def graph_of(node: Any, **compiled: Any) -> Any:
    graph = StateGraph(Seen)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile(**compiled)


HIDDEN = {"one": graph_of(leaf, interrupt_before=["node"]), "unsaved": graph_of(leaf, checkpointer=False)}


def calls(state: Any) -> Any:
    return HIDDEN["one"].invoke(state)


async def acalls(state: Any) -> Any:
    return await HIDDEN["one"].ainvoke(state)


def calls_unsaved(state: Any) -> Any:
    return HIDDEN["unsaved"].invoke(state)


async def acalls_unsaved(state: Any) -> Any:
    return await HIDDEN["unsaved"].ainvoke(state)


def seen_of(saver: Watching) -> None:
    """The root and a graph that no search finds: both load, both stop where they would, and both resume."""
    (root, nothing, _), (inner, _, _) = saver.loads[:2]
    assert root is not None
    assert inner is not None
    assert nothing is None
    assert (namespace_of(root), task_of(root), dict(parents_of(root))) == ("", None, {})
    assert namespace_of(inner) == f"node:{task_of(inner)}"
    assert set(parents_of(inner)) == {""}
    assert graph_of_loop(inner).interrupt_before_nodes == ["node"]
    assert set(graph_of_loop(inner).nodes) == {"__start__", "node"}
    assert graph_of_loop(inner).trigger_to_nodes
    assert (stopped_at(root), stopped_at(inner)) == (None, "before node")
    assert [resuming for _, _, resuming in saver.loads] == [False, False, True, True]
    where = namespace_of(inner)
    assert saver.over == [(where, "before node"), ("", None), (where, None), ("", None)]


def test_a_synchronous_loop_is_seen_as_it_loads() -> None:
    saver = Watching()
    graph = graph_of(calls, checkpointer=saver)
    graph.invoke({"seen": ""}, CONFIG)
    assert graph.invoke(None, CONFIG) == {"seen": "leaf"}
    seen_of(saver)


async def test_an_asynchronous_loop_is_seen_as_it_loads() -> None:
    saver = Watching()
    graph = graph_of(acalls, checkpointer=saver)
    await graph.ainvoke({"seen": ""}, CONFIG)
    assert await graph.ainvoke(None, CONFIG) == {"seen": "leaf"}
    seen_of(saver)


def test_whoever_merely_reads_is_no_loop() -> None:
    saver = Watching()
    graph = graph_of(leaf, checkpointer=saver)
    graph.invoke({"seen": ""}, CONFIG)
    saver.loads.clear()
    graph.get_state(CONFIG)
    assert [loop for loop, _, _ in saver.loads] == [None]


@pytest.mark.parametrize("node", [HIDDEN["unsaved"], calls_unsaved, acalls_unsaved], ids=["node", "sync", "async"])
async def test_a_graph_that_saves_nothing_runs_inside_one_that_waits_for_every_save(node: Any) -> None:
    let_unsaved_graphs_run()
    graph = graph_of(node, checkpointer=InMemorySaver())
    assert await graph.ainvoke({"seen": ""}, CONFIG, durability="sync") == {"seen": "leaf"}
