"""Small graphs, each of a shape that leaves other rows behind; each ends in one state however often it is killed."""

import operator
import os
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.channels import EphemeralValue, LastValue
from langgraph.errors import NodeError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel

APPLICATION = "POINTS_APPLICATION"  # set where the application runs: what fails there has healed when it is resumed
Built = StateGraph[Any, Any, Any, Any]
RETRIED = RetryPolicy(max_attempts=4, initial_interval=0.001, max_interval=0.001, jitter=False, retry_on=ValueError)
_tries: dict[str, int] = {}


class Seen(TypedDict):
    seen: Annotated[list[str], lambda left, right: sorted([*left, *right])]


class Moody(Seen):
    mood: str


class Counted(TypedDict):
    count: Annotated[int, operator.add]


class Checked(BaseModel):
    seen: Annotated[list[str], operator.add] = []


@dataclass
class Kept:
    seen: Annotated[list[str], operator.add] = field(default_factory=list)


def say(name: str) -> Any:
    return lambda _: {"seen": [name]}


def asay(name: str) -> Any:
    async def node(_: Any) -> dict[str, list[str]]:
        return {"seen": [name]}

    return node


def silent(_: Any) -> None:
    """A node that changes nothing leaves a row of its own kind."""


def raising(_: Any) -> Any:
    raise ValueError("always")


def failing(name: str) -> Any:
    """Raise in the application, work when resumed."""

    def node(_: Any) -> dict[str, list[str]]:
        if os.environ.get(APPLICATION):
            raise ValueError("only in the application")
        return {"seen": [name]}

    return node


