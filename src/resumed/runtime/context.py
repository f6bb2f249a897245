"""What an attempt works with: the worker it runs in, the thread it is for, the session that holds the thread's lock."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field

from langgraph.runtime import RunControl

from resumed.judge.workflow_match import WorkflowMatch
from resumed.model import Attempt, Registration
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.runtime.node_threads import TrackedExecutor
from resumed.store.connection import Session, Target
from resumed.workers.protocol import Tell
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.thread_graphs import ThreadGraphs


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The worker process that attempts run in.

    `recursion_limit` counts supersteps; `send` sends a message to the control process; `on_memory_exhausted` is called
    where a run ended because the process has no memory left; a graph runs inside of `trace_context`.
    """

    target: Target
    sessions: AttemptSessions
    name: str
    recursion_limit: int
    executor: TrackedExecutor
    send: Tell
    on_memory_exhausted: Callable[[BaseException], None] | None = None
    trace_context: Callable[[Attempt], AbstractContextManager[None]] = lambda _: nullcontext()


@dataclass(slots=True)
class AttemptRequest:
    """One thread to resume: the code and policy for it, and the handles by which a shutdown stops it.

    `control` asks the graph to stop at its next superstep; `stop` is set when there is no time left for that.
    `by_person` is true where a person asked for the attempt: it does not wait for silence. `resources` holds the graph
    that was made for this thread alone until the request is done; `graph_may_close` is true where the graph lives in a
    context that can end by itself. `left_open` is the number of the attempt that has begun and is not closed yet.
    """

    thread_id: str
    workflow: LoadedWorkflow | ThreadGraphs
    registration: Registration
    control: RunControl = field(default_factory=RunControl)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    by_person: bool = False
    graph_may_close: bool = False
    left_open: int | None = None
    resources: AsyncExitStack = field(default_factory=AsyncExitStack)
    _thread_workflow: LoadedWorkflow | None = None

    async def load_thread_workflow(self, graphs: ThreadGraphs, call: Mapping[str, object]) -> LoadedWorkflow:
        """Return the workflow with the graph for what the thread's call stored. Raises what the factory raises."""
        if self._thread_workflow is None:
            self._thread_workflow = await self.resources.enter_async_context(graphs.borrow(call, self.stop.set))
        return self._thread_workflow

    @property
    def workflow_match(self) -> WorkflowMatch:
        """How this worker's own code fits the thread, whatever else is registered elsewhere."""
        return WorkflowMatch(self.registration.name, (self.registration,))

    def drain(self) -> None:
        """Ask the graph to stop when its current superstep is done."""
        self.control.request_drain()


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """One attempt: the session that holds the thread's lock, what was requested, and the worker that runs it."""

    session: Session
    request: AttemptRequest
    worker: WorkerContext

    @property
    def thread_id(self) -> str:
        """The thread that the attempt is for."""
        return self.request.thread_id
