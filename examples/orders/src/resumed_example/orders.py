"""Orders: two parallel branches, a join, two more, a join."""

from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from resumed import Workflow
from resumed_example.effects import work_blocking


def both(left: list[str], right: list[str]) -> list[str]:
    """Merge what parallel branches did, in an order that does not depend on which was first."""
    return sorted([*left, *right])


class Order(TypedDict):
    """An order on its way out of the house."""

    number: int
    pieces: int
    total: int
    done: Annotated[list[str], both]


def accept(order: Order, config: RunnableConfig) -> dict[str, Any]:
    """Take the order."""
    work_blocking("accept", config)
    return {"done": [f"accepted {order['number']}"]}


def reserve(order: Order, config: RunnableConfig) -> dict[str, Any]:
    """Reserve its pieces in the store."""
    work_blocking("reserve", config)
    return {"done": [f"reserved {order['pieces']}"]}


def price(order: Order, config: RunnableConfig) -> dict[str, Any]:
    """Add up what they cost."""
    work_blocking("price", config)
    return {"total": 7 * order["pieces"], "done": ["priced"]}


def charge(order: Order, config: RunnableConfig) -> dict[str, Any]:
    """Charge the customer's card, once reserved and priced."""
    work_blocking("charge", config)
    return {"done": [f"charged {order['total']}"]}


def pack(_: Order, config: RunnableConfig) -> dict[str, Any]:
    """Pack the pieces."""
    work_blocking("pack", config)
    return {"done": ["packed"]}


def label(order: Order, config: RunnableConfig) -> dict[str, Any]:
    """Print the label."""
    work_blocking("label", config)
    return {"done": [f"label {order['number']}"]}


def ship(_: Order, config: RunnableConfig) -> dict[str, Any]:
    """Hand the packed and labelled parcel over."""
    work_blocking("ship", config)
    return {"done": ["shipped"]}


def _graph() -> StateGraph[Order, Any, Any, Any]:
    graph = StateGraph(Order)
    for node in (accept, reserve, price, charge, pack, label, ship):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "accept")
    graph.add_edge("accept", "reserve")
    graph.add_edge("accept", "price")
    graph.add_edge(["reserve", "price"], "charge")
    graph.add_edge("charge", "pack")
    graph.add_edge("charge", "label")
    graph.add_edge(["pack", "label"], "ship")
    graph.add_edge("ship", END)
    return graph


def request(number: int) -> dict[str, Any]:
    """Give the input of the thread of this number."""
    return {"number": number, "pieces": 1 + number % 5, "done": []}


workflow = Workflow(graph=_graph(), version="1")
