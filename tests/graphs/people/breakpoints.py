"""Flows that stop at a breakpoint, whichever graph it is in, and what a person may do to a thread before a crash."""

from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from people.flows import log


class Said(TypedDict):
    said: Annotated[list[str], lambda left, right: sorted([*left, *right])]


class Inner(TypedDict):
    """A subgraph's own view: it gives back what it has added, not what it was given."""

    heard: Annotated[list[str], lambda left, right: sorted([*left, *right])]


def step(name: str, key: str = "said") -> Any:
    def say(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
        log(name, "end", config)
        return {key: [name]}

    return say


def _ask(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
    answer = interrupt("what?")
    log("ask", "end", config)
    return {"said": [f"ask {answer}"]}


def _chain(**steps: Any) -> StateGraph[Any, Any, Any, Any]:
    graph, before = StateGraph(Said), START
    for name, node in steps.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph


def _fan(schema: Any = Said, key: str = "said") -> StateGraph[Any, Any, Any, Any]:
    """Two nodes in one superstep, so that one may have left rows when the process dies in the other."""
    graph = StateGraph(schema)
    for name in ("first", "left", "right", "last"):
        graph.add_node(name, step(name, key))
    graph.add_edge(START, "first")
    graph.add_edge("first", "left")
    graph.add_edge("first", "right")
    graph.add_edge(["left", "right"], "last")
    return graph


def _around(**breakpoints: Any) -> StateGraph[Any, Any, Any, Any]:
    class Both(Said, Inner):
        """What the parent keeps of both."""

    graph = StateGraph(Both)
    graph.add_node("before", step("before"))
    graph.add_node("inner", _fan(Inner, "heard").compile(**breakpoints))
    graph.add_node("after", step("after"))
    graph.add_edge(START, "before")
    graph.add_edge("before", "inner")
    graph.add_edge("inner", "after")
    return graph


GATED: dict[str, Any] = {
    "line": _chain(a=step("a"), b=step("b"), c=step("c"), d=step("d")),
    "fan": _fan(),
    "question": _chain(first=step("first"), ask=_ask, last=step("last")),
    "registered": _fan(),
    "before": _fan().compile(interrupt_before=["left"]),
    "after": _fan().compile(interrupt_after=["first"]),
    "star": _fan().compile(interrupt_before="*"),
    "inside": _around(interrupt_before=["right"]),
    "inside_after": _around(interrupt_after=["first"]),
    "inside_star": _around(interrupt_after="*"),
}
# What is given at the call is stored nowhere; the registration declares it.
DECLARED: dict[str, Any] = {"registered": {"interrupt_before": ["left"]}}
APPROVED = ("go on",)


@dataclass(frozen=True)
class Scene:
    """What a person does to a thread; the process dies before the given call of the last act, or not at all.

    `verdict` is what `scan` has to say, None where the thread is finished; `lost` that nothing is left of the last act.
    """

    flow: str
    acts: tuple[tuple[Any, ...], ...]
    verdict: str | None
    dies: int = 0
    lost: bool = False


def _gates() -> dict[str, Scene]:
    found = {}
    for flow in ("before", "after", "star", "inside", "inside_after", "inside_star", "registered"):
        found[f"{flow} reached"] = Scene(flow, (), "breakpoint")
        found[f"{flow} approved"] = Scene(flow, (APPROVED,), "breakpoint", 1, lost=True)
        found[f"{flow} passed"] = Scene(flow, (APPROVED,), "stopped", 2)
        found[f"{flow} told news"] = Scene(flow, (("command", {"update": {"said": ["u"]}}),), "breakpoint", 2)
    return found


RESUME = {"resume": "yes"}
SCENES: dict[str, Scene] = {
    **_gates(),
    "edited at a breakpoint": Scene("before", (("edit", {"said": ["e"]}, None),), "breakpoint"),
    "edited as a node": Scene("line", (("edit", {"said": ["e"]}, "b"),), "edited"),
    "edited and run": Scene("line", (("edit", {"said": ["e"]}, "b"), APPROVED), "edited", 1, lost=True),
    "edited and run on": Scene("fan", (("edit", {"said": ["e"]}, "first"), APPROVED), "stopped", 2),
    "edited and done": Scene("line", (("edit", {"said": ["e"]}, None),), None),
    "edited at a question": Scene("question", (("edit", {"said": ["e"]}, None),), "edited"),
    "edited for an answer": Scene("question", (("edit", {"said": ["e"]}, "ask"),), "edited"),
    "copied": Scene("fan", (("copy", "left"),), "edited"),
    "forked": Scene("fan", (("fork", "left", {"said": ["f"]}),), "edited"),
    "travelled": Scene("fan", (("travel", "left"),), None, 1, lost=True),
    "travelled and nothing run": Scene("fan", (("travel", "left"),), "edited", 2, lost=True),
    "travelled and run on": Scene("fan", (("travel", "left"),), "stopped", 3),
    "sent unheard": Scene("line", (("command", {"goto": "c"}),), None, 1, lost=True),
    "sent": Scene("line", (("command", {"goto": "c"}),), "stopped", 2),
    "sent on": Scene("line", (("command", {"goto": "c"}),), "stopped", 4),
    "sent with news": Scene("line", (("command", {"goto": "c", "update": {"said": ["u"]}}),), "stopped", 2),
    "told": Scene("line", (("command", {"update": {"said": ["u"]}}),), None),
    "told at a question": Scene("question", (("command", {"update": {"said": ["u"]}}),), "waiting", 2),
    "sent at a question": Scene("question", (("command", {"goto": "last"}),), "waiting", 2),
    "answered unheard": Scene("question", (("command", RESUME),), "waiting", 1, lost=True),
    "answered": Scene("question", (("command", RESUME),), "stopped", 2),
    "answered with news": Scene("question", (("command", {**RESUME, "update": {"said": ["u"]}}),), "stopped", 2),
    "answered and sent": Scene("question", (("command", {**RESUME, "goto": "last"}),), "stopped", 2),
}


def compiled(flow: str, saver: Any) -> Any:
    graph = GATED[flow]
    if isinstance(graph, StateGraph):
        return graph.compile(checkpointer=saver)
    return graph.copy(update={"checkpointer": saver})


def act(graph: Any, config: Any, flow: str, done: tuple[Any, ...]) -> None:
    """Do to a thread what a person does."""
    kind, *what = done
    if kind == "go on":
        graph.invoke(None, config, durability="sync", **DECLARED.get(flow, {}))
    elif kind == "command":
        graph.invoke(Command(**what[0]), config, durability="sync", **DECLARED.get(flow, {}))
    elif kind == "edit":
        graph.update_state(config, what[0], what[1])
    else:
        _back(graph, config, kind, what)


def _back(graph: Any, config: Any, kind: str, what: list[Any]) -> None:
    past = next(one for one in graph.get_state_history(config) if what[0] in one.next).config
    if kind == "travel":
        there = {**config, "configurable": {**config["configurable"], **past["configurable"]}}
        graph.invoke(None, there, durability="sync")
    elif kind == "fork":
        graph.update_state(past, what[1])
    else:
        graph.update_state(past, None, "__copy__")


def completed(graph: Any, config: Any) -> Any:
    """Approve and answer until nothing is left to run; gives the state."""
    for _ in range(20):
        state = graph.get_state(config)
        if not state.next:
            return state.values
        asked = any(task.interrupts for task in state.tasks)
        graph.invoke(Command(resume="yes") if asked else None, config, durability="sync")
    raise AssertionError(f"{config} is never done")