def stumbling(name: str) -> Any:
    """Raise the first two times that it is called for a thread in a process, so that a retry policy has to work."""

    def node(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        key = f"{name} of {config['configurable']['thread_id']}"
        _tries[key] = _tries.get(key, 0) + 1
        if _tries[key] % 3:
            raise ValueError(f"try {_tries[key]}")
        return {"seen": [name]}

    return node


def moody(state: Any) -> dict[str, list[str]]:
    if state["mood"] == "bad" and os.environ.get(APPLICATION):
        raise ValueError("bad mood")
    return {"seen": [state["mood"]]}


def graph_of(schema: Any, nodes: dict[str, Any], edges: str, **options: Any) -> Built:
    """Build a graph from its nodes and edges such as `a>b b>c` or, a join, `a+b>c`; `>a` starts, `a>` ends."""
    graph = StateGraph(schema)
    for name, node in nodes.items():
        graph.add_node(name, node, **options.get(name, {}))
    for edge in edges.split():
        before, _, after = edge.partition(">")
        graph.add_edge(before.split("+") if "+" in before else before or START, after or END)
    return graph


def chain(schema: Any, make: Any, names: str, **options: Any) -> Built:
    edges = " ".join(f"{before}>{after}" for before, after in zip(["", *names], [*names, ""], strict=True))
    return graph_of(schema, {name: make(name) for name in names}, edges, **dict.fromkeys(names, options))


def join() -> Built:
    nodes = {name: say(name) for name in ("first", "left", "right", "last")}
    return graph_of(Seen, nodes, ">first first>left first>right left+right>last last>")


def uneven() -> Built:
    nodes = {name: say(name) for name in "abcd"}
    return graph_of(Seen, nodes, ">a >b b>c a+c>d d>")


def sends() -> Built:
    graph = graph_of(Seen, {"plan": say("plan"), "worker": worker, "reduce": say("reduce")}, ">plan worker>reduce")
    graph.add_conditional_edges("plan", lambda _: [Send("worker", number) for number in range(3)], ["worker"])
    return graph


def worker(item: Any) -> dict[str, list[str]]:
    return {"seen": [f"worker {item}"]}


def sends_beside() -> Built:
    """Workers of a `Send` and an ordinary branch in one superstep, and one worker that sends again."""
    nodes = {"plan": say("plan"), "worker": worker, "other": say("other"), "again": worker}
    graph = graph_of(Seen, nodes, ">plan plan>other")
    graph.add_conditional_edges("plan", lambda _: [Send("worker", 1), Send("worker", 2)], ["worker"])
    graph.add_conditional_edges("worker", lambda _: [Send("again", 3)], ["again"])
    return graph


def sends_by_goto() -> Built:
    def plan(_: Any) -> Command[Any]:
        return Command(goto=[Send("worker", 1), Send("worker", 2), "other"], update={"seen": ["plan"]})

    return graph_of(Seen, {"plan": plan, "worker": worker, "other": say("other")}, ">plan")


def wrap(inner: Any) -> Built:
    """A node before, a subgraph, a node after."""
    nodes = {"before": say("before"), "inner": inner, "after": say("after")}
    return graph_of(Seen, nodes, ">before before>inner inner>after after>")


def nested(*, checkpointer: Any = None) -> Built:
    return wrap(chain(Seen, say, "xy").compile(checkpointer=checkpointer))


def deep(*, checkpointer: Any = None) -> Built:
    return wrap(nested(checkpointer=checkpointer).compile())


def called() -> Built:
    """A subgraph that a node calls, rather than being one."""
    inner = chain(Seen, say, "xy").compile()

    def calls(_: Any) -> Any:
        return {"seen": inner.invoke({"seen": []})["seen"]}

    return wrap(calls)


def side_by_side() -> Built:
    nodes: dict[str, Any] = {name: chain(Seen, say, name).compile() for name in "xy"}
    return graph_of(Seen, {**nodes, "last": say("last")}, ">x >y x+y>last last>")


def subgraph_sends() -> Built:
    inner = graph_of(Seen, {"do": say("do"), "done": say("done")}, ">do do>done").compile()
    graph = graph_of(Seen, {"plan": say("plan"), "inner": inner, "last": say("last")}, ">plan inner>last")
    graph.add_conditional_edges("plan", lambda _: [Send("inner", {"seen": [str(one)]}) for one in (1, 2)], ["inner"])
    return graph


def to_parent() -> Built:
    def leave(_: Any) -> Command[Any]:
        return Command(goto="after", update={"seen": ["left"]}, graph=Command.PARENT)

    inner = graph_of(Seen, {"x": say("x"), "leave": leave}, ">x x>leave").compile()
    return graph_of(Seen, {"before": say("before"), "inner": inner, "after": say("after")}, ">before before>inner")


def deferred() -> Built:
    nodes = {name: say(name) for name in ("a", "b", "c", "last")}
    return graph_of(Seen, nodes, ">a a>b b>c a>last c>last", last={"defer": True})


def goto() -> Built:
    nodes = {
        "a": lambda _: Command(goto="b", update={"seen": ["a"]}),
        "b": lambda _: Command(goto=["c", "d"], update={"seen": ["b"]}),
        "c": say("c"),
        "d": say("d"),
    }
    return graph_of(Seen, nodes, ">a")


def loop() -> Built:
    graph = graph_of(Counted, {"step": lambda _: {"count": 1}}, ">step")
    graph.add_conditional_edges("step", lambda state: "step" if state["count"] < 4 else END, ["step", END])
    return graph


def conditional_start() -> Built:
    graph = graph_of(Seen, {"a": say("a"), "b": say("b"), "c": silent}, "a>c b>c")
    graph.add_conditional_edges(START, lambda state: "b" if state["seen"] else "a", ["a", "b"])
    return graph


def handled() -> Built:
    """A node that always raises and the handler that makes up for it, beside one that needs none."""

    def handler(_: Any, error: NodeError) -> dict[str, list[str]]:
        return {"seen": [f"handled {error.node}"]}

    nodes = {"a": say("a"), "b": raising, "c": say("c"), "d": say("d")}
    return graph_of(Seen, nodes, ">a a>b a>c b>d", b={"error_handler": handler})


def handled_by_goto() -> Built:
    def handler(_: Any, error: NodeError) -> Command[Any]:
        return Command(goto="d", update={"seen": [f"handled {error.node}"]})

    nodes = {"a": say("a"), "b": raising, "c": say("c"), "d": say("d")}
    return graph_of(Seen, nodes, ">a a>b b>c", b={"error_handler": handler, "retry_policy": RETRIED})


def retried() -> Built:
    return chain(Seen, stumbling, "ab", retry_policy=RETRIED)


def retried_beside() -> Built:
    nodes = {"a": say("a"), "b": stumbling("b"), "c": say("c"), "d": say("d")}
    return graph_of(Seen, nodes, ">a a>b a>c b+c>d d>", b={"retry_policy": RETRIED})


def cached() -> Built:
    return chain(Seen, say, "ab", cache_policy=CachePolicy(key_func=lambda *_: "one for all inputs"))


def node_error() -> Built:
    nodes = {"a": say("a"), "b": failing("b"), "c": say("c"), "d": say("d")}
    return graph_of(Seen, nodes, ">a a>b a>c b+c>d d>")


def router_error() -> Built:
    def route(_: Any) -> str:
        if os.environ.get(APPLICATION):
            raise ValueError("only in the application")
        return "b"

    graph = graph_of(Seen, {"a": say("a"), "b": say("b")}, ">a")
    graph.add_conditional_edges("a", route, ["b"])
    return graph


def error_below() -> Built:
    return wrap(graph_of(Seen, {"x": say("x"), "y": failing("y")}, ">x x>y").compile())


def asking() -> Built:
    nodes = {"a": say("a"), "ask": lambda _: {"seen": [interrupt("which?")]}, "b": say("b")}
    return graph_of(Seen, nodes, ">a a>ask ask>b b>")


def mood() -> Built:
    return graph_of(Moody, {"a": say("a"), "mood": moody, "b": say("b")}, ">a a>mood mood>b b>")


def pregel() -> Pregel[Any, Any, Any, Any]:
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


@task
def brittle(number: int) -> int:
    if os.environ.get(APPLICATION):
        raise ValueError("only in the application")
    return number + 1


@task
async def adouble(number: int) -> int:
    return number * 2


@entrypoint()
def functional(numbers: list[int]) -> int:
    doubled = [double(number) for number in numbers]
    return double(sum(one.result() for one in doubled)).result()


@entrypoint()
async def afunctional(numbers: list[int]) -> int:
    return await adouble(sum([await adouble(number) for number in numbers]))


@entrypoint()
def remembering(number: int, *, previous: int | None = None) -> Any:
    total = double(number).result() + (previous or 0)
    return entrypoint.final(value=total, save=total)


@entrypoint()
def task_error(number: int) -> int:
    return brittle(double(number).result()).result()
