"""Graphs within graphs, each called in one of the ways in which people call them, with breakpoints and questions."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

WAYS = ("itself", "global", "dict", "helper", "method", "partial", "spot", "tool", "task")


class Died(BaseException):
    """What stands for the end of a process: nothing that it has in hand goes on, nothing more is saved."""


class Log(TypedDict):
    log: Annotated[list[str], lambda left, right: [*left, *right]]


@dataclass(frozen=True)
class Step:
    """One node: it works, asks a question, or calls inner graphs one after the other, itself being none of them."""

    kind: Literal["work", "ask", "call"] = "work"
    inner: tuple["Level", ...] = ()
    way: str = "global"
    asynchronous: bool = True


@dataclass(frozen=True)
class Level:
    """A graph: its nodes in a row, and where it stops; `saves` is its `checkpointer`."""

    steps: tuple[Step, ...]
    before: Literal["*"] | tuple[str, ...] = ()
    after: Literal["*"] | tuple[str, ...] = ()
    saves: bool | None = None


@dataclass
class World:
    """What the nodes have done, in order, and how often each still has to fail."""

    done: list[str] = field(default_factory=list)
    failing: Counter[str] = field(default_factory=Counter)
    dead: bool = False

    def does(self, path: str) -> dict[str, list[str]]:
        if self.dead:
            raise Died
        if self.failing[path] > 0:
            self.failing[path] -= 1
            raise ValueError(path)
        self.done.append(path)
        return {"log": [path]}


def name_of(number: int) -> str:
    return "abcdef"[number]


def build(level: Level, world: World, path: str = "", *, free: bool = True) -> StateGraph[Any, Any, Any, Any]:
    """Build a graph; below one that is called synchronously all are (`free` is then false)."""
    graph, last = StateGraph(Log), START
    for number, step in enumerate(level.steps):
        name = name_of(number)
        graph.add_node(name, _node(step, world, f"{path}{name}", free))
        graph.add_edge(last, name)
        last = name
    return graph


def compiled(level: Level, world: World, path: str = "", *, free: bool = True, **bound: Any) -> Any:
    before, after = (one if one == "*" else list(one) for one in (level.before, level.after))
    stops = {"interrupt_before": before, "interrupt_after": after}
    return build(level, world, path, free=free).compile(**{"checkpointer": level.saves, **stops, **bound})


def _node(step: Step, world: World, path: str, free: bool) -> Any:
    if step.kind == "work":
        return lambda _: world.does(path)
    if step.kind == "ask":
        return lambda _: _asked(world, path)
    asynchronous = free and step.asynchronous
    inherited = free if step.way == "itself" else asynchronous
    makers = [
        partial(compiled, inner, world, f"{path}{number}", free=inherited) for number, inner in enumerate(step.inner)
    ]
    return makers[0]() if step.way == "itself" else CALLING[step.way](makers, asynchronous)


def _asked(world: World, path: str) -> dict[str, list[str]]:
    answer = interrupt(path)
    return {"log": [f"{path}={answer}", *world.does(path)["log"]]}


# Each inner graph is given nothing, and what all of them have logged is what the node has.
def _through(find: Callable[[], list[Any]], asynchronous: bool) -> Any:
    def call(_: Any) -> dict[str, list[str]]:
        return {"log": [line for graph in find() for line in graph.invoke({"log": []})["log"]]}

    async def acall(_: Any) -> dict[str, list[str]]:
        return {"log": [line for graph in find() for line in (await graph.ainvoke({"log": []}))["log"]]}

    return acall if asynchronous else call


def _global(makers: list[Any], asynchronous: bool) -> Any:
    """Functions whose globals are the graphs themselves, as in a module."""
    named = {"ONE": makers[0](), "OTHER": makers[-1]() if len(makers) > 1 else None}
    code = _global_acall if asynchronous else _global_call
    return FunctionType(code.__code__, {**globals(), **named}, code.__name__)


def _global_call(_: Any) -> Any:
    log = ONE.invoke({"log": []})["log"]  # type: ignore[name-defined]  # noqa: F821
    return {"log": [*log, *(OTHER.invoke({"log": []})["log"] if OTHER else [])]}  # type: ignore[name-defined]  # noqa: F821


async def _global_acall(_: Any) -> Any:
    log = (await ONE.ainvoke({"log": []}))["log"]  # type: ignore[name-defined]  # noqa: F821
    return {"log": [*log, *((await OTHER.ainvoke({"log": []}))["log"] if OTHER else [])]}  # type: ignore[name-defined]  # noqa: F821


def _dict(makers: list[Any], asynchronous: bool) -> Any:
    registry = {"graphs": [make() for make in makers]}
    return _through(lambda: registry["graphs"], asynchronous)


def _helper(makers: list[Any], asynchronous: bool) -> Any:
    graphs = [make() for make in makers]

    def helper() -> list[Any]:
        return graphs

    return _through(helper, asynchronous)


class _Holder:
    def __init__(self, graphs: list[Any]) -> None:
        self.graphs = graphs

    def call(self, _: Any) -> Any:
        return {"log": [line for graph in self.graphs for line in graph.invoke({"log": []})["log"]]}

    async def acall(self, _: Any) -> Any:
        return {"log": [line for graph in self.graphs for line in (await graph.ainvoke({"log": []}))["log"]]}


def _method(makers: list[Any], asynchronous: bool) -> Any:
    holder = _Holder([make() for make in makers])
    return holder.acall if asynchronous else holder.call


def _partial(makers: list[Any], asynchronous: bool) -> Any:
    node = _through(lambda: graphs, asynchronous)
    graphs = [make() for make in makers]

    def given(_: str, state: Any) -> Any:
        return node(state)

    async def agiven(_: str, state: Any) -> Any:
        return await node(state)

    return partial(agiven if asynchronous else given, "x")


def _spot(makers: list[Any], asynchronous: bool) -> Any:
    return _through(lambda: [make() for make in makers], asynchronous)


def _tool(makers: list[Any], asynchronous: bool) -> Any:
    registry = {"graphs": [make() for make in makers]}
    node = _through(lambda: registry["graphs"], asynchronous)

    @tool
    def use(text: str) -> str:
        """Run the graphs."""
        return "\n".join(node(None)["log"])

    @tool
    async def ause(text: str) -> str:
        """Run the graphs."""
        return "\n".join((await node(None))["log"])

    chosen = ause if asynchronous else use
    tools = {"node": ToolNode([chosen])}
    call = {"messages": [AIMessage("", tool_calls=[{"name": chosen.name, "args": {"text": ""}, "id": "1"}])]}

    def asks(_: Any) -> Any:
        said = tools["node"].invoke(call)["messages"][-1]
        return {"log": said.content.split("\n")}

    async def aasks(_: Any) -> Any:
        said = (await tools["node"].ainvoke(call))["messages"][-1]
        return {"log": said.content.split("\n")}

    return aasks if asynchronous else asks


def _task(makers: list[Any], asynchronous: bool) -> Any:
    registry = {"graphs": [make() for make in makers]}
    node = _through(lambda: registry["graphs"], asynchronous)
    if asynchronous:

        @task
        async def ainner(given: Any) -> Any:
            return await node(given)

        @entrypoint()
        async def aflow(given: Any) -> Any:
            return await ainner(given)

        async def acalls(state: Any) -> Any:
            return await aflow.ainvoke(state)

        return acalls

    @task
    def inner(given: Any) -> Any:
        return node(given)

    @entrypoint()
    def flow(given: Any) -> Any:
        return inner(given).result()

    def calls(state: Any) -> Any:
        return flow.invoke(state)

    return calls


CALLING: dict[str, Callable[[list[Any], bool], Any]] = {
    "global": _global,
    "dict": _dict,
    "helper": _helper,
    "method": _method,
    "partial": _partial,
    "spot": _spot,
    "tool": _tool,
    "task": _task,
}
