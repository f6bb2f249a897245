"""Owns what a drawn graph is, as numbers that travel as JSON, and making a LangGraph graph of it.

Routes are decided by the state alone, and what is merged comes out the same in any order: a rerun decides the same.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send

Tries = Counter[str]


class Seen(TypedDict):
    seen: Annotated[list[str], lambda left, right: sorted([*left, *right])]


@dataclass(frozen=True)
class Exit:
    """How a node is left, by numbers of nodes.

    `edges` to all of `to`; `goto` likewise by a `Command`; `route` to one of `options`, each of which may be several or
    none; `sends`, `copies` to each of `to`; `back` to the first of `to` until it was there twice, then to the others.
    """

    kind: str
    to: tuple[int, ...] = ()
    options: tuple[tuple[int, ...], ...] = ()
    copies: int = 1


@dataclass(frozen=True)
class Drawn:
    """A graph: the exit of each node, where it starts, its joins; who raises, and how often in a process."""

    exits: tuple[Exit, ...]
    starts: tuple[int, ...]
    joins: tuple[tuple[tuple[int, ...], int], ...] = ()
    deferred: tuple[int, ...] = ()
    failing: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Drawn":
        """Make it of what JSON has made of it."""
        exits = tuple(
            Exit(one["kind"], tuple(one["to"]), tuple(map(tuple, one["options"])), one["copies"])
            for one in told["exits"]
        )
        joins = tuple((tuple(members), after) for members, after in told["joins"])
        failing = tuple((name, times) for name, times in told["failing"])
        return cls(exits, tuple(told["starts"]), joins, tuple(told["deferred"]), failing)


def name(number: int) -> str:
    return "abcdefgh"[number]


def build(drawn: Drawn, tries: Tries | None = None) -> StateGraph[Any, Any, Any, Any]:
    """Make the graph; with `tries`, which counts them by thread, what is to fail does so the first times."""
    graph = StateGraph(Seen)
    stumble = _stumbling(drawn, tries)
    for number, way in enumerate(drawn.exits):
        graph.add_node(name(number), _node(name(number), way, stumble), defer=number in drawn.deferred)
    for number in drawn.starts:
        graph.add_edge(START, name(number))
    for members, after in drawn.joins:
        graph.add_edge([name(one) for one in members], name(after))
    for number, way in enumerate(drawn.exits):
        _leave(graph, name(number), way, stumble)
    return graph


def _stumbling(drawn: Drawn, tries: Tries | None) -> Callable[[str, RunnableConfig], None]:
    times = dict(drawn.failing)

    def stumble(what: str, config: RunnableConfig) -> None:
        if tries is None or what not in times:
            return
        key = f"{what} of {config['configurable']['thread_id']}"
        tries[key] += 1
        if tries[key] <= times[what]:
            raise ValueError(f"{what}, try {tries[key]}")

    return stumble


def _node(own: str, way: Exit, stumble: Callable[[str, RunnableConfig], None]) -> Any:
    def node(_: Any, config: RunnableConfig) -> Any:
        stumble(own, config)
        if way.kind == "goto":
            return Command(goto=[name(one) for one in way.to], update={"seen": [own]})
        return {"seen": [own]}

    return node


def _leave(graph: Any, own: str, way: Exit, stumble: Callable[[str, RunnableConfig], None]) -> None:
    if way.kind == "edges":
        for one in way.to:
            graph.add_edge(own, name(one))
    if way.kind not in ("route", "sends", "back"):
        return

    def router(state: Seen, config: RunnableConfig) -> Any:
        stumble(f"router {own}", config)
        return _chosen(own, way, state)

    graph.add_conditional_edges(own, router, [name(one) for one in range(len(graph.nodes))])


def _chosen(own: str, way: Exit, state: Seen) -> list[Any]:
    match way.kind:
        case "sends":
            return [Send(name(one), {"seen": [f"copy {copy}"]}) for one in way.to for copy in range(way.copies)]
        case "back" if way.to and state["seen"].count(own) < 2:
            return [name(way.to[0])]
        case "back":
            return [name(one) for one in way.to[1:]]
        case _:
            return [name(one) for one in way.options[len(state["seen"]) % len(way.options)]] if way.options else []
