"""What control process and worker say to each other: one line a message, read as it was written, or refused."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from resumed.model import (
    Attempt,
    Judgement,
    Outcome,
    PolicyLimits,
    PruneStrategy,
    Refusal,
    Registration,
    Verdict,
)
from resumed.observability.redaction import ErrorReport
from resumed.workers import protocol
from resumed.workers.protocol import FromWorker, ToWorker, decode_for_worker, decode_from_worker, encode
from resumed.workers.prune_messages import MarkedState, PruneOutcome, PruneThread, ThreadPruned, refused

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
LIMITS = PolicyLimits(
    timedelta(seconds=1.5), timedelta.max, 5, 50, timedelta(microseconds=1), timedelta(0), NOW - NOW, 4
)
ORDERS = Registration("orders", "2", ("1", "2"), ("inbox",), LIMITS, NOW, isolate=True)
ATTEMPT = Attempt(
    thread_id="orders\n\u2028 1\x00", attempt=1, workflow="orders", version="2", worker="host-1-0", started_at=NOW,
    finished_at=None, outcome=Outcome.LOCK_LOST, advanced=True, before="a", after=None,
    error_type="Error", error_at="/srv/caf\udce9.py:3", error="boom",
)  # fmt: skip
REPORT = ErrorReport("OSError", None, "disk")
SETTINGS = protocol.WorkerSettings("postgresql://", "public", "/srv/caf\udce9/langgraph.json", 4, 1000, LIMITS)
TO_WORKER: list[ToWorker] = [
    protocol.StartWorker("host-1-0", SETTINGS, ("orders",), {"bad": "it hangs"}, 2**30, alone=False, shared=True),
    protocol.StartWorker("host-1-0", SETTINGS, None, {}, None, alone=True, shared=False),
    protocol.RunAttempt("orders_1", "orders", asked=True),
    protocol.InspectThread("orders_1", "orders"),
    PruneThread("orders_1", "orders", PruneStrategy.DELETE, timedelta(days=30), marked=MarkedState("a", "b", "c")),
    protocol.DrainAttempts(),
    protocol.DrainAttempts(("orders_1", "orders_2")),
    protocol.StopAttempts(("orders_1",)),
    protocol.LoadWorkflow("orders"),
    protocol.Ping(),
    protocol.EndWorker(),
]
FROM_WORKER: list[FromWorker] = [
    protocol.EntriesFound(("orders", "refunds")),
    protocol.EntryLoading("orders"),
    protocol.EntryHung("orders", "it hangs"),
    protocol.ProcessTainted("signal handlers", ()),
    protocol.WorkerReady((ORDERS,), {"bad": "ImportError"}, ("bad",)),
    protocol.WorkflowChanged("orders", ORDERS, None, unloaded=False),
    protocol.WorkflowChanged("orders", None, "its context ended", unloaded=True),
    protocol.ContextUnclosed("orders"),
    protocol.AttemptStarted(ATTEMPT),
    protocol.AttemptFinished(ATTEMPT, NOW),
    protocol.ThreadRefused("orders_1", "orders", Judgement(Verdict.WAITING, "no answer", NOW, unsure=True)),
    protocol.ThreadQuarantined("orders_1", "orders", "5 attempts"),
    protocol.RequestDone("orders_1", "orders", protocol.RequestResult.ERROR, REPORT, 3),
    protocol.ThreadInspected("orders_1", None, "ValueError"),
    protocol.NodeStuck("orders_1"),
    ThreadPruned("orders_1", PruneOutcome.PRUNED, rows=7, bytes=4096),
    refused("orders_2", Refusal.LOCKED),
    protocol.ErrorRaised(REPORT),
    protocol.WorkerLeaving(),
    protocol.Pong(),
]


def test_every_message_has_an_example_here() -> None:
    assert {type(message) for message in TO_WORKER} == set(get_args(ToWorker))
    assert {type(message) for message in FROM_WORKER} == set(get_args(FromWorker))


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda message: message.kind)
def test_a_message_to_a_worker_is_one_line_and_arrives_as_it_was_sent(message: ToWorker) -> None:
    line = encode(message)
    assert line.index(b"\n") == len(line) - 1
    assert decode_for_worker(line) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: message.kind)
def test_a_message_from_a_worker_is_one_line_and_arrives_as_it_was_sent(message: FromWorker) -> None:
    line = encode(message)
    assert line.index(b"\n") == len(line) - 1
    assert decode_from_worker(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"null", b"5", b"[]", b"{}", b"\xff\xfe", b'{"kind": "unheard of"}', b'{"kind": ["done"]}',
        b'{"kind": "done"}', b'{"kind": "done", "thread_id": "a", "workflow": "b", "result": "happy"}',
        encode(protocol.AttemptStarted(ATTEMPT))[:40], encode(protocol.Ping()),
    ],
)  # fmt: skip
def test_what_is_no_message_from_a_worker_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_from_worker(line)
