"""One thread pruned under its lock: which are, what stays of them, and what a dry run, a race or a mark makes of it."""

import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from resumed.model import PruneStrategy, Refusal
from resumed.runtime.context import AttemptRequest
from resumed.runtime.prune import prune_thread
from resumed.runtime.worker import registration_of
from resumed.store import checkpoints as stored
from resumed.store import locks, retention
from resumed.store.connection import Session, Target, open_session
from resumed.workers.prune_messages import MarkedState, PruneOutcome, PruneThread, ThreadPruned
from resumed.workflows.loaded_workflow import load_workflow
from support.attempting import NUMBERS, Place, place_at

sys.path.insert(0, str(Path(__file__).parents[1] / "graphs"))
from kept import graphs, threads

HOUR = timedelta(hours=1)
KEEP, DELETE = PruneStrategy.KEEP_LATEST, PruneStrategy.DELETE
REFUSED = {
    "edited": Refusal.UNFINISHED,
    "waiting": Refusal.UNFINISHED,
    "failed": Refusal.UNFINISHED,
    "quarantined": Refusal.UNFINISHED,
    "breakpoint": Refusal.UNFINISHED,
    "delta": Refusal.DELTA_CHANNEL,
}


@pytest.fixture
async def place(database: str) -> AsyncIterator[Place]:
    async with place_at(database) as it:
        yield it


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        yield it


@pytest.fixture
def saver(database: str) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(database) as it:
        yield it


def old(database: str, saver: PostgresSaver, thread: str) -> str:
    """Make a thread that is two days old."""
    threads.make(saver, thread)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(threads.AGE)
        connection.execute("select make_older(%s, '2 days')", [thread])
    return thread


async def prune(place: Place, thread: str, strategy: PruneStrategy = KEEP, **options: Any) -> ThreadPruned:
    name = thread.rpartition("_")[0]
    policy = graphs.ALL[name]
    loaded = load_workflow(name, policy, policy.graph)
    assert loaded is not None
    request = AttemptRequest(thread, loaded, registration_of(loaded, NUMBERS))
    return await prune_thread(request, place.worker, PruneThread(thread, name, strategy, HOUR, **options))


async def delete(place: Place, session: Session, thread: str, **options: Any) -> ThreadPruned:
    """Make the second half of a deletion, as the mark says."""
    cursor = await session.execute("select head, newest_id, fingerprint from resumed.prune_marks")
    row = await cursor.fetchone()
    assert row is not None
    return await prune(place, thread, DELETE, marked=MarkedState(**row), **options)


def rows(saver: PostgresSaver, query: str, *parameters: Any) -> list[Any]:
    assert isinstance(saver.conn, psycopg.Connection)
    return saver.conn.execute(query, parameters).fetchall()


def checkpoints(saver: PostgresSaver, thread: str) -> int:
    return int(rows(saver, "select count(*) as n from checkpoints where thread_id = %s", thread)[0]["n"])


@pytest.mark.parametrize("kind", graphs.KINDS)
async def test_keep_latest_leaves_what_a_reader_sees_and_touches_finished_threads_only(
    kind: str, database: str, saver: PostgresSaver, place: Place
) -> None:
    thread = old(database, saver, f"kept_{kind}_0")
    before, count = threads.seen(saver, thread), checkpoints(saver, thread)
    result = await prune(place, thread)
    assert threads.seen(saver, thread) == before
    assert rows(saver, threads.MISSING) == []
    if kind in REFUSED:
        assert (result.outcome, result.refusal) == (PruneOutcome.REFUSED, REFUSED[kind])
        assert checkpoints(saver, thread) == count
    else:
        assert result.outcome is PruneOutcome.PRUNED
        assert result.rows > 0
        assert result.bytes > 0
        assert checkpoints(saver, thread) < count
        assert rows(saver, threads.ORPHANS) == []
        assert (await prune(place, thread)).outcome is PruneOutcome.NOTHING


@pytest.mark.parametrize("kind", graphs.KINDS)
async def test_a_deletion_marks_a_finished_thread_and_then_leaves_nothing_of_it(
    kind: str, database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, f"gone_{kind}_0")
    before = threads.seen(saver, thread)
    first = await prune(place, thread, DELETE)
    assert threads.seen(saver, thread) == before
    if kind in REFUSED and kind != "delta":
        assert (first.outcome, first.refusal) == (PruneOutcome.REFUSED, REFUSED[kind])
        assert rows(saver, "select from resumed.prune_marks") == []
        return
    assert first.outcome is PruneOutcome.MARKED
    second = await delete(place, session, thread)
    assert (second.outcome, second.raced) == (PruneOutcome.DELETED, False)
    for table in ("checkpoints", "checkpoint_writes", "checkpoint_blobs"):
        assert rows(saver, f"select from {table}") == []
    assert len(rows(saver, "select from resumed.prune_marks where deleted_at is not null")) == 1
    assert await retention.ripe_marks(session, (await locks.try_lock(session, "x"))[1], ["gone_" + kind], 9) == []


