"""What tests of attempts begin with: a worker's place at the database, and an application's checkpointer."""

from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from support.attempting import Place, place_at


@pytest.fixture
async def place(database: str) -> AsyncIterator[Place]:
    async with place_at(database) as it:
        yield it


@pytest.fixture
async def saver(database: str) -> AsyncIterator[AsyncPostgresSaver]:
    async with AsyncPostgresSaver.from_conn_string(database) as it:
        yield it
