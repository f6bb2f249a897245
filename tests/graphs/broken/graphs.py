"""The flows: how each looks to the application that dies in it, and how after a deploy to whoever resumes it."""

import importlib
import operator
import time
from typing import Annotated, Any, TypedDict

from langgraph.channels import EphemeralValue, LastValue
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import Send

from broken import values
from broken.stage import DEPLOYED, Seen, deadly, die, fault, graph, say
from resumed import Workflow


class Holding(TypedDict):
    seen: Annotated[list[str], operator.add]
    held: Any


class Typed(TypedDict):
    seen: Annotated[list[str], operator.add]
    held: values.Kept


class Delta(TypedDict):
    seen: Annotated[list[str], DeltaChannel(lambda state, writes: sum(writes, start=list(state)))]
    told: list[str]


class Torn(TypedDict):
    one: str


def now(before: Any, after: Any) -> Any:
    return after if DEPLOYED else before


def renamed() -> Any:
    return now(
        graph(Seen, "a", ("a", "b"), a=say("a"), b=deadly("b")), graph(Seen, "a", ("a", "c"), a=say("a"), c=say("c"))
    )


def one_of_two() -> Any:
    left, right = deadly("left"), deadly("right")
    return now(
        graph(Seen, "a", ("a", "left"), ("a", "right"), a=say("a"), left=left, right=right),
        graph(Seen, "a", ("a", "left"), a=say("a"), left=left),
    )


def sends() -> Any:
    worker = now("worker", "labourer")
    made = graph(Seen, "plan", plan=say("plan"), **{worker: deadly("worker")})
    made.add_conditional_edges("plan", lambda _: [Send(worker, {"item": item}) for item in range(2)], [worker])
    return made


def join() -> Any:
    """Left has reached the join, right is about to."""
    nodes = {
        "a": say("a"), "left": say("left"), "middle": say("middle"), "right": deadly("right"), "last": say("last")
    }  # fmt: skip
    edges: list[Any] = [("a", "left"), ("a", "middle"), ("middle", "right")]
    before = graph(Seen, "a", *edges, (("left", "right"), "last"), **nodes)
    after = graph(Seen, "a", *edges, ("a", "extra"), (("left", "right", "extra"), "last"), extra=say("extra"), **nodes)
    return now(before, after)


def inside() -> Any:
    """The node that was renamed is a subgraph's."""
    inner = now(
        graph(Seen, "x", ("x", "y"), x=say("x"), y=deadly("y")), graph(Seen, "x", ("x", "z"), x=say("x"), z=say("z"))
    )
    return graph(Seen, "inner", ("inner", "after"), inner=inner.compile(), after=say("after"))


def routed(schema: Any = Seen) -> StateGraph[Any, Any, Any, Any]:
    """A node that may raise, whose route may raise."""

    def fragile(_: Any) -> dict[str, list[str]]:
        fault("node")
        return {"seen": ["fragile"]}

    def route(_: Any) -> str:
        fault("router")
        return "taken"

    def last(state: Any) -> dict[str, Any]:
        return {"seen": ["last"], **({"told": list(state["seen"])} if schema is Delta else {})}

    made = graph(
        schema, "a", ("a", "fragile"), ("taken", "last"), a=say("a"), fragile=fragile, taken=say("taken"), last=last
    )
    made.add_conditional_edges("fragile", route, ["taken", END])
    return made


def conflict() -> Any:
    nodes = {name: lambda _, name=name: {"one": name} for name in ("a", "left", "right")}
    return graph(Torn, "a", ("a", "left"), ("a", "right"), **nodes)


def endless() -> Any:
    def step(state: Any) -> dict[str, list[str]]:
        if len(state["seen"]) == 2:
            die()
        return {"seen": ["step"]}

    return graph(Seen, "step", ("step", "step"), step=step)


def holding(value: Any, *, beside: bool = False, schema: Any = Holding) -> Any:
    """Hold a value of some class in the state, or in what a finished sibling of the deadly node has written."""

    def hold(_: Any) -> dict[str, Any]:
        return {"seen": ["hold"], "held": value() if value is not None else None}

    if beside:
        return graph(Holding, "a", ("a", "hold"), ("a", "b"), a=say("a"), hold=hold, b=late("b"))
    return graph(schema, "a", ("a", "b"), ("b", "c"), a=hold, b=deadly("b"), c=say("c"))


def late(name: str) -> Any:
    """Die once the sibling's writes are saved."""

    def node(_: Any) -> dict[str, list[str]]:
        if not DEPLOYED:
            time.sleep(0.5)
        die()
        return {"seen": [name]}

    return node


def nested_holding(value: Any) -> Any:
    return graph(Seen, "inner", ("inner", "after"), inner=holding(value).compile(), after=say("after"))