@pytest.mark.parametrize("strategy", [KEEP, DELETE])
@pytest.mark.parametrize("kind", ["chat", "nested", "updated"])
async def test_a_dry_run_counts_what_the_run_then_does_and_changes_nothing(
    strategy: PruneStrategy, kind: str, database: str, saver: PostgresSaver, place: Place
) -> None:
    thread = old(database, saver, f"kept_{kind}_0")
    everything = [rows(saver, f"select * from {one} order by 1, 2, 3, 4, 5") for one in TABLES]
    counted = await prune(place, thread, strategy, dry_run=True)
    assert [rows(saver, f"select * from {one} order by 1, 2, 3, 4, 5") for one in TABLES] == everything
    assert rows(saver, "select from resumed.prune_marks") == []
    if strategy is KEEP:
        assert await prune(place, thread, strategy) == counted
    else:
        assert counted.rows == sum(len(one) for one in everything)


TABLES = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")


async def test_a_thread_that_is_locked_is_passed_over(
    database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "kept_chat_0")
    assert (await locks.try_lock(session, thread))[0]
    assert (await prune(place, thread)).refusal is Refusal.LOCKED
    await locks.unlock(session, thread)
    assert (await prune(place, thread)).outcome is PruneOutcome.PRUNED


async def test_a_thread_that_saved_within_the_time_is_passed_over(saver: PostgresSaver, place: Place) -> None:
    threads.make(saver, "kept_chat_0")
    assert (await prune(place, "kept_chat_0")).refusal is Refusal.RECENT


@pytest.mark.parametrize("state", ["held", "quarantined", "due"])
async def test_a_thread_with_an_open_case_is_passed_over(
    state: str, database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "kept_chat_0")
    await session.execute(
        "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at) values (%s, 'finished', 'x', %s, 'x', '', now(), now())",
        [thread, state],
    )
    assert (await prune(place, thread)).refusal is Refusal.OPEN_CASE
    await session.execute("update resumed.cases set state = 'closed'")
    assert (await prune(place, thread)).outcome is PruneOutcome.PRUNED


async def test_a_thread_with_a_run_that_has_not_ended_is_passed_over(
    database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "kept_chat_0")
    await session.execute(
        "insert into resumed.runs (run_id, thread_id, workflow, state, owner)"
        " values ('1', %s, 'kept_chat', 'open', '')",
        [thread],
    )
    assert (await prune(place, thread)).refusal is Refusal.OPEN_RUN


async def test_a_thread_of_no_time_is_as_old_as_its_case(
    database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "kept_chat_0")
    for column in ("checkpoint_id", "parent_checkpoint_id"):
        await session.execute(f"update checkpoints set {column} = 'odd-' || {column}")
    await session.execute("update checkpoint_writes set checkpoint_id = 'odd-' || checkpoint_id")
    assert (await prune(place, thread)).refusal is Refusal.RECENT
    stands = (await stored.snapshots(session, [thread]))[thread]
    await session.execute(
        "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at, head_seen_at)"
        " values (%s, 'finished', 'x', 'closed', %s, %s, now(), now(), now() - '2 h'::interval)",
        [thread, stands.head.checkpoint_id, stands.fingerprint],
    )
    assert (await prune(place, thread)).outcome is PruneOutcome.PRUNED


async def test_a_marked_thread_that_went_on_is_not_deleted(
    database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "gone_chat_0")
    assert (await prune(place, thread, DELETE)).outcome is PruneOutcome.MARKED
    threads.compiled("chat", saver).invoke({"turn": 9}, threads.config(thread))
    await session.execute("select make_older(%s, '1 day')", [thread])
    assert (await delete(place, session, thread)).refusal is Refusal.MOVED
    assert threads.seen(saver, thread)[0]["turns"] == [*range(1, 9), 9]


async def test_a_run_without_the_lock_that_saves_during_a_deletion_stops_it(
    database: str, saver: PostgresSaver, place: Place, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = old(database, saver, "gone_chat_0")
    await prune(place, thread, DELETE)
    deleting = retention.delete_rows

    async def deleted(one: Session, thread_id: str) -> None:
        await deleting(one, thread_id)
        threads.compiled("chat", saver).invoke({"turn": 9}, threads.config(thread))

    monkeypatch.setattr(retention, "delete_rows", deleted)
    assert (await delete(place, session, thread)).refusal is Refusal.MOVED
    assert threads.seen(saver, thread)[0]["turns"] == [*range(1, 9), 9]
    assert rows(saver, threads.MISSING) == []


async def test_a_run_that_loaded_the_thread_before_it_was_deleted_is_reported(
    database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "gone_chat_0")
    await prune(place, thread, DELETE)
    tail = saver.get_tuple(threads.config(thread))
    assert (await delete(place, session, thread)).outcome is PruneOutcome.DELETED
    assert await retention.raced_threads(session, 9) == {}
    assert tail is not None
    late = {**tail.checkpoint, "id": "1ff" + tail.checkpoint["id"][3:]}
    saver.put(tail.config, late, tail.metadata, {})  # type: ignore[arg-type]
    assert await retention.raced_threads(session, 9) == {thread: "gone_chat"}


async def test_a_thread_that_begins_again_after_its_deletion_is_no_race(
    database: str, saver: PostgresSaver, place: Place, session: Session
) -> None:
    thread = old(database, saver, "gone_chat_0")
    await prune(place, thread, DELETE)
    await delete(place, session, thread)
    threads.make(saver, thread)
    assert await retention.raced_threads(session, 9) == {}
