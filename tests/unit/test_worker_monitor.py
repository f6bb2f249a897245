"""What dead workers left: it is handed out once, and comes back where nothing could be done about it."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from resumed.daemon.worker_monitor import WorkerMonitor
from resumed.model import Attempt, Outcome
from resumed.observability.events import Events
from resumed.workers.process import WorkerExit, WorkerProcess
from resumed.workers.protocol import AttemptStarted, FromWorker, RequestDone, RequestResult, ThreadInspected


@dataclass
class Worker:
    """What the monitor reads of a worker."""

    name: str = "host-1-0"
    alone: bool = False
    inflight: dict[str, str] = field(default_factory=lambda: {"t1": "orders", "t2": "orders"})


def monitor(**options: Any) -> WorkerMonitor:
    return WorkerMonitor(Events(), on_slot_free=lambda: None, on_worker_exit=lambda: None, **options)


def dies(it: WorkerMonitor, *, retired: bool = False, **worker: Any) -> None:
    exited = WorkerExit(-9, registered=True, loading=None, retired=retired, dismissed=False, lived=timedelta(1))
    it.listener().on_exited(cast("WorkerProcess", Worker(**worker)), exited)


def attempt(thread_id: str) -> Attempt:
    return Attempt(
        thread_id=thread_id, attempt=1, workflow="orders", version="1", worker="host-1-0",
        started_at=datetime(2026, 3, 1, tzinfo=UTC), finished_at=None, outcome=None, advanced=False, before="head",
        after=None, error_type=None, error_at=None, error=None,
    )  # fmt: skip


def says(it: WorkerMonitor, message: FromWorker) -> None:
    it.listener().on_message(cast("WorkerProcess", Worker()), message)


def settle_one(it: WorkerMonitor) -> None:
    """Settle the first suspect and lose the database at the second."""
    with it.abandoned.take_suspects() as suspects:
        del suspects["t1"]
        raise ConnectionError


def test_suspects_that_the_block_leaves_come_back_with_those_of_a_worker_that_dies_meanwhile() -> None:
    it = monitor()
    dies(it)
    with it.abandoned.take_suspects() as suspects:
        assert suspects == {"t1": False, "t2": False}
        dies(it, name="host-1-isolation", alone=True, inflight={"t3": "orders"})
        del suspects["t1"]
    with it.abandoned.take_suspects() as suspects:
        assert suspects == {"t2": False, "t3": True}
        suspects.clear()
    with it.abandoned.take_suspects() as suspects:
        assert suspects == {}


def test_suspects_come_back_where_the_block_fails() -> None:
    it = monitor()
    dies(it)
    with pytest.raises(ConnectionError):
        settle_one(it)
    with it.abandoned.take_suspects() as suspects:
        assert suspects == {"t2": False}


def test_what_came_to_nothing_is_taken_once_unless_it_is_suspected_or_in_flight_again() -> None:
    it = monitor()
    dies(it)
    for thread in ("t4", "t5"):
        says(it, RequestDone(thread, "orders", RequestResult.UNREACHABLE))
    with pytest.raises(ConnectionError), it.abandoned.take_unstarted(["t5"]):
        raise ConnectionError
    with it.abandoned.take_unstarted(["t5"]) as threads:
        assert threads == {"t4"}
    with it.abandoned.take_unstarted([]) as threads:
        assert threads == {"t5"}
    assert it.results == {RequestResult.UNREACHABLE: 2}


def test_an_attempt_is_one_of_a_retired_worker_until_it_is_closed_or_its_thread_is_tried_again() -> None:
    it = monitor()
    attempts = {thread: attempt(thread) for thread in ("t1", "t2", "t3")}
    assert not any(it.abandoned.outcome_of(one) for one in attempts.values())
    dies(it, retired=True)
    for _ in range(2):
        assert {name: it.abandoned.outcome_of(one) for name, one in attempts.items()} == {
            "t1": Outcome.DRAINED, "t2": Outcome.DRAINED, "t3": None,
        }  # fmt: skip
    assert not it.abandoned.outcome_of(replace(attempts["t1"], worker="host-2-0"))
    it.finish_attempt(attempts["t1"])
    says(it, AttemptStarted(replace(attempts["t2"], attempt=2)))  # by the worker that took the place and the name
    assert not any(it.abandoned.outcome_of(one) for one in attempts.values())


def test_an_attempt_that_lost_its_session_is_known_as_such_until_it_is_closed_even_if_its_worker_dies_meanwhile() -> (
    None
):
    it = monitor()
    says(it, RequestDone("t1", "orders", RequestResult.UNREACHABLE, left_open=1))
    says(it, RequestDone("t2", "orders", RequestResult.TRIED, left_open=1))
    dies(it)
    assert it.abandoned.outcome_of(attempt("t1")) is it.abandoned.outcome_of(attempt("t2")) is Outcome.LOCK_LOST
    assert it.abandoned.outcome_of(replace(attempt("t1"), attempt=2)) is None
    it.finish_attempt(attempt("t1"))
    it.forget_attempt(attempt("t2"))
    assert it.abandoned.outcome_of(attempt("t1")) is it.abandoned.outcome_of(attempt("t2")) is None


async def test_an_inspection_that_was_given_up_is_asked_for_again() -> None:
    it = monitor()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await it.replies.inspection("t1")
    again = it.replies.inspection("t1")
    says(it, ThreadInspected("t1", None))
    assert await again is None


def test_workers_that_end_as_expected_leave_no_suspects() -> None:
    it = monitor()
    it.expect_exits()
    dies(it)
    with it.abandoned.take_suspects() as suspects, it.abandoned.take_unstarted([]) as threads:
        assert (suspects, threads) == ({}, {"t1", "t2"})
