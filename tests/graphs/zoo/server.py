"""The application as a web service: runs one thread a request, `POST /<workflow>/<number>`, and stops as servers do.

`python -m uvicorn zoo.server:app`; the database is RESUMED_DATABASE_URL. A thread's id is `<workflow>_<number>`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from zoo.app import compiled
from zoo.graphs import INPUTS


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    # Synchronous nodes hold a thread each, and the saver needs one too.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
    options = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    dsn = os.environ["RESUMED_DATABASE_URL"]
    async with AsyncConnectionPool(dsn, min_size=4, max_size=4, kwargs=options, open=False) as pool:
        yield {"saver": AsyncPostgresSaver(pool)}
        await asyncio.sleep(float(os.environ.get("ZOO_LINGER", "0")))


async def run(request: Request) -> JSONResponse:
    name = request.path_params["workflow"]
    config: Any = {
        "configurable": {"thread_id": f"{name}_{request.path_params['number']}", "tenant": "acme"},
        "metadata": {"workflow": name},
    }
    result = await compiled(name, request.state.saver).ainvoke(INPUTS.get(name, {"seen": []}), config)
    return JSONResponse(result)


app = Starlette(routes=[Route("/{workflow}/{number}", run, methods=["POST"])], lifespan=lifespan)
