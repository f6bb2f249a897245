"""Owns what became of threads: turns what workers report into events, remembers what they have and had in hand."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from resumed.daemon.abandoned_work import AbandonedWork
from resumed.daemon.available_workflows import AvailableWorkflows
from resumed.daemon.worker_replies import WorkerReplies
from resumed.model import Attempt
from resumed.observability.events import Events
from resumed.workers.pool import PoolListener
from resumed.workers.process import WorkerExit, WorkerProcess
from resumed.workers.protocol import (
    AttemptFinished,
    AttemptStarted,
    ContextUnclosed,
    ErrorRaised,
    FromWorker,
    RequestDone,
    RequestResult,
    ThreadInspected,
    ThreadQuarantined,
    ThreadRefused,
    WorkerReady,
    WorkflowChanged,
)
from resumed.workers.prune_messages import ThreadPruned


@dataclass(slots=True)
class WorkerMonitor:
    """What the workers have and what became of the threads that they were handed.

    `on_slot_free` is called when a worker may take another thread, `on_worker_exit` when one has died. `results` counts
    what became of the threads that were handed out; `replies` are the answers about single threads that are awaited.
    """

    events: Events
    on_slot_free: Callable[[], None]
    on_worker_exit: Callable[[], None]
    workflows: AvailableWorkflows = field(init=False)
    abandoned: AbandonedWork = field(default_factory=AbandonedWork)
    replies: WorkerReplies = field(default_factory=WorkerReplies)
    results: Counter[RequestResult] = field(default_factory=Counter)
    _open: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    _finished: list[Attempt] | None = None
    _expects_exits: bool = False

    def __post_init__(self) -> None:
        """Know no workflow yet."""
        self.workflows = AvailableWorkflows(self.events)

    def listener(self) -> PoolListener:
        """Return the callbacks for the pool."""
        return PoolListener(
            self._on_message,
            lambda worker: self.events.worker_started(worker.name, worker.pid),
            self._on_exited,
            self.events.worker_failed,
        )

    def expect_exits(self) -> None:
        """From now on every worker that ends was asked to."""
        self._expects_exits = True

    # Attempts

    def collect_finished(self) -> list[Attempt]:
        """Return a list to which every attempt that finishes from now on is added."""
        self._finished = []
        return self._finished

    def open_attempts(self) -> list[Attempt]:
        """Return the attempts that have started and whose end is not known."""
        return list(self._open.values())

    def is_open(self, attempt: Attempt) -> bool:
        """Return whether the end of this attempt is not known."""
        return (attempt.thread_id, attempt.attempt) in self._open

    def finish_attempt(self, attempt: Attempt, last_sign_at: datetime | None = None) -> None:
        """Report a closed attempt; `last_sign_at` is the thread's last sign of life before it stopped, where known."""
        self._open.pop((attempt.thread_id, attempt.attempt), None)
        self.abandoned.discard_attempt(attempt)
        if self._finished is not None:
            self._finished.append(attempt)
        self.events.attempt_finished(attempt, last_sign_at)

    def forget_attempt(self, attempt: Attempt) -> None:
        """Stop waiting for the end of an attempt that another replica has closed and reported."""
        self._open.pop((attempt.thread_id, attempt.attempt), None)
        self.abandoned.discard_attempt(attempt)
        self.events.attempt_forgotten(attempt)

    # What the pool reports

    def _on_message(self, worker: WorkerProcess, message: FromWorker) -> None:  # noqa: C901 - one case for each message
        match message:
            case WorkerReady(workflows):
                if not worker.alone:
                    self.workflows.set_worker(worker.name, message)
                self.events.worker_registered(worker.name, [workflow.name for workflow in workflows])
                self.on_slot_free()
            case WorkflowChanged() if not worker.alone:
                self.workflows.set_workflow(worker.name, message)
                self.on_slot_free()
            case ContextUnclosed(name):
                self.workflows.set_unclosed(name)
            case AttemptStarted(attempt):
                self._open[attempt.thread_id, attempt.attempt] = attempt
                self.abandoned.discard_retired(attempt.thread_id)
                self.events.attempt_started(attempt)
            case AttemptFinished(attempt, last_sign_at):
                self.finish_attempt(attempt, last_sign_at)
            case ThreadRefused(thread_id, workflow, judgement):
                self.events.case_refused(thread_id, workflow, judgement.verdict, judgement.reason)
            case ThreadQuarantined(thread_id, workflow, reason):
                self.events.case_quarantined(thread_id, workflow, reason)
            case RequestDone():
                self._on_done(message)
            case ThreadInspected():
                self.replies.set_inspected(message)
            case ThreadPruned():
                self.replies.set_pruned(message)
            case ErrorRaised(error):
                self.events.worker_errored(worker.name, error)

    def _on_done(self, message: RequestDone) -> None:
        self.results[message.result] += 1
        if message.left_open is not None:
            self.abandoned.add_left_open(message.thread_id, message.left_open)
        match message.result:
            case RequestResult.BUSY:
                self.events.lock_contended(message.thread_id, message.workflow)
            case RequestResult.SKEWED:
                self.events.clock_skew_detected()
            case RequestResult.UNAVAILABLE:
                self.abandoned.add_unstarted([message.thread_id])
            case RequestResult.UNREACHABLE:
                self.abandoned.add_unstarted([message.thread_id])
                self.events.attempt_unreachable(message.thread_id)
            case RequestResult.ERROR:
                self.events.thread_failed(message.thread_id, message.error)
        self.on_slot_free()

    def _on_exited(self, worker: WorkerProcess, exited: WorkerExit) -> None:
        self.replies.refuse_prunes_of(worker.name)
        self.abandoned.add_unstarted(worker.inflight)
        if self._expects_exits or exited.dismissed:
            self.events.worker_stopped(worker.name)
            if not self._expects_exits and not worker.alone:
                self.events.worker_restarted(worker.name)
            return
        if exited.retired:
            self.abandoned.add_retired(worker.inflight, worker.name)
            self.events.worker_killed(worker.name, "a node of it could not be stopped")
        else:
            self.abandoned.add_suspects(worker.inflight, alone=worker.alone)
            self.events.worker_died(worker.name, exited.code, len(worker.inflight), exited.tainted)
        if not worker.alone:
            self.events.worker_restarted(worker.name)
        self.on_worker_exit()
