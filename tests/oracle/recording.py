"""Records each call and edit of a graph that LangGraph's tests make, with where the journal stood before and after."""

import functools
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import ensure_config
from langgraph.errors import GraphInterrupt
from langgraph.pregel import Pregel
from langgraph.pregel._loop import PregelLoop

from oracle.objects import Restore, snapshot
from oracle.savers import ON_SAVE, PLACE, source_of

_STOPS = ("interrupt_before", "interrupt_after")
_EDITING: ContextVar[bool] = ContextVar("editing", default=False)


@dataclass
class Call:
    """One call or edit: of which graph, on which thread of which checkpointer, and from where to where in the journal.

    `objects` are what the test itself remembered at each transaction of the call, its ends among them.
    `stops` are the breakpoints at which LangGraph's own loops stopped; None for an edit, which runs none.
    """

    graph: Any
    saver: Any
    source: str
    thread: str
    config: RunnableConfig
    given: Any
    options: dict[str, Any]
    face: str
    start: int
    number: int = 0
    end: int = 0
    stops: list[str] | None = None
    error: BaseException | None = None
    objects: dict[int, Restore] = field(default_factory=dict)

    @property
    def edit(self) -> bool:
        return self.face == "edit"

    def recall(self, xid: int) -> None:
        """Put the test's own objects back to what they were at this transaction, or at the last one before it."""
        known = [one for one in self.objects if one <= xid]
        if known:
            self.objects[max(known)]()

    @property
    def says(self) -> str:
        return f"call {self.number} ({type(self.graph).__name__} {self.face})"


@dataclass
class Recording:
    """The calls of the test that runs, in order, and those that have not ended."""

    calls: list[Call] = field(default_factory=list)
    running: list[Call] = field(default_factory=list)
    active: bool = False

    def begin(self, graph: Any, config: Any, given: Any, options: dict[str, Any], face: str) -> Call | None:
        merged = ensure_config(graph.config, config)
        named = merged.get("configurable", {})
        saver = named.get("__pregel_checkpointer") or graph.checkpointer
        source, thread = source_of(saver), named.get("thread_id")
        if not self.active or "__pregel_task_id" in named or source is None or thread is None:
            return None
        start = PLACE["journal"].position(source, str(thread))
        call = Call(graph, saver, source, str(thread), merged, given, options, face, start)
        call.stops = None if call.edit else []
        call.objects[start] = snapshot(graph)
        self.running.append(call)
        return call

    def end(self, call: Call, error: BaseException | None) -> None:
        call.end, call.error = PLACE["journal"].position(call.source, call.thread), error
        if call.end > call.start or call.end not in call.objects:
            call.objects[call.end] = snapshot(call.graph)
        self.running.remove(call)
        call.number = len(self.calls) + 1
        self.calls.append(call)

    def saved(self, saver: Any, config: Any) -> None:
        """Keep what the test remembers at the transaction that was just made."""
        thread = str(config.get("configurable", {}).get("thread_id"))
        for call in self.running:
            if self.active and call.thread == thread and call.source == source_of(saver):
                call.objects[PLACE["journal"].position(call.source, thread)] = snapshot(call.graph)

    def stopped(self, loop: Any) -> None:
        """Take down at which breakpoint a loop of a call that runs stopped."""
        thread = str(loop.config.get("configurable", {}).get("thread_id"))
        for call in self.running:
            if call.thread == thread and call.stops is not None:
                call.stops.append(loop.status)


RECORDING = Recording()


def install() -> None:
    """Have every graph of this process record what is done with it."""
    ON_SAVE.append(RECORDING.saved)
    Pregel.stream = _recorded(Pregel.stream)  # type: ignore[method-assign]
    Pregel.astream = _arecorded(Pregel.astream)  # type: ignore[method-assign]
    Pregel.bulk_update_state = _edited(Pregel.bulk_update_state)  # type: ignore[method-assign]
    Pregel.abulk_update_state = _aedited(Pregel.abulk_update_state)  # type: ignore[method-assign]
    for name in ("tick", "after_tick"):
        setattr(PregelLoop, name, _heard(getattr(PregelLoop, name)))


def _heard(step: Any) -> Any:
    @functools.wraps(step)
    def heard(self: Any) -> Any:
        try:
            return step(self)
        except GraphInterrupt:
            if self.status in _STOPS:
                RECORDING.stopped(self)
            raise

    return heard


def _recorded(stream: Any) -> Any:
    @functools.wraps(stream)
    def recorded(self: Any, input: Any, config: Any = None, **options: Any) -> Iterator[Any]:  # noqa: A002
        call = RECORDING.begin(self, config, input, options, "sync")
        error: BaseException | None = None
        try:
            yield from stream(self, input, config, **options)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if call is not None:
                RECORDING.end(call, error)

    return recorded


def _arecorded(astream: Any) -> Any:
    @functools.wraps(astream)
    async def recorded(self: Any, input: Any, config: Any = None, **options: Any) -> AsyncIterator[Any]:  # noqa: A002
        call = RECORDING.begin(self, config, input, options, "async")
        error: BaseException | None = None
        chunks = astream(self, input, config, **options)
        try:
            async for chunk in chunks:
                yield chunk
        except BaseException as raised:
            error = raised
            raise
        finally:
            await chunks.aclose()
            if call is not None:
                RECORDING.end(call, error)

    return recorded


def _edited(edit: Any) -> Any:
    @functools.wraps(edit)
    def edited(self: Any, config: Any, updates: Any) -> Any:
        call = None if _EDITING.get() else RECORDING.begin(self, config, updates, {}, "edit")
        token = _EDITING.set(True)
        error: BaseException | None = None
        try:
            return edit(self, config, updates)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _EDITING.reset(token)
            if call is not None:
                RECORDING.end(call, error)

    return edited


def _aedited(edit: Any) -> Any:
    @functools.wraps(edit)
    async def edited(self: Any, config: Any, updates: Any) -> Any:
        call = None if _EDITING.get() else RECORDING.begin(self, config, updates, {}, "edit")
        token = _EDITING.set(True)
        error: BaseException | None = None
        try:
            return await edit(self, config, updates)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _EDITING.reset(token)
            if call is not None:
                RECORDING.end(call, error)

    return edited
