"""Owns what an attempt needs around it: where the database is, which code, whose name, whom to tell."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from langgraph.runtime import RunControl

from resumed.judge.workflow_match import WorkflowMatch
from resumed.model import Registration
from resumed.runtime.node_threads import TrackedExecutor
from resumed.store.connection import Target
from resumed.workers.protocol import Tell
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.thread_graphs import ThreadGraphs


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """One worker's place of work; `recursion_limit` counts supersteps, `tell` sends to the control process.

    `exhausted` is called where a run ended because the process has no memory left.
    """

    target: Target
    worker: str
    recursion_limit: int
    executor: TrackedExecutor
    tell: Tell
    exhausted: Callable[[BaseException], None] | None = None


@dataclass(slots=True)
class AttemptRequest:
    """One thread to be tried: the code and policy for it, and the handles by which a shutdown stops it.

    `drain` asks the graph to stop at the next superstep; `stop` is set when there is no time left for that; `asked`
    says that a person asked for it, so that no silence is waited for. `leases` holds the graph that was made for this
    thread alone, until the ticket is done with; `in_context` says that its graph may live in a context that can end.
    """

    thread_id: str
    workflow: LoadedWorkflow | ThreadGraphs
    registration: Registration
    control: RunControl = field(default_factory=RunControl)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    asked: bool = False
    in_context: bool = False
    leases: AsyncExitStack = field(default_factory=AsyncExitStack)
    _made: LoadedWorkflow | None = None

    async def made(self, workflow: ThreadGraphs, call: Mapping[str, Any]) -> LoadedWorkflow:
        """Return the workflow with the graph for what the thread's call stored. Raises what the factory raises."""
        if self._made is None:
            self._made = await self.leases.enter_async_context(workflow.lent(call, self.stop.set))
        return self._made

    @property
    def claim(self) -> WorkflowMatch:
        """The claim of this worker's own code on the thread, whatever else is registered elsewhere."""
        return WorkflowMatch(self.registration.name, (self.registration,))

    def drain(self) -> None:
        """Ask the graph to stop when its current superstep is done."""
        self.control.request_drain()
