"""Owns which workflows this replica has, by what its workers report, and reports what becomes available or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from resumed.model import Registration
from resumed.observability.events import Events
from resumed.workers.protocol import WorkerReady, WorkflowChanged


@dataclass(slots=True)
class AvailableWorkflows:
    """What the ordinary workers have; the isolation worker, which has only what it tries, does not count.

    `registrations` is what at least one of them has; `unavailable` maps what none has to the reason. `unclosed` are
    workflows whose context did not end with its worker.
    """

    events: Events
    registrations: Mapping[str, Registration] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    unclosed: set[str] = field(default_factory=set)
    _loaded: dict[str, dict[str, Registration]] = field(default_factory=dict)
    _not_loaded: dict[str, dict[str, str]] = field(default_factory=dict)

    def set_worker(self, worker: str, message: WorkerReady) -> None:
        """Note what a worker has and what it lacks; `worker` is its name, which its replacement has too."""
        now = datetime.now(UTC)
        self._loaded[worker] = {workflow.name: replace(workflow, seen_at=now) for workflow in message.workflows}
        self._not_loaded[worker] = dict(message.unavailable)
        self._report_changes()
        if not message.workflows and not message.unavailable:
            self.events.workflows_unregistered()

    def set_workflow(self, worker: str, message: WorkflowChanged) -> None:
        """Note what a worker has of one workflow now."""
        loaded = self._loaded.setdefault(worker, {})
        not_loaded = self._not_loaded.setdefault(worker, {})
        loaded.pop(message.name, None)
        not_loaded.pop(message.name, None)
        if message.workflow is not None:
            loaded[message.name] = replace(message.workflow, seen_at=datetime.now(UTC))
        else:
            not_loaded[message.name] = message.reason or ""
        self._report_changes()

    def set_unclosed(self, name: str) -> None:
        """Note, and report, that the context of a workflow did not end with its worker."""
        self.unclosed.add(name)
        self.events.workflow_unclosed(name)

    def _report_changes(self) -> None:
        """Report what became available or unavailable: what one worker has is available."""
        before, unavailable_before = self.registrations, self.unavailable
        self.registrations = {name: one for loaded in self._loaded.values() for name, one in loaded.items()}
        reasons = {name: reason for missing in self._not_loaded.values() for name, reason in missing.items()}
        self.unavailable = {name: reason for name, reason in reasons.items() if name not in self.registrations}
        self.events.workflows_registered(self.registrations.values())
        for name in sorted(self.registrations.keys() - before.keys()):
            self.events.workflow_loaded(name, self.registrations[name].version)
        for name in sorted(self.unavailable):
            if unavailable_before.get(name) != self.unavailable[name]:
                self.events.workflow_failed(name, self.unavailable[name])
