"""Frameworks that are handed a bound graph, until they are killed: `python -m bound.app DSN HOW` begins `<HOW>_1`.

`served`: FastAPI's endpoint awaits it. `routed`: routes that know nothing but a runnable, as LangServe's. `told`: its
events are read. `supervisor`: it is a node of another graph. `queued`: the forked child of a task queue invokes it.
"""

import asyncio
import multiprocessing
import os
import sys
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.load import dumps
from langchain_core.runnables import Runnable

os.environ["BOUND_DSN"] = sys.argv[1]

from bound import graphs
from resumed import WorkflowExecutor

GIVEN: dict[str, Any] = {"seen": []}


def config(how: str) -> Any:
    return {"configurable": {"thread_id": f"{how}_1"}}


def add_routes(app: FastAPI, runnable: Runnable[Any, Any]) -> None:
    @app.post("/stream_events")
    async def stream(call: dict[str, Any]) -> StreamingResponse:
        events = runnable.astream_events(call["input"], call["config"], version="v2")
        return StreamingResponse(dumps(event) + "\n" async for event in events)


async def serve(how: str) -> None:
    app = FastAPI()
    add_routes(app, graphs.routed)

    @app.post("/orders/{thread}")
    async def order(thread: str) -> Any:
        return await graphs.served.ainvoke(GIVEN, {"configurable": {"thread_id": thread}})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        if how == "served":
            (await client.post("/orders/served_1")).raise_for_status()
        else:
            async with client.stream("POST", "/stream_events", json={"input": GIVEN, "config": config(how)}) as parts:
                async for _ in parts.aiter_lines():
                    pass
    await running


async def call(how: str) -> None:
    async with graphs.EXECUTOR:
        if how in {"served", "routed"}:
            await serve(how)
        elif how == "told":
            async for _ in graphs.told.astream_events(GIVEN, config(how), version="v2"):
                pass
        else:
            await graphs.supervisor.ainvoke(GIVEN, config(how))


def task(how: str) -> None:
    with WorkflowExecutor(sys.argv[1]) as executor:
        executor.bind("queued", graphs.queued).invoke(GIVEN, config(how))


if __name__ == "__main__":
    if sys.argv[2] == "queued":
        child = multiprocessing.get_context("fork").Process(target=task, args=("queued",))
        child.start()
        child.join()
    else:
        asyncio.run(call(sys.argv[2]))
