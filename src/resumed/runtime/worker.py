"""The child process in which user code runs: it loads the registry, says what it has, and tries threads when asked.

It speaks only to its control process, keeps no record of its own and dies with it.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from resumed.model import Refusal
from resumed.observability.redaction import describe_error
from resumed.runtime.attempt import run_attempt
from resumed.runtime.channel import Channel, die_with_parent, leave_signals_to_parent
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.inspection import inspect_thread
from resumed.runtime.node_threads import TrackedExecutor
from resumed.runtime.prune import prune_thread
from resumed.runtime.workflow_host import WorkflowHost, registration_of
from resumed.store.connection import Target
from resumed.store.libpq_environment import close_sessions_in_fork, complete_dsn
from resumed.workers import memory
from resumed.workers.protocol import Message
from resumed.workers.prune_messages import PruneOrder, order_from_wire, refused, result_to_wire
from resumed.workflows import event_loops

__all__ = ["Worker", "main", "registration_of"]

_THREADS_PER_ATTEMPT = 8
_OUT_OF_MEMORY = 70
_BROKEN = 72


class Worker:
    """Runs attempts side by side on one event loop, each with a session of its own."""

    def __init__(self, plan: Message, channel: Channel) -> None:
        """Take the plan that the control process sent; no user code has run yet."""
        self._channel = channel
        self._stock = WorkflowHost(plan, channel, self._stop_all_of)
        executor = TrackedExecutor(32 + _THREADS_PER_ATTEMPT * plan["concurrency"])
        target = Target(complete_dsn(plan["dsn"]), plan["schema"])
        self._alone: bool = plan["alone"]
        self._full = False
        self._desk = WorkerContext(
            target, plan["worker"], plan["recursion_limit"], executor, channel.send, self._exhausted
        )
        self._tickets: dict[str, AttemptRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()

    def prepare(self) -> None:
        """Import what is registered, before the loop runs."""
        self._stock.import_all()

    async def serve(self) -> None:
        """Say hello, then do what the control process asks until it is gone."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(self._desk.executor)
        loop.set_exception_handler(lambda _, context: self._troubled(context))
        self._channel.listen(lambda message: _deliver(loop, self._inbox, message))
        await self._stock.open()
        self._channel.send(self._stock.hello())
        self._spawn(self._stock.watch())
        while (message := await self._next())["kind"] != "end":
            self._handle(message)
        for name in await self._stock.close():
            self._channel.send({"kind": "unclosed", "name": name})

    async def _next(self) -> Message:
        """Wait for the next message, whoever cancels every task that there is."""
        while True:
            try:
                return await self._inbox.get()
            except asyncio.CancelledError:
                continue

    def _stop_all_of(self, workflow: str) -> None:
        """Stop the attempts of a workflow whose context ends: what they use is closing, and that is not their fault."""
        for request in self._tickets.values():
            if request.workflow.name == workflow:
                request.stop.set()

    def _handle(self, message: Message) -> None:
        match message["kind"]:
            case "attempt":
                self._spawn(self._attempt(message))
            case "inspect":
                self._spawn(self._inspect(message))
            case "prune":
                self._spawn(self._prune(order_from_wire(message)))
            case "drain":
                for request in self._meant(message):
                    request.drain()
            case "stop":
                for request in self._meant(message):
                    request.stop.set()
            case "load":
                self._spawn(self._stock.import_one(message["name"]))
            case "ping":
                self._channel.send({"kind": "pong"})

    def _meant(self, message: Message) -> list[AttemptRequest]:
        """The tickets of the threads that a message names, or all where it names none."""
        named = message.get("threads")
        return [request for thread, request in self._tickets.items() if named is None or thread in named]

    def _troubled(self, context: dict[str, Any]) -> None:
        """Tell of an error that nobody waited for; asyncio would print it with all its values."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            report = describe_error(error)
            told = {"error_type": report.error_type, "error_at": report.error_at, "error": report.error}
            self._channel.send({"kind": "troubled", **told})

    def _exhausted(self, error: BaseException) -> None:
        """End at once: with no memory left, which of the threads took it cannot be told. Each is then tried alone.

        One that was alone has its attempt concluded first; what it took may be held for as long as the process lives.
        """
        self._full = True
        self._troubled({"exception": error})
        if not self._alone:
            os._exit(_OUT_OF_MEMORY)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, message: Message) -> None:
        thread_id = message["thread_id"]
        done: Message = {"kind": "done", "thread_id": thread_id, "workflow": message["workflow"], "result": "error"}
        try:
            if thread_id in self._tickets:
                done["result"] = "busy"
            elif (request := self._ticket(thread_id, message["workflow"])) is None:
                done["result"] = "unavailable"
            else:
                request.asked = message["asked"]
                done["result"] = await self._tried(request)
        except Exception as error:  # noqa: BLE001 - one thread's trouble must not become the worker's
            if memory.exhausted(error):
                self._exhausted(error)
            report = describe_error(error)
            done |= {"error_type": report.error_type, "error_at": report.error_at, "error": report.error}
        finally:
            if self._full:
                self._channel.send({"kind": "leaving"})
            self._channel.send(done)
            if self._full:
                os._exit(_OUT_OF_MEMORY)

    async def _tried(self, request: AttemptRequest) -> str:
        self._stock.work()
        self._tickets[request.thread_id] = request
        try:
            async with request.leases:
                return await run_attempt(request, self._desk)
        finally:
            del self._tickets[request.thread_id]

    async def _inspect(self, message: Message) -> None:
        answer: Message = {"kind": "inspected", "thread_id": message["thread_id"], "verdict": None, "reason": None}
        try:
            request = self._ticket(message["thread_id"], message["workflow"])
            if request is not None:
                async with request.leases:
                    judgement = await inspect_thread(request, self._desk)
                if judgement is not None:
                    answer |= {"verdict": judgement.verdict.value, "reason": judgement.reason}
        except Exception as error:  # noqa: BLE001 - said in the answer
            answer["error_type"] = describe_error(error).error_type
        finally:
            self._channel.send(answer)

    async def _prune(self, order: PruneOrder) -> None:
        result = refused(order.thread_id, Refusal.FAILED)
        try:
            request = self._ticket(order.thread_id, order.workflow)
            if request is not None:
                async with request.leases:
                    result = await prune_thread(request, self._desk, order)
        except Exception as error:  # noqa: BLE001 - reported in the result
            result = refused(order.thread_id, Refusal.FAILED, describe_error(error).error_type)
        finally:
            self._channel.send(result_to_wire(result))

    def _ticket(self, thread_id: str, workflow: str) -> AttemptRequest | None:
        """Make the ticket of a thread; None where its workflow is not, or no longer, to be had."""
        there = self._stock.registry.available.get(workflow)
        if there is None:
            return None
        return AttemptRequest(thread_id, there, self._stock.registration(there), in_context=self._stock.keeps(workflow))


def _deliver(loop: asyncio.AbstractEventLoop, inbox: "asyncio.Queue[Message]", message: Message) -> None:
    loop.call_soon_threadsafe(inbox.put_nowait, message)


def _run(loop: asyncio.AbstractEventLoop, serving: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Serve to the end, whatever user code on the loop raises to end it: `sys.exit()` in a task, `loop.stop()`."""
    task = loop.create_task(serving(), name="resumed-worker")
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError):
            continue
    task.result()


def _leave_loop_in_child(loop: asyncio.AbstractEventLoop) -> None:
    """Have a child that was forked on the loop run nothing of what waits there; what forked it may go on."""
    owner = threading.get_ident()

    def leave() -> None:
        if threading.get_ident() == owner:
            getattr(loop, "_ready").clear()  # noqa: B009 - asyncio's own, and no other way in
            loop.call_soon(os._exit, 0)

    os.register_at_fork(after_in_child=leave)


def main() -> None:
    """Run a worker on the inherited socket: `python -m resumed.runtime.worker DESCRIPTOR PARENT`."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    leave_signals_to_parent()
    channel = Channel(descriptor)
    plan = channel.receive()
    memory.confine(plan["memory"])
    # The loop, the connection string and what is done in a fork are ours from before any user code is imported.
    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    _leave_loop_in_child(loop)
    os.register_at_fork(after_in_child=close_sessions_in_fork)
    event_loops.install_loop_policy()
    worker = Worker(plan, channel)
    code = _BROKEN
    try:
        worker.prepare()
        _run(loop, worker.serve)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
