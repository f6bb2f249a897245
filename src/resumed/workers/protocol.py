"""Owns what a control process and its workers say to each other: typed messages, each one JSON object on one line.

Nothing in a message is executed. Each end decodes only the messages that are meant for it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from pydantic_core import to_jsonable_python

from resumed.model import Attempt, Judgement, PolicyLimits, Registration
from resumed.observability.redaction import ErrorReport
from resumed.timings import Timings
from resumed.workers.prune_messages import PruneThread, ThreadPruned


class RequestResult(StrEnum):
    """What became of a thread that was handed to a worker."""

    TRIED = "tried"
    """An attempt was made."""
    LOOKED = "looked"
    """No attempt was made: under the lock nothing was to be resumed, or a person or a shutdown forbade it."""
    BUSY = "busy"
    """The thread's lock is held elsewhere, or this worker is running the thread."""
    EARLY = "early"
    """The head's id is ahead of this host's clock; the thread is due again when that has passed it."""
    SKEWED = "skewed"
    """This host's clock is too far ahead of the database's."""
    UNREACHABLE = "unreachable"
    """The database refused a session or lost it, or took no writes."""
    UNAVAILABLE = "unavailable"
    """The worker does not have the workflow."""
    ERROR = "error"
    """Something else raised: `RequestDone.error` says what."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What every worker of a pool is told at its start; `graphs` is the path of a langgraph.json.

    `nests_traces`: what nodes trace goes under the attempt's span. `sessions`: how many lock sessions its attempts
    share, None for one each.
    """

    dsn: str
    schema: str
    graphs: str | None
    concurrency: int
    recursion_limit: int
    defaults: PolicyLimits
    timings: Timings = field(default_factory=Timings)
    nests_traces: bool = False
    sessions: int | None = None


# To a worker


@dataclass(frozen=True, slots=True)
class StartWorker:
    """The first message to a worker. It loads `workflows` (None: all that are registered) except the `excluded`.

    `excluded` maps names to reasons; `memory` is the worker's limit in bytes; `alone` marks the isolation worker;
    `shared` demands of a process that loads one entry what is demanded of one that loads several.
    """

    worker: str
    settings: WorkerSettings
    workflows: tuple[str, ...] | None
    excluded: dict[str, str]
    memory: int | None
    alone: bool
    shared: bool
    kind: Literal["start"] = "start"


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """Make an attempt on this thread; `asked`: a person asked for it, so it need not have been silent."""

    thread_id: str
    workflow: str
    asked: bool = False
    kind: Literal["attempt"] = "attempt"


@dataclass(frozen=True, slots=True)
class InspectThread:
    """Judge this thread by its values and its graph; run nothing."""

    thread_id: str
    workflow: str
    kind: Literal["inspect"] = "inspect"


@dataclass(frozen=True, slots=True)
class DrainAttempts:
    """Ask the graphs of these threads (None: of all) to stop at their next superstep."""

    threads: tuple[str, ...] | None = None
    kind: Literal["drain"] = "drain"


@dataclass(frozen=True, slots=True)
class StopAttempts:
    """Stop the attempts on these threads (None: all) at once."""

    threads: tuple[str, ...] | None = None
    kind: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True)
class LoadWorkflow:
    """Import an entry that could not be imported before."""

    name: str
    kind: Literal["load"] = "load"


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer with a `Pong`."""

    kind: Literal["ping"] = "ping"


@dataclass(frozen=True, slots=True)
class EndWorker:
    """Close every context and end."""

    kind: Literal["end"] = "end"


# From a worker: what it has loaded


@dataclass(frozen=True, slots=True)
class EntriesFound:
    """The names of the entries that the worker is about to import."""

    names: tuple[str, ...]
    kind: Literal["found"] = "found"


@dataclass(frozen=True, slots=True)
class EntryLoading:
    """The worker begins to import this entry."""

    name: str
    kind: Literal["loading"] = "loading"


@dataclass(frozen=True, slots=True)
class EntryHung:
    """The import of this entry has not ended in time; its thread goes on."""

    name: str
    reason: str
    kind: Literal["hung"] = "hung"


@dataclass(frozen=True, slots=True)
class ProcessTainted:
    """Imported code has changed the process for everything else in it; the worker ends. `names` were just imported."""

    what: str
    names: tuple[str, ...]
    kind: Literal["tainted"] = "tainted"


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """What the worker has, and why it lacks the rest; `unloaded` are the entries whose import may be tried again."""

    workflows: tuple[Registration, ...]
    unavailable: dict[str, str]
    unloaded: tuple[str, ...]
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class WorkflowChanged:
    """What the worker has of one entry now: `workflow`, or None and the `reason`."""

    name: str
    workflow: Registration | None
    reason: str | None
    unloaded: bool
    kind: Literal["changed"] = "changed"


@dataclass(frozen=True, slots=True)
class ContextUnclosed:
    """The context of this workflow's factory did not end with the worker."""

    name: str
    kind: Literal["unclosed"] = "unclosed"


