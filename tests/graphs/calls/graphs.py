"""One chain of nodes that note the call; each registration changes one thing. CALLS_WAIT holds the second node."""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.config import get_store
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy

from resumed import Workflow


class Seen(TypedDict):
    seen: Annotated[list[str], lambda left, right: sorted([*left, *right])]


@dataclass
class Tenant:
    name: str


def note(node: str, config: RunnableConfig, **more: Any) -> None:
    """Append one line in one write."""
    line = {
        "thread": config["configurable"]["thread_id"],
        "node": node,
        "configurable": {name: value for name, value in config["configurable"].items() if not name.startswith("__")},
        "metadata": dict(config.get("metadata", {})),
        **more,
    }
    descriptor = os.open(os.environ["ZOO_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, json.dumps(line, default=str).encode() + b"\n")
    os.close(descriptor)


def first(_: Any) -> dict[str, list[str]]:
    return {"seen": ["first"]}


async def second(_: Any, config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, list[str]]:
    context = runtime.context
    note("second", config, context=context.name if isinstance(context, Tenant) else str(context), store=stored())
    await asyncio.sleep(float(os.environ.get("CALLS_WAIT", "0")))
    return {"seen": ["second"]}


def third(_: Any, config: RunnableConfig) -> dict[str, list[str]]:
    note("third", config, saved=saved(config["configurable"]["thread_id"]))
    return {"seen": ["third"]}


def stored() -> str | None:
    try:
        found = get_store().get(("calls",), "key")
    except (RuntimeError, AttributeError):
        return None
    return found.value["held"] if found is not None else None


def saved(thread_id: str) -> int:
    """Tell how far the thread has been saved by now."""
    query = "select max((metadata ->> 'step')::int) from checkpoints where thread_id = %s and checkpoint_ns = ''"
    with psycopg.connect(os.environ["RESUMED_DATABASE_URL"], autocommit=True) as connection:
        found = connection.execute(query, [thread_id]).fetchone()
    return int(found[0]) if found is not None else -2


def chain(middle: Any = second, context: type | None = None, **options: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen, context_schema=context)
    graph.add_node("first", first)
    graph.add_node("second", middle, **options)
    graph.add_node("third", third)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", "third")
    graph.add_edge("third", END)
    return graph


def loop() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Seen)
    graph.add_node("second", second)
    graph.add_edge(START, "second")
    graph.add_edge("second", "second")
    return graph


def by_name(thread_id: str) -> Tenant:
    time.sleep(0.01)
    return Tenant(f"tenant of {thread_id}")


async def by_name_later(thread_id: str) -> Tenant:
    await asyncio.sleep(0.01)
    return by_name(thread_id)


def nobody(thread_id: str) -> Tenant:
    raise LookupError(f"no tenant of {thread_id}, password=hunter2")


def never(thread_id: str) -> Tenant:
    time.sleep(4)
    return Tenant(thread_id)


def filled() -> InMemoryStore:
    store = InMemoryStore()
    store.put(("calls",), "key", {"held": "from the registration's store"})
    return store


inner = StateGraph(Seen).add_node("second", second).add_node("third", third)
inner.add_edge(START, "second").add_edge("second", "third")
cache = InMemoryCache[Any]()

ALL: dict[str, Workflow] = {
    "plain": Workflow(graph=chain(), version="2", accepts=["1"]),
    "narrowed": Workflow(
        graph=chain(), configurable=["tenant", "version", "checkpoint_mine", "absent", "traceparent", "langsmith-trace"]
    ),
    "contextual": Workflow(graph=chain(context=Tenant), context=by_name),
    "contextual_later": Workflow(graph=chain(context=Tenant), context=by_name_later),
    "contextless": Workflow(graph=chain(context=Tenant), context=nobody, max_attempts=1),
    "slow_context": Workflow(graph=chain(context=Tenant), context=never, max_attempts=1, timeout="1s"),
    "stopping": Workflow(graph=chain(), interrupt_before=["third"]),
    "stored": Workflow(graph=chain(), store=filled()),
    "cached": Workflow(graph=chain(cache_policy=CachePolicy(key_func=lambda *_: b"one")), cache=cache, concurrency=1),
    "nested": Workflow(graph=chain(inner.compile())),
    "limited": Workflow(graph=loop(), recursion_limit=3),
    "endless": Workflow(graph=loop()),
}
REGISTERED = [f"{name}=calls.registered:{name}" for name in ALL]
