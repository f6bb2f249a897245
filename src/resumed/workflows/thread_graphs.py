"""Graphs for single threads: calls a factory with what the thread's call stored, and caches what it made.

Threads share a graph where everything that its factory read is the same for them. Its context stays open while the
graph is cached or in use, and is closed afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from resumed.errors import RegistrationError
from resumed.workflows.factories import Factory, FactoryInstance
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.recorded_config import Key, ReadLog, config_for
from resumed.workflows.workflow import Workflow

_CACHE_SIZE = 64
_CALL_PATIENCE = timedelta(seconds=20)
_CLOSE_PATIENCE = timedelta(seconds=5)
_END_PATIENCE = timedelta(milliseconds=800)


@dataclass(eq=False)
class _CachedGraph:
    """One graph: what its factory read, and what to call for each of its users when its context ends by itself."""

    log: ReadLog
    instance: FactoryInstance
    key: Key
    users: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether its context is open and will stay so."""
        return not (self.instance.ended or self.instance.closing.is_set())


@dataclass(eq=False)
class ThreadGraphs:
    """A registration whose graph is made for each thread; `on_made` is called with each graph.

    `reads` is true once its factory has read anything of a config.
    """

    factory: Factory
    on_made: Callable[[LoadedWorkflow], None] = lambda _: None
    cache_size: int = _CACHE_SIZE
    reads: bool = False
    _graphs: list[_CachedGraph] = field(default_factory=list)
    _instances: set[FactoryInstance] = field(default_factory=set)
    _closing: "set[asyncio.Task[bool]]" = field(default_factory=set)

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.factory.name

    @property
    def policy(self) -> Workflow:
        """The registration's policy."""
        return self.factory.policy

    @asynccontextmanager
    async def borrow(self, call: Mapping[str, Any], on_lost: Callable[[], None]) -> AsyncIterator[LoadedWorkflow]:
        """Yield the graph of a thread whose call stored this; raises what its factory raises.

        `on_lost` is called where the graph's context ends by itself meanwhile, before it closes anything.
        """
        cached = self._find(call) or await self._make(call)
        cached.users.append(on_lost)
        self._evict()
        try:
            yield cached.instance.workflow.result()
        finally:
            cached.users.remove(on_lost)
            self._evict()

    async def end(self) -> bool:
        """Close every context; return whether all ended in time."""
        return all(await asyncio.gather(*(instance.close(_END_PATIENCE) for instance in list(self._instances))))

    def _find(self, call: Mapping[str, Any]) -> _CachedGraph | None:
        """Return an open graph that was made from the same values, and mark it as the one used last."""
        for cached in self._graphs:
            if not cached.log.everything and cached.is_open and cached.log.key(call) == cached.key:
                self._graphs.remove(cached)
                self._graphs.append(cached)
                return cached
        return None

    async def _make(self, call: Mapping[str, Any]) -> _CachedGraph:
        """Call the factory. Raises what it raises, TimeoutError, RegistrationError where too many calls hang."""
        if sum(not instance.workflow.done() for instance in self._instances) >= self.cache_size:
            raise RegistrationError(f"{self.cache_size} calls of its callable have not returned")
        log = ReadLog()
        instance = FactoryInstance(self.factory, config_for(call, log), self._on_instance_lost).begin()
        self._instances.add(instance)
        instance.task.add_done_callback(lambda _: self._instances.discard(instance))
        try:
            await asyncio.wait({instance.workflow}, timeout=_CALL_PATIENCE.total_seconds())
        finally:
            self.reads = self.reads or log.everything or bool(log.names)
            if not instance.workflow.done():
                instance.task.cancel()
        if not instance.workflow.done():
            raise TimeoutError(f"its callable did not return within {_CALL_PATIENCE.total_seconds():.0f} s")
        self.on_made(instance.workflow.result())
        log.close()
        made = _CachedGraph(log, instance, log.key(call))
        if twin := self._find(call):
            self._close(made)
            return twin
        self._graphs.append(made)
        return made

    def _on_instance_lost(self, instance: FactoryInstance) -> None:
        for on_lost in [user for cached in self._graphs if cached.instance is instance for user in cached.users]:
            on_lost()

    def _evict(self) -> None:
        """Keep the graphs used last, and none that is idle and cannot be shared with another thread."""
        idle = [cached for cached in self._graphs if not cached.users]
        useless = [cached for cached in idle if cached.log.everything or not cached.is_open]
        surplus = max(len(self._graphs) - len(useless) - self.cache_size, 0)
        for cached in (*useless, *[cached for cached in idle if cached not in useless][:surplus]):
            self._graphs.remove(cached)
            self._close(cached)

    def _close(self, cached: _CachedGraph) -> None:
        closing = asyncio.create_task(cached.instance.close(_CLOSE_PATIENCE))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
