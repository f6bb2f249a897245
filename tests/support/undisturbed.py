"""What the zoo's workflows come to when nothing disturbs them, and what a thread came to."""

import asyncio
from collections.abc import Iterable
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
    return final_states(dsn, [thread_id])[thread_id]


def final_states(dsn: str, threads: Iterable[str]) -> dict[str, Any]:
    """Read the states of many threads, in one session."""
    everything()
    from zoo.app import compiled  # noqa: PLC0415

    with PostgresSaver.from_conn_string(dsn) as saver:
        return {
            one: compiled(one.rpartition("_")[0], saver).get_state({"configurable": {"thread_id": one}}).values
            for one in threads
        }
