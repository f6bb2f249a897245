"""Makes graphs for single threads: calls a factory with what the thread's call stored, and keeps what it made a while.

A graph is shared by threads for which everything is the same that its factory read. Its context stays open while the
graph is kept or in use, and is left once neither is so.
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

KEPT = 64
_PATIENCE = timedelta(seconds=20)
_CLOSING = timedelta(seconds=5)
_END_PATIENCE = timedelta(milliseconds=800)


@dataclass(eq=False)
class _Made:
    """One graph that was made: what its factory read, and whom to tell when its context ends by itself."""

    log: ReadLog
    life: FactoryInstance
    key: Key
    users: list[Callable[[], None]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Return whether its context is still open and will stay so."""
        return not (self.life.over or self.life.leaving.is_set())


@dataclass(eq=False)
class ThreadGraphs:
    """A registration whose graph is made for each thread; `learned` is called with each graph that is made.

    `reads` says whether its factory has read anything of a config so far.
    """

    factory: Factory
    learned: Callable[[LoadedWorkflow], None] = lambda _: None
    kept: int = KEPT
    reads: bool = False
    _graphs: list[_Made] = field(default_factory=list)
    _lives: set[FactoryInstance] = field(default_factory=set)
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
    async def lent(self, call: Mapping[str, Any], lost: Callable[[], None]) -> AsyncIterator[LoadedWorkflow]:
        """Lend the graph of a thread whose call stored this; raises what its factory raises.

        `lost` is called where the graph's context ends by itself meanwhile, before it closes anything.
        """
        made = self._known(call) or await self._made(call)
        made.users.append(lost)
        self._evict()
        try:
            yield made.life.workflow.result()
        finally:
            made.users.remove(lost)
            self._evict()

    async def end(self) -> bool:
        """Leave every context; returns whether all ended in time."""
        ended = await asyncio.gather(*(one.leave(_END_PATIENCE) for one in list(self._lives)))
        return all(ended)

    def _known(self, call: Mapping[str, Any]) -> _Made | None:
        """Find a living graph that was made from the same values, and keep it as the one used last."""
        fitting = [one for one in self._graphs if not one.log.everything and one.alive and one.log.key(call) == one.key]
        for one in fitting[:1]:
            self._graphs.remove(one)
            self._graphs.append(one)
        return fitting[0] if fitting else None

    async def _made(self, call: Mapping[str, Any]) -> _Made:
        if sum(not one.workflow.done() for one in self._lives) >= self.kept:
            raise RegistrationError(f"{self.kept} calls of its callable have not returned")
        log = ReadLog()
        life = FactoryInstance(self.factory, config_for(call, log), self._lost).begin()
        self._lives.add(life)
        life.task.add_done_callback(lambda _: self._lives.discard(life))
        try:
            await asyncio.wait({life.workflow}, timeout=_PATIENCE.total_seconds())
        finally:
            self.reads = self.reads or log.everything or bool(log.names)
            if not life.workflow.done():
                life.task.cancel()
        if not life.workflow.done():
            raise TimeoutError(f"its callable did not return within {_PATIENCE.total_seconds():.0f} s")
        self.learned(life.workflow.result())
        log.close()
        made = _Made(log, life, log.key(call))
        if twin := self._known(call):
            self._leave(made)
            return twin
        self._graphs.append(made)
        return made

    def _lost(self, life: FactoryInstance) -> None:
        for lost in [lost for made in self._graphs if made.life is life for lost in made.users]:
            lost()

    def _evict(self) -> None:
        """Keep so many graphs, those used last; what nobody uses and no other thread can share is not kept."""
        idle = [one for one in self._graphs if not one.users]
        spent = [one for one in idle if one.log.everything or not one.alive]
        over = [one for one in idle if one not in spent][: max(len(self._graphs) - len(spent) - self.kept, 0)]
        for made in (*spent, *over):
            self._graphs.remove(made)
            self._leave(made)

    def _leave(self, made: _Made) -> None:
        leaving = asyncio.create_task(made.life.leave(_CLOSING))
        self._closing.add(leaving)
        leaving.add_done_callback(self._closing.discard)
