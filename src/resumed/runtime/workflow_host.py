"""The workflows of a worker: imports them, keeps what their factories make, and reports every change.

One that breaks is unavailable, with its reason, and affects no other. It runs no graph.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from resumed import timings
from resumed.errors import RegistrationError
from resumed.judge.verdict import ANY_CHANNEL
from resumed.model import PolicyLimits, PruneStrategy, Registration
from resumed.runtime.channel import Channel, leave_signals_to_parent
from resumed.runtime.process_state import ProcessState, process_state
from resumed.workers.protocol import (
    EntriesFound,
    EntryHung,
    EntryLoading,
    ProcessTainted,
    StartWorker,
    WorkerReady,
    WorkflowChanged,
)
from resumed.workflows.factories import Factory, NoGraphError
from resumed.workflows.factory_hosts import FactoryHost, HostPatience
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import LoadedWorkflow, own_triggers
from resumed.workflows.loader import LoadOutcome, NotLoaded, Registry, Selection, load_registry
from resumed.workflows.thread_graphs import ThreadGraphs

CHANGED_PROCESS_CODE = 71
_WATCH_POLL = timedelta(milliseconds=250)


class WorkflowHost:
    """The workflows of one worker; `on_lost` is called with the name of one whose context ends during attempts."""

    def __init__(self, plan: StartWorker, channel: Channel, on_lost: Callable[[str], None]) -> None:
        """Take the plan that the control process sent; nothing is imported yet."""
        self.registry = Registry()
        self._plan, self._channel, self._on_lost = plan, channel, on_lost
        self._defaults = plan.settings.defaults
        self._pid = os.getpid()
        self._process_before: ProcessState | None = None
        self._factory_tasks: dict[str, FactoryHost | asyncio.Task[None]] = {}
        self._first_answers: dict[str, asyncio.Event] = {}
        self._triggers: dict[str, set[str]] = {}
        self._had_attempt = False
        self._hello_sent = False

    # Imports: in the main thread, before the loop runs, and one later

    def import_all(self) -> None:
        """Import every selected entry, each in a thread and within its time."""
        self.registry = load_registry(self._selection(self._plan.workflows))
        leave_signals_to_parent()

    async def import_again(self, name: str) -> None:
        """Import an entry that could not be imported, or was excluded, and report the result."""
        loaded = await asyncio.to_thread(load_registry, self._selection([name]))
        reason = loaded.unavailable.get(name, f"no entry has the name {name!r} any more")
        failure: LoadOutcome = NotLoaded(reason) if name in loaded.unloaded else reason
        self._record_outcome(name, loaded.available.get(name) or loaded.factories.get(name) or failure)
        self._start(self.registry.factories.values())

    def _selection(self, names: Sequence[str] | None) -> Selection:
        graphs = self._plan.settings.graphs
        return Selection(
            names=tuple(names) if names is not None else None,
            excluded=self._plan.excluded if not self._hello_sent else {},
            graphs=Path(graphs) if graphs else None,
            deadline=timings.current().entry_deadline,
            on_found=self._on_found,
            on_loading=lambda name: self._channel.send(EntryLoading(name)),
            on_loaded=self._on_imported,
            on_hung=lambda name, reason: self._channel.send(EntryHung(name, reason)),
        )

    def _on_found(self, names: Sequence[str]) -> None:
        if self._process_before is None:
            self._process_before = process_state(shared=self._plan.shared or len(names) > 1)
            self._channel.send(EntriesFound(tuple(names)))

    def _on_imported(self, name: str) -> None:
        """Check, in the importing thread, what the import changed in the process: nothing here depends on it."""
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the import forked has returned into our code
        if not self._had_attempt:
            self._check_process([name])

    def _check_process(self, names: Iterable[str], *, may_fork: bool = False) -> None:
        """End the process where an entry has changed it: no other could rely on it. A trial finds out which one did."""
        what = self._process_before.changed(may_fork=may_fork) if self._process_before is not None else None
        if what is not None:
            self._channel.send(ProcessTainted(what, tuple(names)))
            self._channel.end(CHANGED_PROCESS_CODE)

    # Factories: on the loop

    async def call_factories(self) -> None:
        """Call every factory, each in a task of its own, and wait until each has returned or is slow."""
        self._start(self.registry.factories.values())
        waiting = [asyncio.ensure_future(answer.wait()) for answer in self._first_answers.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=timings.current().first_answers.total_seconds())
        for wait in waiting:
            wait.cancel()

    async def watch_process(self) -> None:
        """Check the process until its first attempt: afterwards its nodes may change it."""
        while not self._had_attempt:
            self._check_process([], may_fork=True)
            await asyncio.sleep(_WATCH_POLL.total_seconds())

    def note_attempt(self) -> None:
        """Note that an attempt begins."""
        self._had_attempt = True

    async def close(self) -> list[str]:
        """Leave every context, each in its own task; returns the names of those that do not end."""
        keepers: dict[str, FactoryHost | ThreadGraphs] = {
            name: host for name, host in self._factory_tasks.items() if isinstance(host, FactoryHost)
        }
        keepers |= {name: made for name, made in self.registry.available.items() if isinstance(made, ThreadGraphs)}
        ended = await asyncio.gather(*(keeper.end() for keeper in keepers.values()))
        return [name for name, in_time in zip(keepers, ended, strict=True) if not in_time]

    def may_close(self, name: str) -> bool:
        """Return whether the workflow's graph may live in a context that can end by itself."""
        return name in self._factory_tasks

    def _start(self, factories: Iterable[Factory]) -> None:
        for factory in [factory for factory in factories if factory.name not in self._factory_tasks]:
            self._first_answers[factory.name] = asyncio.Event()
            if factory.per_thread:
                self._factory_tasks[factory.name] = asyncio.create_task(self._call_until_usable(factory))
            else:
                host = FactoryHost(factory, self._record_outcome, self._on_context_lost)
                self._factory_tasks[factory.name] = host
                host.start()

    async def _call_until_usable(self, factory: Factory) -> None:
        """Call a factory that takes a config with an empty one; one that reads it and fails needs a thread's config."""
        patience, failures = HostPatience(), 0
        graphs = ThreadGraphs(factory, lambda workflow: self._add_triggers(graphs, workflow))
        while True:
            try:
                async with graphs.borrow({}, lambda: None):
                    pass
            except Exception as error:  # noqa: BLE001 - whatever the factory raises
                if not graphs.reads or (isinstance(error, RegistrationError) and not isinstance(error, NoGraphError)):
                    self._record_outcome(factory.name, load_error(error))
                    failures += 1
                    await asyncio.sleep(patience.pause(failures))
                    continue
            self._record_outcome(factory.name, graphs)
            return

    def _add_triggers(self, graphs: ThreadGraphs, workflow: LoadedWorkflow) -> None:
        """Note the triggers of a graph that was made for a thread, and report new ones."""
        before = self._triggers.get(graphs.name)
        self._triggers[graphs.name] = {*(before or ()), *own_triggers(workflow.graph)}
        if self.registry.available.get(graphs.name) is graphs and self._triggers[graphs.name] != before:
            self._send_change(graphs.name)

    def _on_context_lost(self, name: str) -> None:
        self.registry.available.pop(name, None)
        self._on_lost(name)

    def _record_outcome(self, name: str, outcome: LoadOutcome) -> None:
        """Record what became of an entry, and report it once the hello has been sent."""
        factory = self.registry.factories.get(name)
        self.registry.add(name, outcome)
        if factory is not None and not isinstance(outcome, Factory):
            self._first_answers[name].set()
        leave_signals_to_parent()
        if not self._had_attempt:
            self._check_process([name], may_fork=True)
        if self._hello_sent and not isinstance(outcome, Factory):
            self._send_change(name)

    # What is sent to the control process

    def build_hello(self) -> WorkerReady:
        """Return the message that says what there is; from now on every change is sent."""
        self._hello_sent = True
        for name in self.registry.factories:
            self.registry.unavailable[name] = "its callable has not returned yet; it is waited for"
        return WorkerReady(
            workflows=tuple(self.registration_of(workflow) for workflow in self.registry.available.values()),
            unavailable=dict(self.registry.unavailable),
            unloaded=tuple(sorted(self.registry.unloaded)),
        )

    def registration_of(self, workflow: LoadedWorkflow | ThreadGraphs) -> Registration:
        """Return what other replicas may know of a workflow."""
        if isinstance(workflow, LoadedWorkflow):
            return registration_of(workflow, self._defaults)
        triggers = self._triggers.get(workflow.name, {ANY_CHANNEL})
        return replace(_build_registration(workflow, self._defaults), triggers=tuple(sorted(triggers)))

    def _send_change(self, name: str) -> None:
        workflow = self.registry.available.get(name)
        self._channel.send(
            WorkflowChanged(
                name,
                self.registration_of(workflow) if workflow is not None else None,
                reason=self.registry.unavailable.get(name),
                unloaded=name in self.registry.unloaded,
            )
        )


def registration_of(loaded: LoadedWorkflow, defaults: PolicyLimits) -> Registration:
    """Return what other replicas may know of a loaded workflow."""
    return replace(_build_registration(loaded, defaults), triggers=own_triggers(loaded.graph))


def _build_registration(workflow: LoadedWorkflow | ThreadGraphs, defaults: PolicyLimits) -> Registration:
    retention, retain = workflow.policy.retention, workflow.policy.retain
    return Registration(
        name=workflow.name,
        version=workflow.policy.version or "",
        accepts=tuple(workflow.policy.accepts),
        triggers=(),
        numbers=workflow.policy.numbers(defaults),
        seen_at=datetime.now(UTC),
        isolate=workflow.policy.isolate,
        retention=PruneStrategy(retention) if retention is not None else None,
        retain=retain if isinstance(retain, timedelta) else None,
    )
