"""The documented words as types: what is read, what is judged, what is recorded. No behaviour."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Verdict(StrEnum):
    """The verdict on a thread, by its head and its workflow (docs/verdicts.md)."""

    RUNNING = "running"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    BREAKPOINT = "breakpoint"
    FINISHED = "finished"
    EDITED = "edited"
    UNCLAIMED = "unclaimed"
    INCOMPATIBLE = "incompatible"
    EXPIRED = "expired"
    FAILED = "failed"
    STOPPED = "stopped"


# An attempt may resume these.
RESUMABLE = frozenset({Verdict.FAILED, Verdict.STOPPED})
# A person has to answer, approve or decide before these go on.
NEEDS_A_PERSON = frozenset({Verdict.WAITING, Verdict.BREAKPOINT, Verdict.EDITED})


class State(StrEnum):
    """The state of a case."""

    DUE = "due"
    RUNNING = "running"
    BACKOFF = "backoff"
    HELD = "held"
    QUARANTINED = "quarantined"
    CLOSED = "closed"


class Outcome(StrEnum):
    """How an attempt ended (docs/verdicts.md)."""

    LOCK_LOST = "lock_lost"
    SUPERSEDED = "superseded"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    DRAINED = "drained"
    INCOMPATIBLE = "incompatible"
    FAILED = "failed"
    FINISHED = "finished"
    WAITING = "waiting"
    NO_PROGRESS = "no_progress"


class PruneStrategy(StrEnum):
    """What becomes of a finished thread in LangGraph's tables: its newest checkpoints stay, or nothing does."""

    KEEP_LATEST = "keep_latest"
    DELETE = "delete"


class Refusal(StrEnum):
    """Why retention passes a thread over that is old enough."""

    LOCKED = "locked"
    OPEN_CASE = "open_case"
    OPEN_RUN = "open_run"
    UNFINISHED = "unfinished"
    EDITED = "edited"
    RECENT = "recent"
    VERSION = "version"
    MOVED = "moved"
    DELTA_CHANNEL = "delta_channel"
    CONFLICT = "conflict"
    FAILED = "failed"


class Action(StrEnum):
    """What a sweep would do about a thread."""

    RESUME = "resume"
    WAIT = "wait"
    HOLD = "hold"
    CLOSE = "close"
    QUARANTINE = "quarantine"
    NONE = "none"


class Act(StrEnum):
    """What was done. A later release may know other words: what is read is never taken for one of these."""

    RESUME = "resume"
    RELEASE = "release"
    QUARANTINE = "quarantine"
    CANCEL = "cancel"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    PRUNE = "prune"
    ADOPT = "adopt"


class Via(StrEnum):
    """Through what it was done."""

    CLI = "cli"
    DAEMON = "daemon"
    LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """The policy of one workflow version as numbers, which is what replicas share of it."""

    min_age: timedelta
    max_age: timedelta
    max_attempts: int
    max_total_attempts: int
    retry_base: timedelta
    retry_cap: timedelta
    timeout: timedelta
    concurrency: int


@dataclass(frozen=True, slots=True)
class Registration:
    """One version of a workflow that some replica has or had; `version` is empty where it declares none.

    `triggers` are the channels that start a node of a low-level `Pregel`, where their names do not show it. `isolate`:
    its threads always run alone; only the replica that has the code knows this. `retention` is what becomes of its
    finished threads, `retain` how long after their last sign of life; None: as the settings say.
    """

    name: str
    version: str
    accepts: tuple[str, ...]
    triggers: tuple[str, ...]
    numbers: PolicyLimits
    seen_at: datetime
    isolate: bool = False
    retention: PruneStrategy | None = None
    retain: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the sentence that explains it; `until` is when a `running` thread will count as quiet.

    `unsure`: rows alone cannot tell whether anything is left to run, so the graph is asked, and nothing is run.
    """

    verdict: Verdict
    reason: str
    until: datetime | None = None
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Our record of an unfinished thread (table `resumed.cases`).

    `fingerprint` stands for the head's control rows; `changed_at` is when a look found them changed on a known head.
    `attempts` counts all attempts, `consecutive` the charged ones without progress. `own_head` is the head at which an
    attempt of ours stopped: the next one need not wait for silence there. `revision` grows with every write.

    What outlives the last verdict: `refused_by` are the versions whose preflight refused this very head, with the last
    one's verdict in `refusal`; `spent_by` the versions that have used up their attempts; `cancelled_head` the head that
    a person cancelled, `cancel_pending` that the head where the running attempt stops will be that one; `pinned` that a
    person put the case into quarantine and alone takes it out; `suspect` that the last attempt ended with its worker.
    """

    thread_id: str
    workflow: str | None
    version: str | None
    verdict: Verdict
    reason: str
    state: State
    head: str
    fingerprint: str
    last_activity_at: datetime
    first_seen_at: datetime
    changed_at: datetime | None
    due_at: datetime | None
    next_look_at: datetime | None
    attempts: int
    consecutive: int
    revision: int
    head_seen_at: datetime | None = None
    refused_by: tuple[str, ...] = ()
    refusal: Verdict | None = None
    refusal_reason: str | None = None
    spent_by: tuple[str, ...] = ()
    own_head: str | None = None
    cancelled_head: str | None = None
    cancel_pending: bool = False
    pinned: bool = False
    suspect: bool = False
    quarantine_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to resume a thread (table `resumed.attempts`), as recorded."""

    thread_id: str
    attempt: int
    workflow: str
    version: str
    worker: str
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    advanced: bool
    before: str
    after: str | None
    error_type: str | None
    error_at: str | None
    error: str | None
    closed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, as it is recorded: the head after it and, where the graph raised, what.

    `alone`: it ran in the isolation worker, so that a crash is its own.
    """

    outcome: Outcome
    advanced: bool = False
    after: str | None = None
    error_type: str | None = None
    error_at: str | None = None
    error: str | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class ThreadCount:
    """How many cases share a workflow (empty: unclaimed), state and verdict, how many are due, the longest quiet.

    `suspects`: how many of them are tried alone, because their last attempt ended with its worker.
    """

    workflow: str
    state: str
    verdict: str
    threads: int
    due: int
    oldest_at: datetime | None
    suspects: int = 0
