"""Approvals: a person has to answer before the money goes out. Nobody else may."""

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from resumed import Workflow
from resumed_example.effects import work


class Refund(TypedDict):
    """A refund that somebody has to approve."""

    number: int
    amount: int
    answer: str
    result: str


async def prepare(refund: Refund, config: RunnableConfig) -> dict[str, Any]:
    """Find out how much it is about."""
    await work("prepare", config)
    return {"amount": 10 * refund["number"]}


async def check(_: Refund, config: RunnableConfig) -> dict[str, Any]:
    """Check that it has not been paid before."""
    await work("check", config)
    return {"result": "checked"}


async def ask(refund: Refund, config: RunnableConfig) -> dict[str, Any]:
    """Ask a person; nothing before `interrupt` has a side effect, for it runs again with the answer."""
    answer = interrupt(f"pay {refund['amount']} back?")
    await work("ask", config)
    return {"answer": str(answer)}


async def pay(refund: Refund, config: RunnableConfig) -> dict[str, Any]:
    """Pay, or do not, as the person said."""
    await work("pay", config)
    return {"result": f"paid {refund['amount']}" if refund["answer"] == "yes" else "not paid"}


def _graph() -> StateGraph[Refund, Any, Any, Any]:
    graph = StateGraph(Refund)
    before = START
    for node in (prepare, check, ask, pay):
        graph.add_node(node.__name__, node)
        graph.add_edge(before, node.__name__)
        before = node.__name__
    graph.add_edge(before, END)
    return graph


def request(number: int) -> dict[str, Any]:
    """Give the input of the thread of this number."""
    return {"number": number, "amount": 0, "answer": "", "result": ""}


workflow = Workflow(graph=_graph(), version="1")
