"""What `show` prints of a verdict: the channels, tasks and rows it was made of, without graphs, and never a value."""

import re
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from support.bench import Bench

VALUE = "hunter2-in-the-state"
HOSTILE = "\x1b]0;owned\x07" + "n" * 300


class Kept(TypedDict):
    kept: str


def _raise(_: Any) -> Any:
    raise RuntimeError(VALUE)


def _asking(first: str, second: str) -> Any:
    """Ask in two nodes, one after the other."""
    graph = StateGraph(Kept)
    for name in (first, second):
        graph.add_node(name, lambda _: {"kept": interrupt(VALUE)})
    graph.add_edge(START, first)
    graph.add_edge(first, second)
    return graph


def _pair(left: Any, right: Any) -> Any:
    graph = StateGraph(Kept)
    graph.add_node("left", left)
    graph.add_node("right", right)
    graph.add_edge(START, "left")
    graph.add_edge("left", "right")
    return graph


def run(saver: Any, graph: Any, thread_id: str, *given: Any) -> None:
    compiled = graph.compile(checkpointer=saver)
    for one in given:
        compiled.invoke(one, {"configurable": {"thread_id": thread_id}})


@pytest.mark.thorough
def test_show_says_what_a_verdict_was_made_of_and_never_a_value(bench: Bench) -> None:
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        run(saver, _asking("ask", "again"), "asking", {"kept": VALUE}, Command(resume=VALUE))
        run(saver, _asking(HOSTILE, "x"), f"hostile {HOSTILE}", {"kept": VALUE})
        run(saver, _pair(lambda _: None, lambda _: None), "finished", {"kept": VALUE})
        with pytest.raises(RuntimeError):
            run(saver, _pair(lambda _: None, _raise), "failed", {"kept": VALUE})

    def evidence(thread_id: str) -> list[str]:
        return list(bench.ask("show", thread_id, workflows=[])["evidence"])

    head = bench.one("select max(checkpoint_id) from checkpoints where thread_id = 'asking'")
    asking = evidence("asking")
    assert asking[:2] == [f"the head is {head}, written by loop", "work waits in branch:to:again: node again"]
    task = bench.one("select task_id from checkpoint_writes where checkpoint_id = %(head)s", head=head)
    assert asking[2:] == [f"order 1: __interrupt__ of task {task} (node again), in the root, on {head}"]
    failed = evidence("failed")
    assert failed[1] == "work waits in branch:to:right: node right"
    assert re.fullmatch(r"order 1: __error__ of task \S+ \(node right\), in the root, on \S+", failed[2])
    assert "none of the head's updated channels starts a node: there are none" in evidence("finished")
    done = bench.resumed("show", f"hostile {HOSTILE}", workflows=[])
    assert done.returncode == 0, done.stderr
    shown = done.stdout.partition("evidence:\n")[2].splitlines()
    assert shown[0].startswith("  the head is ")
    assert max(map(len, shown)) < 600
    assert not {"\x1b", "\x07"} & set(done.stdout)
    assert VALUE not in done.stdout + done.stderr + str(asking) + str(failed)
    unknown = bench.resumed("show", "nobody", workflows=[])
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no thread 'nobody'" in unknown.stderr


def test_show_puts_an_answer_between_the_question_and_what_came_of_it(bench: Bench) -> None:
    """Killed after the answer was taken: the rows and their order are why no later question gets it."""
    asked = bench.application(1, "asking", ZOO_DELAY="0.01")
    assert asked.wait(30) == 0
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        found = saver.get_tuple({"configurable": {"thread_id": "asking_0"}})
        assert found is not None
        task = found.pending_writes[0][0] if found.pending_writes else ""
        saver.put_writes(found.config, [("__resume__", "yes")], "00000000-0000-0000-0000-000000000000")
        saver.put_writes(found.config, [("__resume__", ["yes"])], task, "~__pregel_pull, ask")
        saver.put_writes(found.config, [("seen", ["ask yes"])], task, "~__pregel_pull, ask")
    lines = bench.ask("show", "asking_0")["evidence"]
    rows = [line.partition(", in the root")[0] for line in lines if line.startswith("order ")]
    assert rows == [
        f"order 1: __interrupt__ of task {task} (node ask)",
        "order 2: __resume__ of the null task",
        f"order 3: __resume__ of task {task} (node ask)",
    ]
    assert all(line.endswith("; the task's own writes: order 4") for line in lines if f"task {task}" in line)
