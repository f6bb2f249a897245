"""The workflow, and its registration: service and daemon import this module, and so run the same code."""

import os
import time
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from resumed import Workflow


class Order(TypedDict, total=False):
    """What is known of an order."""

    number: int
    paid: str
    shipped: bool


def pay(_: Order, config: RunnableConfig) -> Order:
    """Charge under a key that is the same however often this node runs."""
    return {"paid": f"receipt for {config['configurable']['thread_id']}:pay"}


def ship(_: Order) -> Order:
    """Take the time that shipping takes; SHIPPING_SECONDS says how much."""
    time.sleep(float(os.environ.get("SHIPPING_SECONDS", "0")))
    return {"shipped": True}


builder = StateGraph(Order)
builder.add_node("pay", pay)
builder.add_node("ship", ship)
builder.add_edge(START, "pay")
builder.add_edge("pay", "ship")
builder.add_edge("ship", END)

orders = Workflow(graph=builder, version="1", timeout="5m")
