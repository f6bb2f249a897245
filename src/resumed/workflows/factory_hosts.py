"""Keeps the graphs of factories available: makes each, notices when its context ends, and makes it again with back-off.

A failure here makes its own workflow unavailable, with a reason, and nothing else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from resumed.workflows.factories import Factory, FactoryInstance
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import LoadedWorkflow

OnChange = Callable[[str, LoadedWorkflow | str], None]


@dataclass(frozen=True, slots=True)
class HostPatience:
    """How long a factory may take before it is reported as slow, and before its call is cancelled if it can be.

    A retry waits for `base`, twice as long after each further failure, at most for `cap`; after a context was open for
    longer than `settled` the wait is `base` again. `closing` is how long closing a context may take.
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
    """Keeps one factory's graph; `on_change` is called with the workflow, or with the reason why there is none.

    `on_lost` is called before a context that ends by itself closes anything, so that its users can be stopped.
    `answered` is set once it is known for the first time whether there is a graph.
    """

    factory: Factory
    on_change: OnChange
    on_lost: Callable[[str], None]
    patience: HostPatience = field(default_factory=HostPatience)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    _instance: FactoryInstance | None = None
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        """Call the factory, and keep its graph until `end`."""
        self._task = asyncio.create_task(self._keep(), name=f"host-{self.factory.name}")

    async def end(self) -> bool:
        """Close the context; return whether it ended in time."""
        self._closing.set()
        if self._instance is not None and not await self._instance.close(self.patience.closing):
            return False
        if self._task is not None:
            await asyncio.wait({self._task})
        return True

    async def _keep(self) -> None:
        failures = 0
        while not self._closing.is_set():
            open_for = await self._run_once()
            if self._closing.is_set():
                return
            failures = 1 if open_for > self.patience.settled.total_seconds() else failures + 1
            waiting = asyncio.ensure_future(self._closing.wait())
            await asyncio.wait({waiting}, timeout=self.patience.pause(failures))
            waiting.cancel()

    async def _run_once(self) -> float:
        """Call the factory once and wait until its context ends; return for how many seconds there was a graph."""
        loop = asyncio.get_running_loop()
        instance = self._instance = FactoryInstance(
            self.factory, {"configurable": {}}, lambda _: self.on_lost(self.factory.name)
        ).begin()
        if not await self._wait_for_graph(instance):
            self._report(load_error(instance.workflow.exception() or TimeoutError()))
            return 0.0
        began = loop.time()
        self._report(instance.workflow.result())
        await asyncio.wait({instance.task})
        if not self._closing.is_set():
            error = instance.error()
            reason = load_error(error) if error is not None else "it closed"
            self._report(f"its context ended by itself: {reason}")
        return loop.time() - began

    async def _wait_for_graph(self, instance: FactoryInstance) -> bool:
        """Wait for the graph; report a slow call, and cancel one that takes too long where that is possible."""
        slow = self.patience.slow.total_seconds()
        await asyncio.wait({instance.workflow}, timeout=slow)
        if not instance.workflow.done():
            self._report(f"its callable did not return within {slow:.0f} s; it is waited for")
            await asyncio.wait({instance.workflow}, timeout=self.patience.given_up.total_seconds())
        if not instance.workflow.done():
            instance.task.cancel()
            await asyncio.wait({instance.task})
        if instance.workflow.exception() is None:
            return True
        await asyncio.wait({instance.task})
        return False

    def _report(self, outcome: LoadedWorkflow | str) -> None:
        self.on_change(self.factory.name, outcome)
        self.answered.set()
