"""LangGraph itself, really run on a copy of a thread's rows: the judge of our verdicts and of our attempts."""

import asyncio
import copy
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from langgraph.errors import EmptyInputError

from oracle.journal import PLAIN, Journal, Rows
from oracle.recording import RECORDING, Call
from oracle.savers import BothFaces
from resumed.judge.verdict import NULL_TASK

LIMIT = 60
PATIENCE = 10.0
# What another run makes otherwise: ids that are drawn, and addresses.
_CHANCE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|0x[0-9a-f]+|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_SEEN = "__interrupt__"


class _Closed(dict[str, Any]):
    """What was seen before a breakpoint, closed to changes: nobody has approved anything."""

    def __setitem__(self, key: str, value: Any) -> None:
        return

    def copy(self) -> "_Closed":
        return _Closed(self)


class Unapproved(BothFaces):
    """Loads a thread so that a run of it approves no breakpoint and answers no question."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None:
            return None
        writes = found.pending_writes or []
        seen = found.checkpoint["versions_seen"]
        if not any(task != NULL_TASK for task, _, _ in writes):
            seen[_SEEN] = _Closed(seen.get(_SEEN, {}))
        left = [one for one in writes if not (one[0] == NULL_TASK and one[1] == "__resume__")]
        return found._replace(pending_writes=left)


@dataclass
class Run:
    """How a run of a copy went: what it was asked, whether a task began, at which breakpoints it stopped."""

    started: bool = False
    asked: bool = False
    stops: list[str] = field(default_factory=list)
    error: BaseException | None = None
    timed_out: bool = False


@dataclass(frozen=True)
class State:
    """Where a thread stands, as LangGraph tells it to an application; no ids, which another run makes otherwise."""

    values: Any
    next: tuple[str, ...]
    interrupts: tuple[Any, ...]
    error: str = ""

    def equals(self, other: "State") -> bool:
        same = (self.error, self.next, len(self.interrupts)) == (other.error, other.next, len(other.interrupts))
        return same and _equal(self.values, other.values) and _equal(self.interrupts, other.interrupts)


def _equal(one: Any, other: Any) -> bool:
    with suppress(Exception):  # values of any class
        if bool(one == other):
            return True
    return _CHANCE.sub("#", repr(one)) == _CHANCE.sub("#", repr(other))


def bound(call: Call, saver: Any) -> Any:
    """Copy the graph of a call with this checkpointer, and the breakpoints that the call was given."""
    graph = copy.copy(call.graph)
    graph.checkpointer = saver
    for name in ("interrupt_before", "interrupt_after"):
        setattr(graph, f"{name}_nodes", stops_of(call, name))
    return graph


def stops_of(call: Call, name: str) -> Any:
    """The breakpoints of a call, as a registration would declare them: the graph's own and the call's."""
    own, given = getattr(call.graph, f"{name}_nodes") or (), call.options.get(name) or ()
    return "*" if "*" in (own, given) else sorted({*own, *given})


def config_of(call: Call) -> Any:
    """What a resume would be called with: the thread, and what the call brought that names no checkpoint."""
    named = {
        key: value
        for key, value in call.config.get("configurable", {}).items()
        if not key.startswith(("checkpoint_", "__"))
    }
    config: dict[str, Any] = {"configurable": {**named, "thread_id": call.thread}, "recursion_limit": limit_of(call)}
    if call.config.get("metadata"):
        config["metadata"] = {key: value for key, value in call.config["metadata"].items() if not key.startswith("ls_")}
    return config


def limit_of(call: Call) -> int:
    return min(int(call.config.get("recursion_limit", LIMIT)), LIMIT)


class Plain:
    """Runs LangGraph on the copy in the schema `plain`."""

    def __init__(self, journal: Journal, pool: Any) -> None:
        self._journal, self._pool = journal, pool

    def load(self, call: Call, upto: int) -> Rows:
        self._journal.replay(call.source, call.thread, upto, PLAIN)
        return self._journal.rows(PLAIN)

    def rows(self) -> Rows:
        return self._journal.rows(PLAIN)

    def saver(self, call: Call, kind: Callable[..., Any] = BothFaces) -> Any:
        return kind(self._pool, serde=call.saver.serde)

    async def run(self, call: Call, *, approved: bool, given: Any = None, config: Any = None) -> Run:
        """Run the copy to wherever it gets, as the call did it (`face`); without approval nothing is passed."""
        graph = bound(call, self.saver(call, BothFaces if approved else Unapproved))
        config, run = config if config is not None else config_of(call), Run()
        heard = copy.copy(call)
        heard.stops = run.stops
        RECORDING.running.append(heard)
        options = {"context": call.options.get("context"), "stream_mode": ["tasks", "updates"], "subgraphs": True}
        try:
            if call.face == "async":
                await asyncio.wait_for(_consumed(graph, (given, config), options, run), PATIENCE)
            else:
                await in_thread(lambda: _consume(graph, (given, config), options, run))
        except TimeoutError:
            run.timed_out = True
        except BaseException as error:  # noqa: BLE001 - a graph may raise anything
            run.error = error
        finally:
            RECORDING.running.remove(heard)
        return run

    async def state(self, call: Call) -> State:
        return await state_of(bound(call, self.saver(call)), call)


async def state_of(graph: Any, call: Call) -> State:
    """Ask LangGraph where a thread stands; of its history, for `get_state` applies what was never checkpointed."""
    config: Any = {"configurable": {"thread_id": call.thread}}
    try:
        found = await in_thread(lambda: next(iter(graph.get_state_history(config, limit=1)), None))
    except BaseException as error:  # noqa: BLE001 - what a graph cannot read it cannot read on both sides
        return State(None, (), (), type(error).__name__)
    if found is None:
        return State(None, (), (), "no thread")
    return State(found.values, tuple(found.next), tuple(one.value for one in found.interrupts))


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run something that may block in a thread of its own; raises TimeoutError and leaves it where it does not end."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    outcome: list[Any] = [None, None]

    def body() -> None:
        try:
            outcome[0] = work()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            outcome[1] = error
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=body, daemon=True).start()
    await asyncio.wait_for(done.wait(), PATIENCE)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def _note(run: Run, chunk: Any) -> None:
    _, mode, data = chunk
    if mode == "tasks":
        run.started = True
        run.asked = run.asked or bool(data.get("interrupts"))
    elif isinstance(data, dict) and data.get("__interrupt__"):
        run.asked = True


def _consume(graph: Any, arguments: tuple[Any, Any], options: dict[str, Any], run: Run) -> None:
    for chunk in graph.stream(*arguments, **options):
        _note(run, chunk)


async def _consumed(graph: Any, arguments: tuple[Any, Any], options: dict[str, Any], run: Run) -> None:
    async for chunk in graph.astream(*arguments, **options):
        _note(run, chunk)


def told(before: Rows, after: Rows, run: Run) -> str:
    """Say in one word how the thread stood, by what a run without approval did."""
    if run.timed_out:
        return "unknown: the run did not end"
    if before.head is None or isinstance(run.error, EmptyInputError):
        return "nothing"
    had_asked = any(row[3] == "__interrupt__" and row[1] >= before.head for row in before.writes)
    if run.asked and had_asked and after.head == before.head:
        return "waiting"
    if after.new_since(before) or run.asked or (run.started and run.error is not None):
        return "runs"
    if run.error is not None:
        return f"unknown: {type(run.error).__name__} before anything ran"
    if run.stops:
        return "breakpoint"
    return "unknown: a task ran and left nothing" if run.started else "finished"
