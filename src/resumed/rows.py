"""What is read of a thread's rows, LangGraph's and those of its registered run, as types. No behaviour."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Run:
    """A registered run that has not ended (table `resumed.runs`), without its input.

    `head_before` is the head that it began on, empty for none; `rows_before` the fingerprint of that head's control
    rows, where the input is a command. In the state `taken` an attempt of ours has continued it, in `submitted` it
    waits to be begun.
    """

    thread_id: str
    run_id: str
    workflow: str
    version: str | None
    state: str
    head_before: str
    rows_before: str | None
    begun_at: datetime
    has_input: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The newest root checkpoint of a thread, as far as judging needs it.

    `updated_channels` is None where the row holds none. `null_channels` are the channels of the head's rows with the
    all-zero task id. `newest_id` is the newest checkpoint id over all namespaces. `edited_inside` are the namespaces of
    subgraphs whose newest checkpoint is a person's edit on which nothing has run since. `ran_since`: a task has saved
    anything since, rows of the head or a subgraph's checkpoint that is no edit. A `stub` is the row that
    `durability="exit"` leaves before there is any state; it counts as no row. `run` is the thread's registered run that
    has not ended; `unapplied`: its input was not applied yet, and the head stands for that input.
    `saved_since` counts the rows that tasks have saved on the head and, since the head, in its subgraphs.
    `has_stateful`: a subgraph that keeps its own state between runs has saved some; True where that was not asked.
    """

    thread_id: str
    checkpoint_id: str
    newest_id: str
    stub: bool
    source: str | None
    updated_channels: tuple[str, ...] | None
    null_channels: tuple[str, ...]
    metadata_workflow: str | None
    metadata_graph: str | None
    metadata_version: str | None
    metadata_attempt: str | None
    ran_since: bool = False
    edited_inside: tuple[str, ...] = ()
    metadata_run: str | None = None
    run: Run | None = None
    unapplied: bool = False
    saved_since: int = 0
    has_stateful: bool = True


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A row of `checkpoint_writes` that says why a head stopped; never its value.

    `order` grows with the transaction that wrote the row and `writer` is that transaction; `cancelled` marks a bare
    `CancelledError`; `has_output` that the same task also saved ordinary writes, `output_order` when it last did.
    `task_path` is LangGraph's own description of the task, which names its node.
    """

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    channel: str
    order: int
    writer: str
    cancelled: bool
    has_output: bool
    output_order: int | None = None
    task_path: str = ""


@dataclass(frozen=True, slots=True)
class AttemptOrigin:
    """What an attempt goes on with: the trace context of the application's call, the previous attempt's start."""

    traceparent: str | None = None
    tracestate: str | None = None
    previous_at: datetime | None = None
