"""Owns what workflows a worker has: imports them, keeps what their factories make, and tells of every change.

One that breaks is unavailable, with its reason, and takes no other with it. Runs no graph.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from resumed.errors import RegistrationError
from resumed.judge.verdict import ANY_CHANNEL
from resumed.model import PolicyLimits, PruneStrategy, Registration
from resumed.runtime.channel import Channel, leave_signals_to_parent
from resumed.runtime.process_state import ProcessState, process_state
from resumed.workers.protocol import Message, numbers_from_wire, numbers_to_wire
from resumed.workflows.factories import Factory, NoGraphError
from resumed.workflows.factory_hosts import FactoryHost, HostPatience
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import LoadedWorkflow, own_triggers
from resumed.workflows.loader import LoadOutcome, NotLoaded, Registry, Selection, load_registry
from resumed.workflows.thread_graphs import ThreadGraphs

SPOILT = 71
_ENTRY_DEADLINE = timedelta(seconds=20)
_FIRST_ANSWERS = timedelta(seconds=22)
_WATCH = timedelta(milliseconds=250)


class WorkflowHost:
    """The workflows of one worker; `lost` is called with the name of one whose context ends under its attempts."""

    def __init__(self, plan: Message, channel: Channel, lost: Callable[[str], None]) -> None:
        """Take the plan that the control process sent; nothing is imported yet."""
        self.registry = Registry()
        self._plan, self._channel, self._lost = plan, channel, lost
        self._defaults = numbers_from_wire(plan["defaults"])
        self._process = os.getpid()
        self._premises: ProcessState | None = None
        self._keepers: dict[str, FactoryHost | asyncio.Task[None]] = {}
        self._answered: dict[str, asyncio.Event] = {}
        self._triggers: dict[str, set[str]] = {}
        self._worked = False
        self._greeted = False

    # Imports: in the main thread, before the loop runs, and one later

    def import_all(self) -> None:
        """Import every selected entry, each in a thread and within its time."""
        self.registry = load_registry(self._selection(self._plan["workflows"]))
        leave_signals_to_parent()

    async def import_one(self, name: str) -> None:
        """Import an entry again that could not be imported, or was not to be, and tell what came of it."""
        made = await asyncio.to_thread(load_registry, self._selection([name]))
        why = made.unavailable.get(name, f"no entry has the name {name!r} any more")
        outcome: LoadOutcome = NotLoaded(why) if name in made.unloaded else why
        self._accept(name, made.available.get(name) or made.factories.get(name) or outcome)
        self._open(self.registry.factories.values())

    def _selection(self, names: Sequence[str] | None) -> Selection:
        graphs = self._plan["graphs"]
        return Selection(
            names=tuple(names) if names is not None else None,
            excluded=self._plan["excluded"] if not self._greeted else {},
            graphs=Path(graphs) if graphs else None,
            deadline=_ENTRY_DEADLINE,
            on_found=self._found,
            on_loading=lambda name: self._channel.send({"kind": "loading", "name": name}),
            on_loaded=self._imported,
            on_hung=lambda name, reason: self._channel.send({"kind": "hung", "name": name, "reason": reason}),
        )

    def _found(self, names: Sequence[str]) -> None:
        if self._premises is None:
            self._premises = process_state(shared=self._plan["shared"] or len(names) > 1)
            self._channel.send({"kind": "found", "names": list(names)})

    def _imported(self, name: str) -> None:
        """See, in the importing thread, what the import left: whatever it broke, this needs nothing of it."""
        if os.getpid() != self._process:
            os._exit(0)  # a child that the import forked has come back into our code
        if not self._worked:
            self._look([name])

    def _look(self, names: Iterable[str], *, may_fork: bool = False) -> None:
        """End the process where something has changed it: nobody else could rely on it. Who did, a trial finds out."""
        what = self._premises.changed(may_fork=may_fork) if self._premises is not None else None
        if what is not None:
            self._channel.send({"kind": "spoilt", "what": what, "names": list(names)})
            self._channel.end(SPOILT)

    # Factories: on the loop

    async def open(self) -> None:
        """Call every factory, each in a task of its own, and wait until each has answered or is slow to."""
        self._open(self.registry.factories.values())
        waiting = [asyncio.ensure_future(one.wait()) for one in self._answered.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=_FIRST_ANSWERS.total_seconds())
        for one in waiting:
            one.cancel()

    async def watch(self) -> None:
        """Look at the process until it is given work: what its nodes do to it is an attempt's matter."""
        while not self._worked:
            self._look([], may_fork=True)
            await asyncio.sleep(_WATCH.total_seconds())

    def work(self) -> None:
        """Note that an attempt begins."""
        self._worked = True

    async def close(self) -> list[str]:
        """Leave every context, each in its own task; returns the names of those that do not end."""
        hosts = {name: one for name, one in self._keepers.items() if isinstance(one, FactoryHost)}
        made = {name: one for name, one in self.registry.available.items() if isinstance(one, ThreadGraphs)}
        ends = [one.end() for one in hosts.values()] + [one.end() for one in made.values()]
        ended = await asyncio.gather(*ends)
        return [name for name, well in zip((*hosts, *made), ended, strict=True) if not well]

    def keeps(self, name: str) -> bool:
        """Return whether the workflow's graph may live in a context that can end."""
        return name in self._keepers

    def _open(self, factories: Iterable[Factory]) -> None:
        for factory in [one for one in factories if one.name not in self._keepers]:
            self._answered[factory.name] = asyncio.Event()
            if factory.per_thread:
                self._keepers[factory.name] = asyncio.create_task(self._call_until_sound(factory))
            else:
                host = FactoryHost(factory, self._accept, self._has_lost)
                self._keepers[factory.name] = host
                host.start()

    async def _call_until_sound(self, factory: Factory) -> None:
        """Call a factory that takes a config with an empty one; where it reads that and fails, threads tell more."""
        patience, failures = HostPatience(), 0
        made = ThreadGraphs(factory, lambda one: self._learn(made, one))
        while True:
            try:
                async with made.lent({}, lambda: None):
                    pass
            except Exception as error:  # noqa: BLE001 - whatever the factory raises
                if not made.reads or (isinstance(error, RegistrationError) and not isinstance(error, NoGraphError)):
                    self._accept(factory.name, load_error(error))
                    failures += 1
                    await asyncio.sleep(patience.pause(failures))
                    continue
            self._accept(factory.name, made)
            return

    def _learn(self, made: ThreadGraphs, workflow: LoadedWorkflow) -> None:
        """Note the triggers of a graph that was made for a thread, and tell what is new of them."""
        before = self._triggers.get(made.name)
        self._triggers[made.name] = {*(before or ()), *own_triggers(workflow.graph)}
        if self.registry.available.get(made.name) is made and self._triggers[made.name] != before:
            self._tell(made.name)

    def _has_lost(self, name: str) -> None:
        self.registry.available.pop(name, None)
        self._lost(name)

    def _accept(self, name: str, outcome: LoadOutcome) -> None:
        """Take note of what there is of an entry now, and tell the control process if it has our hello already."""
        factory = self.registry.factories.get(name)
        self.registry.add(name, outcome)
        if factory is not None and not isinstance(outcome, Factory):
            self._answered[name].set()
        leave_signals_to_parent()
        if not self._worked:
            self._look([name], may_fork=True)
        if self._greeted and not isinstance(outcome, Factory):
            self._tell(name)

    # What the control process hears

    def hello(self) -> Message:
        """Say what there is; from now on every change is told."""
        self._greeted = True
        for name in self.registry.factories:
            self.registry.unavailable[name] = "its callable has not returned yet; it is waited for"
        return {
            "kind": "hello",
            "workflows": [_said(self.registration(one)) for one in self.registry.available.values()],
            "unavailable": dict(self.registry.unavailable),
            "again": sorted(self.registry.unloaded),
        }

    def registration(self, workflow: LoadedWorkflow | ThreadGraphs) -> Registration:
        """Say of a workflow what other replicas may know."""
        if isinstance(workflow, LoadedWorkflow):
            return registration_of(workflow, self._defaults)
        triggers = self._triggers.get(workflow.name, {ANY_CHANNEL})
        return replace(_registration(workflow, self._defaults), triggers=tuple(sorted(triggers)))

    def _tell(self, name: str) -> None:
        there = self.registry.available.get(name)
        self._channel.send(
            {
                "kind": "changed",
                "name": name,
                "workflow": _said(self.registration(there)) if there is not None else None,
                "reason": self.registry.unavailable.get(name),
                "again": name in self.registry.unloaded,
            }
        )


def registration_of(loaded: LoadedWorkflow, defaults: PolicyLimits) -> Registration:
    """Say of a loaded workflow what other replicas may know."""
    return replace(_registration(loaded, defaults), triggers=own_triggers(loaded.graph))


def _registration(workflow: LoadedWorkflow | ThreadGraphs, defaults: PolicyLimits) -> Registration:
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


def _said(one: Registration) -> Message:
    return {
        "name": one.name,
        "version": one.version,
        "accepts": list(one.accepts),
        "triggers": list(one.triggers),
        "numbers": numbers_to_wire(one.numbers),
        "isolate": one.isolate,
        "retention": one.retention,
        "retain": one.retain,
    }
