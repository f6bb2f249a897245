"""Flows that ask: a node's result says which answer each of its questions got, so a forged one shows in the state."""

import json
import operator
import os
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, Send, interrupt

ARROW = " <- "


class Seen(TypedDict):
    seen: Annotated[list[str], lambda left, right: sorted({*left, *right})]


class Counted(Seen):
    count: Annotated[int, operator.add]


def answer_to(question: str) -> str:
    return f"answer to {question}"


def log(node: str, edge: str, config: RunnableConfig) -> None:
    """Append one line in one write: the node's body began, or all that it does is done."""
    line = {"thread": config["configurable"]["thread_id"], "node": node, "edge": edge}
    descriptor = os.open(os.environ.get("PEOPLE_LOG", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def _asked(name: str, questions: int, config: RunnableConfig) -> list[str]:
    """Ask one question after the other, then do the work, once."""
    log(name, "start", config)
    asked = [f"{name}.{number}" for number in range(questions)]
    told = [f"{question}{ARROW}{interrupt(question)}" for question in asked]
    log(name, "end", config)
    return [*told, f"did {name}"]


def node(name: str, questions: int = 0) -> Any:
    def ask(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        return {"seen": _asked(name, questions, config)}

    return ask


def anode(name: str, questions: int = 0) -> Any:
    async def ask(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        return {"seen": _asked(name, questions, config)}

    return ask


def quiet(name: str, questions: int) -> Any:
    """A node that asks and leaves no output behind."""

    def ask(_: Any, config: RunnableConfig) -> None:
        _asked(name, questions, config)

    return ask


def chain(*steps: tuple[str, Any]) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    before = START
    for name, step in steps:
        graph.add_node(name, step)
        graph.add_edge(before, name)
        before = name
    return graph


def asking(questions: int, make: Any = node) -> StateGraph[Any, Any, Any, Any]:
    return chain(("first", make("first")), ("ask", make("ask", questions)), ("last", make("last")))


def wrap(inner: Any) -> StateGraph[Any, Any, Any, Any]:
    return chain(("first", node("first")), ("inner", inner), ("last", node("last")))


def _beside(make: Any = node) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("left", make("left", 1))
    graph.add_node("right", make("right", 2))
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    if make is node:
        graph.add_node("last", node("last"))
        graph.add_edge(["left", "right"], "last")
    return graph


def _workers() -> StateGraph[Any, Any, Any, Any]:
    def worker(number: int, config: RunnableConfig) -> dict[str, list[str]]:
        return {"seen": _asked(f"worker{number}", number, config)}

    graph = StateGraph(Seen)
    graph.add_node("plan", node("plan"))
    graph.add_node("worker", worker)
    graph.add_node("reduce", node("reduce"))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("worker", number) for number in (1, 2, 3)], ["worker"])
    graph.add_edge("worker", "reduce")
    return graph


def _pair(names: str, *questions: int) -> StateGraph[Any, Any, Any, Any]:
    return chain(*((name, node(name, count)) for name, count in zip(names, questions, strict=True)))


def _beside_inside() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("left", _pair("ab", 1, 1).compile())
    graph.add_node("right", _pair("cd", 1, 1).compile())
    graph.add_node("last", node("last"))
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    graph.add_edge(["left", "right"], "last")
    return graph


def _inside_twice() -> StateGraph[Any, Any, Any, Any]:
    middle = _pair("vw", 1, 0)
    middle.add_node("deep", _pair("xy", 1, 1).compile())
    middle.add_edge("w", "deep")
    return wrap(middle.compile())


def _called() -> StateGraph[Any, Any, Any, Any]:
    """A graph that a node calls by itself is a subgraph too."""
    inner = _pair("xy", 1, 1).compile()

    def call(_: Seen) -> Any:
        return inner.invoke({"seen": []})

    return wrap(call)


def _loop() -> StateGraph[Any, Any, Any, Any]:
    def step(state: Counted, config: RunnableConfig) -> Any:
        return {"seen": _asked(f"round{state['count']}", 1, config), "count": 1}

    graph = StateGraph(Counted)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["count"] < 2 else "__end__", ["step", "__end__"])
    return graph


def _goto() -> StateGraph[Any, Any, Any, Any]:
    """Two nodes that ask under one head of a subgraph, the second reached by a command."""

    def first(_: Any, config: RunnableConfig) -> Any:
        return Command(goto="y", update={"seen": _asked("x", 1, config)})

    inner = StateGraph(Seen)
    inner.add_node("x", first, destinations=("y",))
    inner.add_node("y", node("y", 1))
    inner.add_edge(START, "x")
    return wrap(inner.compile())


@task
def ask_in_task(name: str, questions: int, config: RunnableConfig) -> list[str]:
    return _asked(name, questions, config)


@entrypoint()
def function(_: Any) -> list[str]:
    return [*ask_in_task("one", 1).result(), *ask_in_task("two", 1).result()]


@entrypoint()
def function_more(_: Any) -> list[str]:
    return [*ask_in_task("one", 2).result(), *ask_in_task("two", 1).result(), *ask_in_task("three", 0).result()]


@entrypoint()
def function_beside(_: Any) -> list[str]:
    beside = [ask_in_task(name, 1) for name in ("one", "two")]
    return [*(line for one in beside for line in one.result()), *ask_in_task("three", 1).result()]


FLOWS: dict[str, Any] = {
    "one": asking(1),
    "two": asking(2),
    "three": asking(3),
    "asynchronous": asking(2, anode),
    "beside": _beside(),
    "beside_quiet": _beside(quiet),
    "workers": _workers(),
    "inside": wrap(_pair("xyz", 1, 1, 0).compile()),
    "inside_more": wrap(_pair("xy", 2, 1).compile()),
    "inside_last": wrap(_pair("xy", 1, 3).compile()),
    "inside_twice": _inside_twice(),
    "inside_stateful": wrap(_pair("xy", 1, 1).compile(checkpointer=True)),
    "beside_inside": _beside_inside(),
    "called": _called(),
    "goto": _goto(),
    "loop": _loop(),
    "function": function,
    "function_more": function_more,
    "function_beside": function_beside,
}  # fmt: skip
INPUTS: dict[str, Any] = {"loop": {"seen": [], "count": 0}}

# A task took two answers or more and then, under the same head, somebody else asked: LangGraph keeps no record of the
# last one that it took, so a null answer to the next question may be that one, saved late. A person answers again.
UNKNOWABLE = {
    "inside_more": {"y.0"},
    "function_more": {"two.0"},
    "workers": {"worker3.0", "worker3.1", "worker3.2"},
}


def given(name: str) -> Any:
    return INPUTS.get(name, {"seen": []})


def compiled(name: str, saver: Any, **options: Any) -> Any:
    graph = FLOWS[name]
    if isinstance(graph, Pregel):
        return graph.copy(update={"checkpointer": saver})
    return graph.compile(checkpointer=saver, **options)
