"""Keeps the graphs of factories available: makes each, notices when its context ends, makes it again with back-off.

What fails here makes its own workflow unavailable, with a sentence, and nothing else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from resumed.workflows.factories import Factory, FactoryInstance
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import LoadedWorkflow

Changed = Callable[[str, LoadedWorkflow | str], None]


@dataclass(frozen=True, slots=True)
class HostPatience:
    """How long a factory may take before it is called slow, and before it is given up where that can be done.

    A retry waits for `base`, twice as long after each further failure, at most for `cap`; what stayed in its context
    for longer than `settled` begins at `base` again. `closing` is how long leaving a context may take.
    """

    slow: timedelta = timedelta(seconds=20)
    given_up: timedelta = timedelta(minutes=5)
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=1)
    settled: timedelta = timedelta(minutes=2)
    closing: timedelta = timedelta(milliseconds=800)

    def pause(self, failures: int) -> float:
        """Return how many seconds to wait after so many failures in a row."""
        doubled: int = 1 << min(failures - 1, 16)
        return min(self.cap, self.base * doubled).total_seconds()


@dataclass(eq=False)
class FactoryHost:
    """Keeps one factory's graph; `changed` is called with the workflow, or with why there is none.

    `lost` is called before a context that ends by itself closes anything, so that what uses it can be stopped.
    `answered` is set once it is known for the first time whether there is a graph.
    """

    factory: Factory
    changed: Changed
    lost: Callable[[str], None]
    patience: HostPatience = field(default_factory=HostPatience)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    _life: FactoryInstance | None = None
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _keeper: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        """Call the factory, and go on until `end`."""
        self._keeper = asyncio.create_task(self._keep(), name=f"host-{self.factory.name}")

    async def end(self) -> bool:
        """Leave the context; returns whether it ended in time."""
        self._leaving.set()
        if self._life is not None and not await self._life.leave(self.patience.closing):
            return False
        if self._keeper is not None:
            await asyncio.wait({self._keeper})
        return True

    async def _keep(self) -> None:
        failures = 0
        while not self._leaving.is_set():
            stayed = await self._live_once()
            if self._leaving.is_set():
                return
            failures = 1 if stayed > self.patience.settled.total_seconds() else failures + 1
            await _within(self._leaving.wait(), self.patience.pause(failures))

    async def _live_once(self) -> float:
        """Live through one call of the factory and its context; returns for how many seconds there was a graph."""
        loop = asyncio.get_running_loop()
        life = self._life = FactoryInstance(
            self.factory, {"configurable": {}}, lambda _: self.lost(self.factory.name)
        ).begin()
        if not await self._made(life):
            self._tell(load_error(life.workflow.exception() or TimeoutError()))
            return 0.0
        began = loop.time()
        self._tell(life.workflow.result())
        await asyncio.wait({life.task})
        if not self._leaving.is_set():
            error = life.error()
            why = load_error(error) if error is not None else "it closed"
            self._tell(f"its context ended by itself: {why}")
        return loop.time() - began

    async def _made(self, life: FactoryInstance) -> bool:
        """Wait for the graph for as long as it takes; say so where it takes long, and give up what can be cancelled."""
        slow = self.patience.slow.total_seconds()
        await asyncio.wait({life.workflow}, timeout=slow)
        if not life.workflow.done():
            self._tell(f"its callable did not return within {slow:.0f} s; it is waited for")
            await asyncio.wait({life.workflow}, timeout=self.patience.given_up.total_seconds())
        if not life.workflow.done():
            life.task.cancel()
            await asyncio.wait({life.task})
        if life.workflow.exception() is None:
            return True
        await asyncio.wait({life.task})
        return False

    def _tell(self, outcome: LoadedWorkflow | str) -> None:
        self.changed(self.factory.name, outcome)
        self.answered.set()


async def _within(waiting: Any, seconds: float) -> None:
    """Wait for something, but no longer than so many seconds."""
    task = asyncio.ensure_future(waiting)
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
