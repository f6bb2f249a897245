"""The service: `uvicorn shop_service.main:app`, with DATABASE_URL set to a direct connection.

A request that is being served when the process dies has its order on record: the daemon beside it goes on with it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from resumed import AsyncWorkflowExecutor, WorkflowAlreadyRunningError, aget_checkpoint_status
from shop_service.workflow import builder

DATABASE_URL = os.environ["DATABASE_URL"]
VERSION = {"metadata": {"version": "1"}}
graph = builder.compile()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One executor for the process; what still runs when it is closed is left to the daemon."""
    async with AsyncWorkflowExecutor(DATABASE_URL) as executor:
        app.state.executor = executor
        yield


app = FastAPI(title="Orders", lifespan=lifespan)


@app.post("/orders/{number}")
async def order(number: int, request: Request) -> dict[str, Any]:
    """Run an order and wait for it. 409 where it is being run already."""
    executor: AsyncWorkflowExecutor = request.app.state.executor
    try:
        done: dict[str, Any] = await executor.run(
            "orders", graph, {"number": number}, thread_id=f"orders_{number}", config=VERSION
        )
    except WorkflowAlreadyRunningError as error:
        raise HTTPException(409, str(error)) from None
    return done


@app.post("/orders/{number}/later", status_code=202)
async def order_later(number: int, request: Request) -> dict[str, str]:
    """Accept an order; the daemon runs it. Accepted twice, it is run once."""
    executor: AsyncWorkflowExecutor = request.app.state.executor
    return {"thread_id": await executor.submit("orders", {"number": number}, thread_id=f"orders_{number}")}


@app.get("/orders/{number}")
async def status(number: int) -> dict[str, str | bool]:
    """Say where an order stands. 404 where it has not begun."""
    found = await aget_checkpoint_status(f"orders_{number}", DATABASE_URL)
    if found is None:
        raise HTTPException(404, "no such order, or it has not begun")
    return {"verdict": found.verdict, "complete": found.is_complete}
