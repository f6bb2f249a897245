"""The agents with the answers that people give them; a process is killed in one of the runs that these begin."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt

from agents import shapes
from agents.tools import client, tool_session

Answers = Callable[[Sequence[Interrupt]], Any]
GO: Any = {"messages": [HumanMessage("go", id="go")]}
BOTH = ("sync", "async")


@dataclass(frozen=True)
class Reply:
    """What a person says to the questions that wait, and the ids of the calls that this lets through."""

    answer: Answers
    lets: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Flow:
    """An agent, the ids of the tool calls that it comes to, and the replies that it needs for that.

    `session` opens what its tools live on. `savers` and `durabilities` are those of the application.
    """

    make: Callable[..., Any]
    calls: frozenset[str]
    replies: tuple[Reply, ...] = ()
    savers: tuple[str, ...] = ("async",)
    durabilities: tuple[str, ...] = BOTH
    session: Callable[[], Any] | None = None

    @asynccontextmanager
    async def built(self) -> AsyncIterator[Any]:
        """Build the agent, with its session open for as long as that lasts."""
        opened = self.session() if self.session is not None else None
        if opened is None:
            yield self.make()
        elif hasattr(opened, "__aenter__"):
            async with opened as session:
                yield self.make(session.tools())
        else:
            with opened as session:
                yield self.make(session.tools())


def compiled(graph: Any, saver: Any) -> Any:
    if isinstance(graph, Pregel):
        return graph.copy(update={"checkpointer": saver})
    return graph.compile(checkpointer=saver)


def ids(*names: str) -> frozenset[str]:
    return frozenset(names)


def decide(kind: str, **more: Any) -> Answers:
    """Answer a batched review with the same decision for each call that it lists."""

    def answer(asked: Sequence[Interrupt]) -> Any:
        return Command(resume={"decisions": [{"type": kind, **more} for _ in asked[0].value["action_requests"]]})

    return answer


def approve_each(asked: Sequence[Interrupt]) -> Any:
    return Command(resume={one.id: {"type": "approve"} for one in asked})


def approve_payment(amount: int) -> Answers:
    """Approve one of the payments that wait, and say nothing of the others."""

    def answer(asked: Sequence[Interrupt]) -> Any:
        meant = next(one for one in asked if one.value["args"] == {"amount": amount})
        return Command(resume={meant.id: {"type": "approve"}})

    return answer


APPROVED = Reply(decide("approve"), ids("p1"))
EDIT = {"name": "pay", "args": {"amount": 7}}

FLOWS: dict[str, Flow] = {
    "plain": Flow(make=shapes.plain, calls=ids("l1", "p1", "p2", "l2")),
    "tool_node": Flow(make=shapes.tool_node, calls=ids("l1", "p1", "p2", "l2")),
    "structured": Flow(make=shapes.structured, calls=ids("r1"), savers=BOTH),
    "limited": Flow(make=shapes.limited, calls=ids("l1", "l2"), savers=BOTH),
    "summarized": Flow(make=shapes.summarized, calls=ids("l1", "l2", "l3")),
    "supervised": Flow(make=shapes.supervised, calls=ids("l1", "p1")),
    "companies": Flow(make=shapes.companies, calls=ids("l1", "p1")),
    "swarm": Flow(make=shapes.swarm, calls=ids("l1", "p1")),
    # Under durability="async" its own state can be ahead of its parent's, or behind: such a thread is held.
    "keeping_state": Flow(make=shapes.keeping_state, calls=ids("l1", "p1"), durabilities=("sync",)),
    "deep": Flow(make=shapes.deep, calls=ids("l1", "p1", "p2")),
    "in_tool": Flow(make=shapes.in_tool, calls=ids("l1", "p1", "p2")),
    "session": Flow(make=shapes.in_session, calls=ids("a1", "a2", "a3"), session=tool_session),
    "client": Flow(make=shapes.in_session, calls=ids("a1", "a2", "a3"), session=client, savers=BOTH),
    "approved": Flow(make=shapes.reviewed, calls=ids("l1", "l2", "p1"), replies=(APPROVED,)),
    "rejected": Flow(make=shapes.reviewed, calls=ids("l1", "l2"), replies=(Reply(decide("reject", message="no")),)),
    "edited": Flow(
        make=shapes.reviewed,
        calls=ids("l1", "l2", "p1"),
        replies=(Reply(decide("edit", edited_action=EDIT), ids("p1")),),
    ),
    "each_approved": Flow(
        make=lambda: shapes.reviewed(mode="per_call", payments=2),
        calls=ids("l1", "l2", "p1", "p2"),
        replies=(Reply(approve_each, ids("p1", "p2")),),
    ),
    "half_approved": Flow(
        make=lambda: shapes.reviewed(mode="per_call", payments=2),
        calls=ids("l1", "l2", "p1", "p2"),
        replies=(Reply(approve_payment(2), ids("p2")), Reply(approve_payment(1), ids("p1"))),
    ),
    "told": Flow(
        make=shapes.asking,
        calls=ids("a1", "l1"),
        replies=(Reply(lambda _: Command(resume="three"), ids("a1")),),
        savers=BOTH,
    ),
    "deep_approved": Flow(
        make=lambda: shapes.deep(interrupt_on={"pay": True}), calls=ids("l1", "p1", "p2"), replies=(APPROVED,)
    ),
}


def comparable(value: Any) -> Any:
    """Leave out of a state what is made anew by each run: ids of messages and of hand-offs, times of files."""
    match value:
        case BaseMessage():
            asked = [(one["name"], one["args"]) for one in getattr(value, "tool_calls", ())]
            return (value.type, value.name, comparable(value.content), asked, getattr(value, "status", None))
        case dict():
            return {name: comparable(one) for name, one in value.items() if name not in ("created_at", "modified_at")}
        case list() | tuple():
            return _in_order([comparable(one) for one in value])
    return value


def _in_order(told: list[Any]) -> list[Any]:
    """Sort answers of tools that stand side by side: a `DeltaChannel` does not read them back in the calls' order."""
    grouped = groupby(told, key=lambda one: isinstance(one, tuple) and one[0] == "tool")
    return [one for answers, group in grouped for one in (sorted(group, key=repr) if answers else group)]