def stateful(**nodes: Any) -> Any:
    inner = graph(Seen, "x", x=say("x")).compile(checkpointer=True)
    return graph(Seen, "before", ("before", "inner"), ("inner", "after"), before=say("before"), inner=inner,
                 after=say("after"))  # fmt: skip


def joined(*, defer: bool = False) -> Any:
    """A deferred join finds nothing to do in what a plain one has saved."""
    made = StateGraph(Seen)
    for name in ("left", "right"):
        made.add_node(name, say(name))
        made.add_edge(START, name)
    made.add_node("last", deadly("last"), defer=defer)
    made.add_edge(["left", "right"], "last")
    return made


def pregel() -> Pregel[Any, Any, Any, Any]:
    """Nothing but the graph knows that a value in `middle` starts a node; after the deploy none does."""
    middle = now("middle", "centre")
    first = NodeBuilder().subscribe_only("start").do(lambda value: value + "a").write_to(middle)
    second = NodeBuilder().subscribe_only(middle).do(deadly("b")).write_to("end")
    channels = {"start": EphemeralValue(str), middle: EphemeralValue(str), "end": LastValue(str)}
    return Pregel(nodes={"first": first, "second": second}, channels=channels, input_channels=["start"],
                  output_channels=["end"])  # fmt: skip


def gone(name: str) -> Any:
    return lambda: getattr(values, name)(number=1)


def of_module(name: str) -> Any:
    """Make a value whose class's module is imported by whoever loads it."""
    return lambda: importlib.import_module(f"broken.{name}").Value(number=1)


# Name: the graph, how its checkpoints are serialised.
FLOWS: dict[str, tuple[Any, Any]] = {
    "renamed": (renamed(), None),
    "one_of_two": (one_of_two(), None),
    "sends": (sends(), None),
    "join": (join(), None),
    "inside": (inside(), None),
    "router": (routed(), None),
    "node_then_router": (routed(), None),
    "delta": (routed(Delta), None),
    "conflict": (conflict(), None),
    "endless": (endless(), None),
    "deferred_join": (joined(defer=DEPLOYED), None),
    "blobless": (joined(), None),
    "pregel": (pregel(), None),
    "gone": (holding(gone("Gone")), None),
    "gone_model": (holding(gone("GoneModel")), None),
    "gone_nested": (holding(lambda: {"deep": [values.Kept(values.Gone(1))]}), None),
    "gone_beside": (holding(gone("Gone"), beside=True), None),
    "gone_inside": (nested_holding(gone("Gone")), None),
    "gone_listed": (holding(gone("Gone")), values.LISTED),
    "gone_encrypted": (holding(gone("Gone")), values.ENCRYPTED),
    "gone_wrapped": (holding(gone("Gone")), values.Wrapped()),
    "refitted": (holding(gone("Refitted")), None),
    "unlisted": (holding(gone("Kept")), values.UNLISTED if DEPLOYED else None),
    "pickled": (holding(gone("Pickled")), values.PICKLING),
    "unpickled": (holding(gone("Pickled")), None if DEPLOYED else values.PICKLING),
    "hanging": (holding(of_module("hanging")), None),
    "exiting": (holding(of_module("exiting")), None),
    "kept": (holding(gone("Kept")), None),
    "kept_listed": (holding(gone("Kept")), values.LISTED),
    "kept_encrypted": (holding(gone("Kept")), values.ENCRYPTED),
    "kept_wrapped": (holding(gone("Kept")), values.Wrapped()),
    "kept_typed": (holding(gone("Kept"), schema=Typed), None),
    "stateful": (stateful(), None),
    "stateful_first": (stateful(), None),
    "edited_finished": (graph(Seen, "a", ("a", "b"), a=say("a"), b=say("b")), None),
    "copied_finished": (graph(Seen, "a", ("a", "b"), a=say("a"), b=say("b")), None),
    "edited": (graph(Seen, "a", ("a", "b"), a=say("a"), b=deadly("b")), None),
    "copied": (graph(Seen, "a", ("a", "b"), a=say("a"), b=deadly("b")), None),
    "edited_then_run": (holding(None, beside=True), None),
    "edited_then_begun": (nested_holding(None), None),
    "imported": (graph(Seen, "a", ("a", "b"), a=say("a"), b=say("b")), None),
    "downgraded": (graph(Seen, "a", ("a", "b"), a=say("a"), b=deadly("b")), None),
}
POLICIES: dict[str, Any] = {
    "pregel": {"version": now("1", "2")},
    "downgraded": {"version": "1"},
    "endless": {"recursion_limit": 5},
    "hanging": {"timeout": "3s"},
}
WORKFLOWS = {name: Workflow(graph=made, serde=serde, **POLICIES.get(name, {})) for name, (made, serde) in FLOWS.items()}
globals().update(WORKFLOWS)
