"""The child process in which user code runs: it loads the registry, reports what it has, and makes attempts on request.

It talks only to its control process, keeps no record of its own and dies with it.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from resumed import timings
from resumed.model import Attempt, Judgement, Refusal
from resumed.observability.redaction import describe_error
from resumed.runtime.attempt import run_attempt
from resumed.runtime.attempt_sessions import AttemptSessions
from resumed.runtime.channel import Channel, die_with_parent, leave_signals_to_parent
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.inspection import inspect_thread
from resumed.runtime.node_threads import TrackedExecutor
from resumed.runtime.prune import prune_thread
from resumed.runtime.workflow_host import WorkflowHost, registration_of
from resumed.store.connection import Target
from resumed.store.libpq_environment import close_sessions_in_fork, complete_dsn
from resumed.workers import memory
from resumed.workers.protocol import (
    ContextUnclosed,
    DrainAttempts,
    EndWorker,
    ErrorRaised,
    InspectThread,
    LoadWorkflow,
    Ping,
    Pong,
    RequestDone,
    RequestResult,
    RunAttempt,
    StartWorker,
    StopAttempts,
    ThreadInspected,
    ToWorker,
    WorkerLeaving,
)
from resumed.workers.prune_messages import PruneThread, refused
from resumed.workflows import event_loops

__all__ = ["Worker", "main", "registration_of"]

_THREADS_PER_ATTEMPT = 8
_OUT_OF_MEMORY_CODE = 70
_BROKEN_CODE = 72


class Worker:
    """Runs attempts side by side on one event loop, each with a session of its own unless they are to share some."""

    def __init__(self, plan: StartWorker, channel: Channel) -> None:
        """Take the plan that the control process sent; no user code has run yet."""
        self._channel = channel
        self._host = WorkflowHost(plan, channel, self._stop_attempts_of)
        settings = plan.settings
        executor = TrackedExecutor(32 + _THREADS_PER_ATTEMPT * settings.concurrency)
        target = Target(complete_dsn(settings.dsn), settings.schema)
        self._isolated = plan.alone
        self._memory_exhausted = False
        self._context = WorkerContext(
            target,
            AttemptSessions(target, "resumed attempt", settings.sessions),
            plan.worker,
            settings.recursion_limit,
            executor,
            channel.send,
            self._end_out_of_memory,
            _trace_context(nests=settings.nests_traces),
        )
        self._requests: dict[str, AttemptRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox: asyncio.Queue[ToWorker] = asyncio.Queue()

    def prepare(self) -> None:
        """Import what is registered, before the loop runs."""
        self._host.import_all()

    async def serve(self) -> None:
        """Send the hello, then handle the control process's messages until it is gone."""
        loop = asyncio.get_running_loop()

        def deliver(message: ToWorker) -> None:
            loop.call_soon_threadsafe(self._inbox.put_nowait, message)

        loop.set_default_executor(self._context.executor)
        loop.set_exception_handler(lambda _, context: self._report_error(context))
        self._channel.listen(deliver)
        await self._host.call_factories()
        self._channel.send(self._host.build_hello())
        self._spawn(self._host.watch_process())
        while not isinstance(message := await self._receive(), EndWorker):
            self._handle(message)
        await self._context.sessions.close()
        for name in await self._host.close():
            self._channel.send(ContextUnclosed(name))

    async def _receive(self) -> ToWorker:
        """Wait for the next message, even where user code cancels every task of the loop."""
        while True:
            try:
                return await self._inbox.get()
            except asyncio.CancelledError:
                continue

    def _stop_attempts_of(self, workflow: str) -> None:
        """Stop the attempts of a workflow whose context ends: what they use is closing, which is not their fault."""
        for request in self._requests.values():
            if request.workflow.name == workflow:
                request.stop.set()

    def _handle(self, message: ToWorker) -> None:
        match message:
            case RunAttempt():
                self._spawn(self._handle_attempt(message))
            case InspectThread():
                self._spawn(self._handle_inspect(message))
            case PruneThread():
                self._spawn(self._handle_prune(message))
            case DrainAttempts(threads):
                for request in self._requests_for(threads):
                    request.drain()
            case StopAttempts(threads):
                for request in self._requests_for(threads):
                    request.stop.set()
            case LoadWorkflow(name):
                self._spawn(self._host.import_again(name))
            case Ping():
                self._channel.send(Pong())

    def _requests_for(self, threads: tuple[str, ...] | None) -> list[AttemptRequest]:
        """Return the requests of these threads, or all."""
        return [request for thread, request in self._requests.items() if threads is None or thread in threads]

    def _report_error(self, context: dict[str, Any]) -> None:
        """Report an error that no code awaited; asyncio would print it with all its values."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._channel.send(ErrorRaised(describe_error(error)))

    def _end_out_of_memory(self, error: BaseException) -> None:
        """End at once: with no memory left, nothing shows which thread took it. Each is then tried alone.

        In the isolation worker the attempt is concluded first; then the process ends, since it may keep the memory.
        """
        self._memory_exhausted = True
        self._report_error({"exception": error})
        if not self._isolated:
            os._exit(_OUT_OF_MEMORY_CODE)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_attempt(self, message: RunAttempt) -> None:
        thread_id, result, report, left_open = message.thread_id, RequestResult.ERROR, None, None
        try:
            if thread_id in self._requests:
                result = RequestResult.BUSY
            elif (request := self._build_request(thread_id, message.workflow)) is None:
                result = RequestResult.UNAVAILABLE
            else:
                request.by_person = message.asked
                result = await self._run_attempt(request)
                left_open = request.left_open
        except Exception as error:  # noqa: BLE001 - an error on one thread must not end the worker
            if memory.exhausted(error):
                self._end_out_of_memory(error)
            report = describe_error(error)
        finally:
            if self._memory_exhausted:
                self._channel.send(WorkerLeaving())
            self._channel.send(RequestDone(thread_id, message.workflow, result, report, left_open))
            if self._memory_exhausted:
                os._exit(_OUT_OF_MEMORY_CODE)

    async def _run_attempt(self, request: AttemptRequest) -> RequestResult:
        self._host.note_attempt()
        self._requests[request.thread_id] = request
        try:
            async with request.resources:
                return await run_attempt(request, self._context)
        finally:
            del self._requests[request.thread_id]

    async def _handle_inspect(self, message: InspectThread) -> None:
        judgement: Judgement | None = None
        error_type: str | None = None
        try:
            request = self._build_request(message.thread_id, message.workflow)
            if request is not None:
                async with request.resources:
                    judgement = await inspect_thread(request, self._context)
        except Exception as error:  # noqa: BLE001 - reported in the answer
            error_type = describe_error(error).error_type
        finally:
            self._channel.send(ThreadInspected(message.thread_id, judgement, error_type))

    async def _handle_prune(self, message: PruneThread) -> None:
        result = refused(message.thread_id, Refusal.FAILED)
        try:
            request = self._build_request(message.thread_id, message.workflow)
            if request is not None:
                async with request.resources:
                    result = await prune_thread(request, self._context, message)
        except Exception as error:  # noqa: BLE001 - reported in the answer
            result = refused(message.thread_id, Refusal.FAILED, describe_error(error).error_type)
        finally:
            self._channel.send(result)

    def _build_request(self, thread_id: str, name: str) -> AttemptRequest | None:
        """Build the request for a thread; None where its workflow is not, or no longer, available."""
        workflow = self._host.registry.available.get(name)
        if workflow is None:
            return None
        registration = self._host.registration_of(workflow)
        return AttemptRequest(thread_id, workflow, registration, graph_may_close=self._host.may_close(name))


def _trace_context(*, nests: bool) -> Callable[[Attempt], AbstractContextManager[None]]:
    """Return what sets the context of an attempt's span around its graph; nothing where nodes trace by themselves."""
    if not nests:
        return lambda _: nullcontext()
    from resumed.observability.otel import SpanContexts  # noqa: PLC0415 - imported only where traces are on

    return SpanContexts().around


