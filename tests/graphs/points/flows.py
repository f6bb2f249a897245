"""The flows: small graphs, each of a shape that leaves other rows behind; all end in one state however often killed."""

import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langgraph.cache.memory import InMemoryCache
from langgraph.channels import EphemeralValue, LastValue
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import CachePolicy, Command, RetryPolicy, Send
from pydantic import BaseModel


class Seen(TypedDict):
    seen: Annotated[list[str], lambda left, right: sorted([*left, *right])]


class Counted(TypedDict):
    count: Annotated[int, operator.add]


class Checked(BaseModel):
    seen: Annotated[list[str], operator.add] = []


@dataclass
class Kept:
    seen: Annotated[list[str], operator.add] = field(default_factory=list)


def _say(name: str) -> Any:
    return lambda _: {"seen": [name]}


def _asay(name: str) -> Any:
    async def node(_: Any) -> dict[str, list[str]]:
        return {"seen": [name]}

    return node


def _chain(schema: Any, make: Any, names: str, **options: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(schema)
    before = START
    for name in names:
        graph.add_node(name, make(name), **options)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


def _join() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    for name in ("first", "left", "right", "last"):
        graph.add_node(name, _say(name))
    graph.add_edge(START, "first")
    graph.add_edge("first", "left")
    graph.add_edge("first", "right")
    graph.add_edge(["left", "right"], "last")
    graph.add_edge("last", END)
    return graph


def _sends() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("plan", _say("plan"))
    graph.add_node("worker", lambda item: {"seen": [f"worker {item}"]})
    graph.add_node("reduce", _say("reduce"))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("worker", number) for number in range(3)], ["worker"])
    graph.add_edge("worker", "reduce")
    return graph


def _nested(checkpointer: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("before", _say("before"))
    graph.add_node("inner", _chain(Seen, _say, "xy").compile(checkpointer=checkpointer))
    graph.add_node("after", _say("after"))
    graph.add_edge(START, "before")
    graph.add_edge("before", "inner")
    graph.add_edge("inner", "after")
    return graph


def _deferred() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    for name in ("a", "b", "c"):
        graph.add_node(name, _say(name))
    graph.add_node("last", _say("last"), defer=True)
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    graph.add_edge("a", "last")
    graph.add_edge("c", "last")
    return graph


def _goto() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("a", lambda _: Command(goto="b", update={"seen": ["a"]}), destinations=("b",))
    graph.add_node("b", lambda _: Command(goto=["c", "d"], update={"seen": ["b"]}), destinations=("c", "d"))
    graph.add_node("c", _say("c"))
    graph.add_node("d", _say("d"))
    graph.add_edge(START, "a")
    return graph


def _loop() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Counted)
    graph.add_node("step", lambda _: {"count": 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["count"] < 4 else END, ["step", END])
    return graph


def _pregel() -> Pregel[Any, Any, Any, Any]:
    first = NodeBuilder().subscribe_only("start").do(lambda value: value + "a").write_to("middle")
    second = NodeBuilder().subscribe_only("middle").do(lambda value: value + "b").write_to("later")
    third = NodeBuilder().subscribe_only("later").do(lambda value: value + "c").write_to("end")
    return Pregel(
        nodes={"first": first, "second": second, "third": third},
        channels={
            "start": EphemeralValue(str),
            "middle": LastValue(str),
            "later": EphemeralValue(str),
            "end": LastValue(str),
        },
        input_channels=["start"],
        output_channels=["end"],
    )


@task
def double(number: int) -> int:
    return number * 2


@entrypoint()
def functional(numbers: list[int]) -> int:
    doubled = [double(number) for number in numbers]
    return double(sum(one.result() for one in doubled)).result()


FLOWS: dict[str, Any] = {
    "linear": _chain(Seen, _say, "abc"),
    "asynchronous": _chain(Seen, _asay, "abc"),
    "join": _join(),
    "sends": _sends(),
    "nested": _nested(None),
    "deferred": _deferred(),
    "goto": _goto(),
    "loop": _loop(),
    "functional": functional,
    "pregel": _pregel(),
    "checked": _chain(Checked, _say, "abc"),
    "kept": _chain(Kept, _say, "abc"),
    "retried": _chain(Seen, _say, "ab", retry_policy=RetryPolicy(max_attempts=2)),
    "cached": _chain(Seen, _say, "ab", cache_policy=CachePolicy()),
}
INPUTS: dict[str, Any] = {"loop": {"count": 0}, "functional": [1, 2], "pregel": {"start": "x"}}


def given(name: str) -> Any:
    return INPUTS.get(name, {"seen": []})


def compiled(name: str, saver: Any) -> Any:
    graph = FLOWS[name]
    cache = InMemoryCache() if name == "cached" else None
    if isinstance(graph, Pregel):
        return graph.copy(update={"checkpointer": saver})
    return graph.compile(checkpointer=saver, cache=cache)
