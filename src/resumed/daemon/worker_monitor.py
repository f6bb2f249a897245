"""Owns what the workers say: turns their messages into events, and remembers which attempts they have open."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from resumed.daemon.prune_replies import PruneReplies
from resumed.model import Attempt, Judgement, Registration, Verdict
from resumed.observability.events import Events
from resumed.workers.pool import PoolListener
from resumed.workers.process import WorkerExit, WorkerProcess
from resumed.workers.protocol import Message, attempt_from_wire, registration_from_wire
from resumed.workers.prune_messages import result_from_wire


class NotInspectedError(Exception):
    """A worker could not read what a thread's values and graph say; the message is the class of the error."""


@dataclass(slots=True)
class WorkerMonitor:
    """What the workers have and what they are at.

    `freed` is called when a thread was given back, `bereaved` when a worker died. `results` counts, by word, what
    came of the threads that were handed out; `endings` holds the attempts that finished, where `keeps_endings` says so;
    `retired` names workers that we ended because of a node that could not be stopped; `dropped` are the threads that
    dead workers had in hand, begun or not, and those for which there was no session;
    `suspects` those that a worker had in hand which died by itself, and whether each was alone. `has` and `lacks` say
    of each ordinary worker what it has and, with the reason, has not; `registrations` and `unavailable` of all of them.
    `unclosed` are the workflows whose context did not end with its worker.
    """

    events: Events
    freed: Callable[[], None]
    worker_exited: Callable[[], None]
    registrations: dict[str, Registration] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    has: dict[str, dict[str, Registration]] = field(default_factory=dict)
    lacks: dict[str, dict[str, str]] = field(default_factory=dict)
    unclosed: set[str] = field(default_factory=set)
    open: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    endings: list[Attempt] = field(default_factory=list)
    handed: dict[str, int] = field(default_factory=dict)
    inspections: dict[str, asyncio.Future[Judgement | None]] = field(default_factory=dict)
    prunes: PruneReplies = field(default_factory=PruneReplies)
    retired: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    suspects: dict[str, bool] = field(default_factory=dict)
    keeps_endings: bool = False
    stopping: bool = False

    def listener(self) -> PoolListener:
        """The pool's way to tell us."""
        return PoolListener(self._heard, self._spawned, self._exited, self._troubled)

    def finished(self, attempt: Attempt, last_sign_at: datetime | None) -> None:
        """Tell of a closed attempt, whoever closed it."""
        self.open.pop((attempt.thread_id, attempt.attempt), None)
        if self.keeps_endings:
            self.endings.append(attempt)
        self.events.attempt_finished(attempt, last_sign_at)

    def forget(self, attempt: Attempt) -> None:
        """Stop waiting for the end of an attempt that another replica closed and told of."""
        self.open.pop((attempt.thread_id, attempt.attempt), None)
        self.events.attempt_forgotten(attempt)

    def _heard(self, handle: WorkerProcess, message: Message) -> None:
        self._heard_of_workflows(handle, message)
        match message["kind"]:
            case "started":
                attempt = attempt_from_wire(message)
                self.open[attempt.thread_id, attempt.attempt] = attempt
                self.events.attempt_started(attempt)
            case "finished":
                last = message["last_sign_at"]
                self.finished(attempt_from_wire(message), datetime.fromisoformat(last) if last else None)
            case "refused":
                self.events.case_refused(*(message[name] for name in ("thread_id", "workflow", "verdict", "reason")))
            case "quarantined":
                self.events.case_quarantined(message["thread_id"], message["workflow"], message["reason"])
            case "troubled":
                self.events.worker_troubled(handle.name, message)
            case "done":
                self._done(message)
            case "inspected":
                self._inspected(message)
            case "pruned":
                self.prunes.heard(result_from_wire(message))

    def _heard_of_workflows(self, handle: WorkerProcess, message: Message) -> None:
        match message["kind"]:
            case "hello":
                self._greeted(handle, message)
            case "changed":
                self._changed(handle, message)
            case "unclosed":
                self.unclosed.add(message["name"])
                self.events.workflow_unclosed(message["name"])

    def inspection(self, thread_id: str) -> asyncio.Future[Judgement | None]:
        """Promise what a worker will say of a thread that it was asked to inspect."""
        return self.inspections.setdefault(thread_id, asyncio.get_running_loop().create_future())

    def _inspected(self, message: Message) -> None:
        promised = self.inspections.pop(message["thread_id"], None)
        if promised is None or promised.done():
            return
        if message.get("error_type"):
            promised.set_exception(NotInspectedError(message["error_type"]))
        else:
            verdict = message["verdict"]
            promised.set_result(Judgement(Verdict(verdict), message["reason"]) if verdict else None)

    def _greeted(self, handle: WorkerProcess, message: Message) -> None:
        """Take note of what a worker has; the isolation worker has only what it tries."""
        now = datetime.now(UTC)
        found = [registration_from_wire(one, now) for one in message["workflows"]]
        if not handle.alone:
            self.has[handle.name] = {one.name: one for one in found}
            self.lacks[handle.name] = dict(message["unavailable"])
            self._compare()
            if not found and not message["unavailable"]:
                self.events.workflows_missed()
        self.events.worker_greeted(handle.name, [one.name for one in found])
        self.freed()

    def _changed(self, handle: WorkerProcess, message: Message) -> None:
        """Take note of a workflow that a worker has from now on, or has no longer."""
        if handle.alone:
            return
        name, there = message["name"], message["workflow"]
        self.has.setdefault(handle.name, {}).pop(name, None)
        self.lacks.setdefault(handle.name, {}).pop(name, None)
        if there is not None:
            self.has[handle.name][name] = registration_from_wire(there, datetime.now(UTC))
        else:
            self.lacks[handle.name][name] = message["reason"]
        self._compare()
        self.freed()

    def _compare(self) -> None:
        """Tell what became available, or unavailable: what one worker has is available."""
        had, lacked = self.registrations, self.unavailable
        self.registrations = {name: one for known in self.has.values() for name, one in known.items()}
        reasons = {name: reason for known in self.lacks.values() for name, reason in known.items()}
        self.unavailable = {name: reason for name, reason in reasons.items() if name not in self.registrations}
        for name in sorted(self.registrations.keys() - had.keys()):
            self.events.workflow_loaded(name, self.registrations[name].version)
        for name in sorted(self.unavailable):
            if lacked.get(name) != self.unavailable[name]:
                self.events.workflow_failed(name, self.unavailable[name])

    def _done(self, message: Message) -> None:
        result = message["result"]
        self.handed[result] = self.handed.get(result, 0) + 1
        match result:
            case "busy":
                self.events.lock_contended(message["thread_id"], message.get("workflow", ""))
            case "skewed":
                self.events.clock_doubted()
            case "unavailable":
                self.dropped.add(message["thread_id"])
            case "unreachable":
                self.dropped.add(message["thread_id"])
                self.events.attempt_unreachable(message["thread_id"])
            case "error":
                self.events.thread_failed(message["thread_id"], message)
        self.freed()

    def _troubled(self, error: OSError) -> None:
        self.events.worker_failed(error)

    def _spawned(self, handle: WorkerProcess) -> None:
        self.events.worker_started(handle.name, handle.pid)

    def _exited(self, handle: WorkerProcess, exited: WorkerExit) -> None:
        self.prunes.worker_exited(handle.name)
        self.dropped |= handle.inflight.keys()
        if self.stopping:
            self.events.worker_stopped(handle.name)
            return
        if exited.dismissed:
            self.events.worker_stopped(handle.name)
            if not handle.alone:
                self.events.worker_restarted(handle.name)
            return
        if exited.retired:
            self.retired.add(handle.name)
            self.events.worker_killed(handle.name, "a node of it could not be stopped")
        else:
            self.suspects |= dict.fromkeys(handle.inflight, handle.alone)
            self.events.worker_died(handle.name, exited.code, len(handle.inflight), exited.spoilt)
        if not handle.alone:
            self.events.worker_restarted(handle.name)
        self.worker_exited()
