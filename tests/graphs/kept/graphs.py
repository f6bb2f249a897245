"""Workflows whose finished threads are pruned, one for each kind of thread and strategy: `kept_chat`, `gone_chat`, …

Each state has a channel that only the first turn writes: a thread that loses what later turns leave alone shows it.
"""

import os
import time
from datetime import timedelta
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from resumed import Workflow

RETAIN = timedelta(hours=1)


def added(left: list[int], right: list[int]) -> list[int]:
    return [*left, *right]


class Chat(TypedDict, total=False):
    turn: int
    turns: Annotated[list[int], added]
    total: int
    profile: dict[str, Any]
    note: str


class Delta(TypedDict, total=False):
    turn: int
    turns: Annotated[list[int], DeltaChannel(lambda state, writes: sum(writes, start=list(state)))]
    profile: dict[str, Any]


def _reply(state: Any) -> dict[str, Any]:
    time.sleep(float(os.environ.get("KEPT_DELAY", "0")))
    told: dict[str, Any] = {"turns": [state["turn"]]}
    return told if "profile" in state else {**told, "profile": {"began": state["turn"], "long": "p" * 200}}


def _note(state: Any) -> dict[str, Any]:
    return {"total": len(state["turns"]), "note": "n" * 300}


def _ask(state: Any) -> dict[str, Any]:
    return {"note": interrupt("may it go on?")}


def _fail(_: Any) -> dict[str, Any]:
    message = "it cannot be done"
    raise RuntimeError(message)


def _graph(state: Any, *steps: tuple[str, Any]) -> StateGraph[Any, Any, Any, Any]:
    graph, before = StateGraph(state), START
    for name, node in steps:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph


_TURN = (("reply", _reply), ("note", _note))


def built(kind: str) -> StateGraph[Any, Any, Any, Any]:
    """Build the graph of a kind of thread."""
    match kind:
        case "delta":
            return _graph(Delta, ("reply", _reply), ("again", lambda _: {}))
        case "nested":
            return _graph(Chat, ("inner", _graph(Chat, *_TURN).compile()), ("note", _note))
        case "stateful":
            inner = _graph(Chat, *_TURN).compile(checkpointer=True)
            return _graph(Chat, ("inner", inner), ("after", lambda _: {"note": "after"}))
        case "waiting":
            return _graph(Chat, *_TURN, ("ask", _ask))
        case "failed" | "quarantined":
            return _graph(Chat, *_TURN, ("fail", _fail))
        case _:
            return _graph(Chat, *_TURN)


# What becomes of one thread of each kind is in `kept.threads`.
KINDS = (
    "once", "chat", "delta", "nested", "stateful", "forked", "edited", "updated", "waiting", "failed", "quarantined",
    "breakpoint", "locked", "unlocked", "vanishing",
)  # fmt: skip
STRATEGIES = {"kept": "keep_latest", "gone": "delete"}


def workflow(name: str) -> Workflow:
    """Build the registration of `kept_<kind>` or `gone_<kind>`."""
    strategy, _, kind = name.partition("_")
    before = ["note"] if kind == "breakpoint" else []
    return Workflow(
        graph=built(kind), retention=STRATEGIES[strategy], retain=RETAIN, min_age="10m", interrupt_before=before
    )


ALL = {f"{strategy}_{kind}": workflow(f"{strategy}_{kind}") for strategy in STRATEGIES for kind in KINDS}
globals().update(ALL)
built_chat, built_waiting = built("chat"), built("waiting")  # which say nothing of retention