def _run(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Serve to the end, whatever user code on the loop does to end it: `sys.exit()` in a task, `loop.stop()`."""
    task = loop.create_task(worker.serve(), name="resumed-worker")
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError):
            continue
    task.result()


def _leave_loop_in_child(loop: asyncio.AbstractEventLoop) -> None:
    """Have a child that was forked on the loop run nothing of what waits there; the code that forked it continues."""
    owner = threading.get_ident()

    def leave() -> None:
        if threading.get_ident() == owner:
            getattr(loop, "_ready").clear()  # noqa: B009 - asyncio's own, and no other way in
            loop.call_soon(os._exit, 0)

    os.register_at_fork(after_in_child=leave)


def main() -> None:
    """Run a worker on the inherited socket: `python -m resumed.runtime DESCRIPTOR PARENT`."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    leave_signals_to_parent()
    channel = Channel(descriptor)
    plan = channel.receive()
    if not isinstance(plan, StartWorker):
        os._exit(_BROKEN_CODE)
    timings.use(plan.settings.timings)
    memory.confine(plan.memory)
    # Set up the loop, the connection string and the fork handlers before any user code is imported.
    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    _leave_loop_in_child(loop)
    os.register_at_fork(after_in_child=close_sessions_in_fork)
    event_loops.install_loop_policy()
    worker = Worker(plan, channel)
    code = _BROKEN_CODE
    try:
        worker.prepare()
        _run(loop, worker)
        code = 0
    finally:
        os._exit(code)
