"""The agents with what they are asked; the process is killed while it runs the last of it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt

from agents import shapes
from agents.tools import client, tool_session

Answer = Callable[[Sequence[Interrupt]], Any]
GO: Any = {"messages": [HumanMessage("go", id="go")]}
SAVERS = ("sync", "async")
DURABILITIES = ("sync", "async")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """An agent, and a person's answers to its questions one after the other.

    `make` builds it, `session` opens what its tools need. `once` are the ids of the tool calls that it comes to, `asked`
    those of them that need a person. Tools that are only asynchronous need `savers` to be so.
    """

    make: Callable[..., Any]
    once: frozenset[str]
    answers: tuple[Answer, ...] = ()
    asked: frozenset[str] = frozenset()
    savers: tuple[str, ...] = ("async",)
    session: Callable[[], Any] | None = None

    @asynccontextmanager
    async def built(self) -> AsyncIterator[Any]:
        """Build the agent, with its session open for as long as that lasts."""
        if self.session is None:
            yield self.make()
            return
        opened = self.session()
        if hasattr(opened, "__aenter__"):
            async with opened as session:
                yield self.make(session.tools())
        else:
            with opened as session:
                yield self.make(session.tools())


def compiled(graph: Any, saver: Any) -> Any:
    if isinstance(graph, Pregel):
        return graph.copy(update={"checkpointer": saver})
    return graph.compile(checkpointer=saver)


def calls(*names: str) -> frozenset[str]:
    return frozenset(names)


def decide(kind: str, **more: Any) -> Answer:
    """Answer a batched review: the same decision for each call that it lists."""
    return lambda asked: Command(
        resume={"decisions": [{"type": kind, **more} for _ in asked[0].value["action_requests"]]}
    )


def approve_each(asked: Sequence[Interrupt]) -> Any:
    return Command(resume={one.id: {"type": "approve"} for one in asked})


def say(word: str) -> Answer:
    return lambda _: Command(resume=word)


FLOWS: dict[str, Flow] = {
    "plain": Flow(make=shapes.plain, once=calls("l1", "p1", "p2", "l2")),
    "tool_node": Flow(make=shapes.tool_node, once=calls("l1", "p1", "p2", "l2")),
    "structured": Flow(make=shapes.structured, once=calls("r1"), savers=SAVERS),
    "supervised": Flow(make=shapes.supervised, once=calls("l1", "p1")),
    "swarm": Flow(make=shapes.swarm, once=calls("l1", "p1")),
    "deep": Flow(make=shapes.deep, once=calls("l1", "p1", "p2")),
    "session": Flow(make=shapes.in_session, once=calls("a1", "a2", "a3"), session=tool_session),
    "client": Flow(make=shapes.in_session, once=calls("a1", "a2", "a3"), session=client, savers=SAVERS),
    "reviewed": Flow(make=shapes.reviewed, once=calls("l1", "l2", "p1"), asked=calls("p1")),
    "approved": Flow(
        make=shapes.reviewed, once=calls("l1", "l2", "p1"), asked=calls("p1"), answers=(decide("approve"),)
    ),
    "rejected": Flow(make=shapes.reviewed, once=calls("l1", "l2"), answers=(decide("reject", message="no"),)),
    "each_approved": Flow(
        make=lambda: shapes.reviewed(mode="per_call"),
        once=calls("l1", "l2", "p1"),
        asked=calls("p1"),
        answers=(approve_each,),
    ),
    "asking": Flow(make=shapes.asking, once=calls("a1", "l1"), asked=calls("a1"), savers=SAVERS),
    "told": Flow(
        make=shapes.asking, once=calls("a1", "l1"), asked=calls("a1"), answers=(say("three"),), savers=SAVERS
    ),
}


def comparable(value: Any) -> Any:
    """Leave out of a state what is made anew by each run: ids of messages and of hand-offs, times of files."""
    match value:
        case BaseMessage():
            named = [(one["name"], one["args"]) for one in getattr(value, "tool_calls", ())]
            return (value.type, value.name, comparable(value.content), named, getattr(value, "status", None))
        case dict():
            return {name: comparable(one) for name, one in value.items() if name not in ("created_at", "modified_at")}
        case list() | tuple():
            return [comparable(one) for one in value]
    return value
