"""Invoices: the functional API. The entrypoint is one step to LangGraph; what its tasks returned is kept, and used."""

import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task

from resumed import Workflow
from resumed_example.effects import work


@task
async def look_up(line: int, config: RunnableConfig) -> int:
    """Look up the price of one line."""
    await work(f"look up {line}", config)
    return 3 * line


@task
async def add_up(prices: list[int], config: RunnableConfig) -> int:
    """Add the prices up."""
    await work("add up", config)
    return sum(prices)


@task
async def draw(total: int, config: RunnableConfig) -> str:
    """Draw the invoice."""
    await work("draw", config)
    return f"invoice over {total}"


@task
async def send(drawn: str, config: RunnableConfig) -> str:
    """Send it."""
    await work("send", config)
    return f"{drawn}, sent"


@entrypoint()
async def invoice(request: dict[str, Any]) -> dict[str, Any]:
    """Make an invoice of so many lines and send it."""
    prices = await asyncio.gather(*(look_up(line) for line in range(1, request["lines"] + 1)))
    total = await add_up(list(prices))
    return {"number": request["number"], "total": total, "sent": await send(await draw(total))}


def request(number: int) -> dict[str, Any]:
    """Give the input of the thread of this number."""
    return {"number": number, "lines": 2 + number % 2}


workflow = Workflow(graph=invoice, version="1")