# From a worker: threads


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The row of this attempt is committed."""

    attempt: Attempt
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """This attempt is closed; `last_sign_at` is the thread's last sign of life before it stopped, where known."""

    attempt: Attempt
    last_sign_at: datetime | None = None
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class ThreadRefused:
    """Preflight, under the lock, would not resume the thread."""

    thread_id: str
    workflow: str
    judgement: Judgement
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class ThreadQuarantined:
    """The attempt was the thread's last until the thread is released."""

    thread_id: str
    workflow: str
    reason: str
    kind: Literal["quarantined"] = "quarantined"


@dataclass(frozen=True, slots=True)
class RequestDone:
    """The worker has done what a `RunAttempt` asked for; `error` is what went wrong around the attempt.

    `left_open`: the number of the attempt that lost its session and could not be closed.
    """

    thread_id: str
    workflow: str
    result: RequestResult
    error: ErrorReport | None = None
    left_open: int | None = None
    kind: Literal["done"] = "done"


@dataclass(frozen=True, slots=True)
class ThreadInspected:
    """The answer to an `InspectThread`: no judgement where nothing speaks against a resume, or with an `error_type`."""

    thread_id: str
    judgement: Judgement | None
    error_type: str | None = None
    kind: Literal["inspected"] = "inspected"


@dataclass(frozen=True, slots=True)
class NodeStuck:
    """A node of this thread cannot be stopped: the worker waits to be ended."""

    thread_id: str
    kind: Literal["stuck"] = "stuck"


# From a worker: itself


@dataclass(frozen=True, slots=True)
class ErrorRaised:
    """An error in the worker that no attempt waited for."""

    error: ErrorReport
    kind: Literal["errored"] = "errored"


@dataclass(frozen=True, slots=True)
class WorkerLeaving:
    """The worker is about to end by itself; it takes no new work."""

    kind: Literal["leaving"] = "leaving"


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`."""

    kind: Literal["pong"] = "pong"


ToWorker = (
    StartWorker
    | RunAttempt
    | InspectThread
    | PruneThread
    | DrainAttempts
    | StopAttempts
    | LoadWorkflow
    | Ping
    | EndWorker
)
FromWorker = (
    EntriesFound
    | EntryLoading
    | EntryHung
    | ProcessTainted
    | WorkerReady
    | WorkflowChanged
    | ContextUnclosed
    | AttemptStarted
    | AttemptFinished
    | ThreadRefused
    | ThreadQuarantined
    | RequestDone
    | ThreadInspected
    | ThreadPruned
    | NodeStuck
    | ErrorRaised
    | WorkerLeaving
    | Pong
)
Tell = Callable[[FromWorker], None]


def encode(message: ToWorker | FromWorker) -> bytes:
    """Write a message as one line.

    By `json`, which escapes what is not ASCII: a path may hold surrogates, and pydantic's own writer refuses those.
    """
    return json.dumps(to_jsonable_python(message)).encode() + b"\n"


def decode_for_worker(line: bytes) -> ToWorker:
    """Read a message to a worker; raises ValueError where the line is none."""
    return _messages_to_worker().validate_python(json.loads(line))


def decode_from_worker(line: bytes) -> FromWorker:
    """Read a message from a worker; raises ValueError where the line is none."""
    return _messages_from_worker().validate_python(json.loads(line))


# Built when first needed: a command that starts no worker does not pay for them, and each end builds only its own.


@cache
def _messages_to_worker() -> TypeAdapter[ToWorker]:
    return TypeAdapter(Annotated[ToWorker, Field(discriminator="kind")])


@cache
def _messages_from_worker() -> TypeAdapter[FromWorker]:
    return TypeAdapter(Annotated[FromWorker, Field(discriminator="kind")])
