"""Acts as the daemon counts them: every entry of the audit once, also one whose transaction ends late."""

from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from resumed.daemon.control_session import ControlSession
from resumed.daemon.measurements import DatabaseReadTask
from resumed.observability.events import Events
from resumed.store import audit
from resumed.store.connection import Target, open_session

INSERT = "insert into resumed.audit (actor, action, via) values ('ada', %s, %s)"
OF_AN_OLDER_RELEASE = (
    "insert into resumed.audit (actor, action, thread_id, workflow, reason) values ('a', %s, 't', null, 'why')"
)


@pytest.fixture
async def task(database: str) -> AsyncIterator[DatabaseReadTask]:
    made = DatabaseReadTask(ControlSession(Target(database), timedelta(0)), Events(), timedelta(0))
    yield made
    await made.session.close()


async def counted(task: DatabaseReadTask) -> dict[tuple[str, str], int]:
    """Have the task look, and return what it has counted since the start."""
    await task.run_once()
    body = task.events.render()[0].decode()
    samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
    assert not any(sample.value for sample in samples if sample.name == "resumed_database_errors_total")
    return {
        (sample.labels["action"], sample.labels["via"]): int(sample.value)
        for sample in samples
        if sample.name == "resumed_acts_total" and sample.value
    }


async def test_what_was_there_before_is_not_counted_and_what_comes_is_counted_once(
    task: DatabaseReadTask, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        session.execute(INSERT, ("pause", "cli"))
        assert await counted(task) == {}
        session.execute(INSERT, ("pause", "cli"))
        session.execute(INSERT, ("cancel", "library"))
        for _ in range(3):
            assert await counted(task) == {("pause", "cli"): 1, ("cancel", "library"): 1}


async def test_an_entry_that_is_committed_after_later_ones_is_counted_too(
    task: DatabaseReadTask, database: str
) -> None:
    with psycopg.connect(database) as late, psycopg.connect(database, autocommit=True) as other:
        late.execute(INSERT, ("cancel", "cli"))
        assert await counted(task) == {}
        for seen in range(1, 4):
            other.execute(INSERT, ("pause", "cli"))
            assert await counted(task) == {("pause", "cli"): seen}
        late.commit()
        for _ in range(3):
            assert await counted(task) == {("pause", "cli"): 3, ("cancel", "cli"): 1}
        late.execute(INSERT, ("cancel", "cli"))
        late.rollback()
        other.execute(INSERT, ("pause", "cli"))
        for _ in range(3):
            assert await counted(task) == {("pause", "cli"): 4, ("cancel", "cli"): 1}


async def test_more_entries_than_are_read_at_once_are_counted_each(task: DatabaseReadTask, database: str) -> None:
    assert await counted(task) == {}
    with psycopg.connect(database, autocommit=True) as session:
        session.execute(
            "insert into resumed.audit (actor, action, via)"
            " select 'ada', 'release', 'cli' from generate_series(1, 25000)"
        )
    for _ in range(2):
        assert await counted(task) == {("release", "cli"): 25_000}


async def test_words_that_this_release_does_not_know_break_nothing_and_are_other(
    task: DatabaseReadTask, database: str
) -> None:
    assert await counted(task) == {}
    with psycopg.connect(database, autocommit=True) as session:
        session.execute(OF_AN_OLDER_RELEASE, ("cancel",))
        session.execute(INSERT, ("transfer", "console"))
        session.execute("update resumed.audit set thread_id = 't'")
    assert await counted(task) == {("cancel", "other"): 1, ("other", "other"): 1}
    async with open_session(Target(database)) as reading:
        for entries in (await audit.of_thread(reading, "t"), (await audit.since(reading, timedelta(days=1), 10))[::-1]):
            assert [(one.action, one.via) for one in entries] == [("cancel", None), ("transfer", "console")]


async def test_after_a_backup_was_restored_counting_goes_on(task: DatabaseReadTask, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        for _ in range(3):
            session.execute(INSERT, ("pause", "cli"))
        for _ in range(3):
            await counted(task)
        session.execute("truncate resumed.audit restart identity")
        session.execute(INSERT, ("pause", "cli"))
        assert await counted(task) == {}
        session.execute(INSERT, ("unpause", "cli"))
        assert await counted(task) == {("unpause", "cli"): 1}


async def test_a_session_that_was_lost_is_replaced_and_what_came_meanwhile_is_counted(
    task: DatabaseReadTask, database: str
) -> None:
    assert await counted(task) == {}
    with psycopg.connect(database, autocommit=True) as session:
        session.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed control'"
            " and datname = current_database()"
        )
        session.execute(INSERT, ("pause", "cli"))
    for _ in range(2):
        await task.run_once()
    body = task.events.render()[0].decode()
    assert 'resumed_acts_total{action="pause",via="cli"} 1.0' in body
