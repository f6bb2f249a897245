"""The child process in which user code runs: it loads the registry, says what it has, and tries threads when asked.

It speaks only to its control process, keeps no record of its own and dies with it.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from resumed.engine import memory
from resumed.engine.attempt import try_thread
from resumed.engine.channel import Channel, die_with_parent, leave_signals_to_parent
from resumed.engine.desk import Desk, Ticket
from resumed.engine.inspection import inspect
from resumed.engine.threads import TrackedExecutor
from resumed.engine.wire import Message, numbers_from_wire, numbers_to_wire
from resumed.judge.verdict import trigger
from resumed.model import Numbers, Registration
from resumed.redaction import describe
from resumed.store.connect import Target
from resumed.workflows import loops
from resumed.workflows.factories import opened
from resumed.workflows.loaded import LoadedWorkflow
from resumed.workflows.registry import Registry, Selection, load

_THREADS_PER_ATTEMPT = 8
_ENTRY_DEADLINE = timedelta(seconds=20)
_OUT_OF_MEMORY = 70


class Worker:
    """Runs attempts side by side on one event loop, each with a session of its own."""

    def __init__(self, plan: Message, channel: Channel, registry: Registry) -> None:
        """Take the plan that the control process sent and the registry made from it."""
        self._channel = channel
        self._registry = registry
        self._defaults = numbers_from_wire(plan["defaults"])
        executor = TrackedExecutor(32 + _THREADS_PER_ATTEMPT * plan["concurrency"])
        target = Target(plan["dsn"], plan["schema"])
        self._alone: bool = plan["alone"]
        self._full = False
        self._desk = Desk(target, plan["worker"], plan["recursion_limit"], executor, channel.send, self._exhausted)
        self._tickets: dict[str, Ticket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()

    async def serve(self) -> None:
        """Say hello, then do what the control process asks until it is gone."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(self._desk.executor)
        loop.set_exception_handler(lambda _, context: self._troubled(context))
        self._channel.listen(lambda message: _deliver(loop, self._inbox, message))
        async with AsyncExitStack() as contexts:
            await self._call_factories(contexts)
            self._channel.send(self._hello())
            while (message := await self._inbox.get())["kind"] != "end":
                self._handle(message)

    async def _call_factories(self, contexts: AsyncExitStack) -> None:
        for factory in list(self._registry.factories.values()):
            self._channel.send({"kind": "loading", "name": factory.name})
            self._registry.add(factory.name, await opened(factory, contexts, _ENTRY_DEADLINE))

    def _handle(self, message: Message) -> None:
        match message["kind"]:
            case "attempt":
                self._spawn(self._attempt(message))
            case "inspect":
                self._spawn(self._inspect(message))
            case "drain":
                for ticket in self._meant(message):
                    ticket.drain()
            case "stop":
                for ticket in self._meant(message):
                    ticket.stop.set()
            case "ping":
                self._channel.send({"kind": "pong"})

    def _meant(self, message: Message) -> list[Ticket]:
        """The tickets of the threads that a message names, or all where it names none."""
        named = message.get("threads")
        return [ticket for thread, ticket in self._tickets.items() if named is None or thread in named]

    def _troubled(self, context: dict[str, Any]) -> None:
        """Tell of an error that nobody waited for; asyncio would print it with all its values."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            report = describe(error)
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
                return
            ticket = self._ticket(thread_id, message["workflow"])
            ticket.asked = message["asked"]
            self._tickets[thread_id] = ticket
            try:
                done["result"] = await try_thread(ticket, self._desk)
            finally:
                del self._tickets[thread_id]
        except Exception as error:  # noqa: BLE001 - one thread's trouble must not become the worker's
            if memory.exhausted(error):
                self._exhausted(error)
            report = describe(error)
            done |= {"error_type": report.error_type, "error_at": report.error_at, "error": report.error}
        finally:
            if self._full:
                self._channel.send({"kind": "leaving"})
            self._channel.send(done)
            if self._full:
                os._exit(_OUT_OF_MEMORY)

    async def _inspect(self, message: Message) -> None:
        answer: Message = {"kind": "inspected", "thread_id": message["thread_id"], "verdict": None, "reason": None}
        try:
            judgement = await inspect(self._ticket(message["thread_id"], message["workflow"]), self._desk)
            if judgement is not None:
                answer |= {"verdict": judgement.verdict.value, "reason": judgement.reason}
        except Exception as error:  # noqa: BLE001 - said in the answer
            answer["error_type"] = describe(error).error_type
        finally:
            self._channel.send(answer)

    def _ticket(self, thread_id: str, workflow: str) -> Ticket:
        loaded = self._registry.available[workflow]
        return Ticket(thread_id, loaded, registration_of(loaded, self._defaults))

    def _hello(self) -> Message:
        registrations = [registration_of(one, self._defaults) for one in self._registry.available.values()]
        return {
            "kind": "hello",
            "workflows": [_said(one) for one in registrations],
            "unavailable": dict(self._registry.unavailable),
        }


def registration_of(loaded: LoadedWorkflow, defaults: Numbers) -> Registration:
    """Say of a loaded workflow what other replicas may know."""
    return Registration(
        name=loaded.name,
        version=loaded.policy.version or "",
        accepts=tuple(loaded.policy.accepts),
        triggers=tuple(sorted(name for name in loaded.graph.trigger_to_nodes if not trigger(name))),
        numbers=loaded.policy.numbers(defaults),
        seen_at=datetime.now(UTC),
        isolate=loaded.policy.isolate,
    )


def _said(one: Registration) -> Message:
    return {
        "name": one.name,
        "version": one.version,
        "accepts": list(one.accepts),
        "triggers": list(one.triggers),
        "numbers": numbers_to_wire(one.numbers),
        "isolate": one.isolate,
    }


def _deliver(loop: asyncio.AbstractEventLoop, inbox: "asyncio.Queue[Message]", message: Message) -> None:
    loop.call_soon_threadsafe(inbox.put_nowait, message)


def _selection(plan: Message, channel: Channel) -> Selection:
    names = plan["workflows"]
    return Selection(
        names=tuple(names) if names is not None else None,
        excluded=plan["excluded"],
        graphs=Path(plan["graphs"]) if plan["graphs"] else None,
        deadline=_ENTRY_DEADLINE,
        on_loading=lambda name: channel.send({"kind": "loading", "name": name}),
    )


def main() -> None:
    """Run a worker on the inherited socket: `python -m resumed.engine.worker DESCRIPTOR PARENT`."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    leave_signals_to_parent()
    channel = Channel(descriptor)
    plan = channel.receive()
    memory.confine(plan["memory"])
    loops.install()
    registry = load(_selection(plan, channel))
    try:
        asyncio.run(Worker(plan, channel, registry).serve())
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
