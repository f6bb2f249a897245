"""What the zoo's workflows come to when nothing disturbs them, and what a thread came to."""

import asyncio
from functools import cache
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver

from support.bench import everything


@cache
def undisturbed(name: str) -> Any:
    """Run a workflow in memory and give its final state."""
    everything()
    from zoo.app import compiled  # noqa: PLC0415 - the zoo is found only now
    from zoo.graphs import INPUTS  # noqa: PLC0415

    config: Any = {"configurable": {"thread_id": "undisturbed"}}
    saver = InMemorySaver()
    graph = compiled(name, saver)
    asyncio.run(graph.ainvoke(INPUTS.get(name, {"seen": []}), config))
    return graph.get_state(config).values


def final_state(dsn: str, thread_id: str) -> Any:
    """Read a thread's state as the application would."""
    everything()
    from zoo.app import compiled  # noqa: PLC0415

    with PostgresSaver.from_conn_string(dsn) as saver:
        graph = compiled(thread_id.rpartition("_")[0], saver)
        return graph.get_state({"configurable": {"thread_id": thread_id}}).values
