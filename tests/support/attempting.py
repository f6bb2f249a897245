"""A worker inside the test's own process: attempts and inspections of real threads, one by one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.graph import START, StateGraph

from resumed.judge.verdict import Ages, Circumstances, judge_snapshot
from resumed.judge.workflow_match import WorkflowMatch
from resumed.model import Attempt, Judgement, PolicyLimits, Verdict
from resumed.runtime.attempt import run_attempt
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.inspection import inspect_thread
from resumed.runtime.node_threads import TrackedExecutor
from resumed.runtime.worker import registration_of
from resumed.store import attempts, cases, checkpoints
from resumed.store.connection import Target, open_session
from resumed.workflows.loaded_workflow import LoadedWorkflow, load_workflow
from resumed.workflows.workflow import Workflow

MINUTE = timedelta(minutes=1)
NUMBERS = PolicyLimits(timedelta(0), timedelta(days=1), 50, 50, timedelta(0), MINUTE, MINUTE, 4)


def workflow_of(name: str, graph: Any) -> LoadedWorkflow:
    made = load_workflow(name, Workflow(graph=graph), graph)
    assert made is not None
    return made


@dataclass
class Place:
    """A worker of the test's own process, and what is asked of it."""

    worker: WorkerContext

    def request(self, workflow: LoadedWorkflow, thread: str) -> AttemptRequest:
        return AttemptRequest(thread, workflow, registration_of(workflow, NUMBERS))

    async def attempt(self, workflow: LoadedWorkflow, thread: str) -> str:
        """Try the thread once and say what came of it, as the worker tells its control process."""
        return await run_attempt(self.request(workflow, thread), self.worker)

    async def attempts(self, thread: str) -> list[Attempt]:
        async with open_session(self.worker.target) as session:
            return await attempts.of_thread(session, thread)

    async def inspect(self, workflow: LoadedWorkflow, thread: str) -> Judgement | None:
        """Ask values and graph; None where they have nothing against a resume."""
        return await inspect_thread(self.request(workflow, thread), self.worker)

    async def reason(self, thread: str) -> tuple[Verdict, str]:
        """Give what the thread's case says of it."""
        async with open_session(self.worker.target) as session:
            case = (await cases.of_threads(session, [thread]))[thread]
        return case.verdict, case.reason

    async def judged(self, workflow: LoadedWorkflow, thread: str) -> Verdict | None:
        """Judge the thread by its rows as a sweep would a moment from now; None where there is no thread."""
        async with open_session(self.worker.target) as session:
            found = await checkpoints.snapshots(session, [thread])
        if thread not in found:
            return None
        claim = WorkflowMatch(workflow.name, (registration_of(workflow, NUMBERS),))
        ages = Ages(NUMBERS.min_age, NUMBERS.max_age)
        return judge_snapshot(found[thread], Circumstances(datetime.now(UTC) + MINUTE / 60, claim, ages)).verdict


@asynccontextmanager
async def place_at(dsn: str, most: int | None = None) -> AsyncIterator[Place]:
    executor = TrackedExecutor(16)
    asyncio.get_running_loop().set_default_executor(executor)
    sessions = AttemptSessions(Target(dsn), "resumed attempt", most)
    try:
        yield Place(WorkerContext(Target(dsn), sessions, "test-1", 1000, executor, lambda _: None))
    finally:
        await sessions.close()


def chain(state: Any, *steps: tuple[str, Any]) -> StateGraph[Any, Any, Any, Any]:
    """Build a graph whose nodes run one after the other."""
    graph, before = StateGraph(state), START
    for name, step in steps:
        graph.add_node(name, step)
        graph.add_edge(before, name)
        before = name
    return graph
