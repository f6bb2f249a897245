"""What is over of our own tables goes after its time, in batches, and nothing that is still needed goes with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from postgres.test_sweep import NUMBERS
from resumed.config.settings import Settings
from resumed.daemon.service import Service
from resumed.model import Registration
from resumed.observability.events import Events, configure
from resumed.operations.retention import History, forget_history
from resumed.store import locks
from resumed.store.connection import Session, Target, open_session
from resumed.store.retention import RETENTION_KEY

DAY = timedelta(days=1)
HISTORY = History(30 * DAY, 365 * DAY)
OF_OUR_OWN = ("cases", "attempts", "runs", "workflows", "audit")
UUID6 = "1f000000-0000-6000-8000-000000000000"


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        yield it


async def case(session: Session, thread: str, state: str, age: int, head: str = UUID6) -> None:
    await session.execute(
        "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at, updated_at) values (%s, 'finished', 'x', %s, %s, '', now(), now(), now() - %s)",
        [thread, state, head, age * DAY],
    )


async def attempt(session: Session, thread: str, number: int, age: int, *, ended: bool = True) -> None:
    at = "now() - %(age)s"
    await session.execute(
        "insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome,"
        f" before) values (%(thread)s, %(number)s, 'orders', '', 'w', {at}, {at if ended else 'null'},"
        f" {chr(39) + 'finished' + chr(39) if ended else 'null'}, '')",
        {"thread": thread, "number": number, "age": age * DAY},
    )


async def run(session: Session, thread: str, state: str, age: int, *, submitted: bool = False) -> None:
    ended = state not in ("submitted", "open", "taken")
    await session.execute(
        "insert into resumed.runs (run_id, thread_id, workflow, state, submitted, owner, begun_at, ended_at)"
        " values (%(id)s, %(thread)s, 'orders', %(state)s, %(submitted)s, '', now() - %(age)s, case when %(ended)s then"
        " now() - %(age)s end)",
        {
            "id": f"{thread} {age}",
            "thread": thread,
            "state": state,
            "submitted": submitted,
            "age": age * DAY,
            "ended": ended,
        },
    )


async def checkpoint(session: Session, thread: str, head: str = UUID6) -> None:
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_id, checkpoint) values (%s, %s, '{}')", [thread, head]
    )


async def column(session: Session, query: str) -> list[Any]:
    return sorted([next(iter(row.values())) async for row in await session.execute(query)])


def make_ready(service: Service) -> None:
    for blocker in list(service.readiness.blockers):
        service.readiness.unblock(blocker)


async def test_closed_cases_go_with_their_attempts_and_open_ones_keep_theirs(session: Session) -> None:
    for thread, state, age in (
        ("old", "closed", 31),
        ("new", "closed", 29),
        ("held", "held", 99),
        ("q", "quarantined", 99),
    ):
        await case(session, thread, state, age)
        await attempt(session, thread, 1, 40)
    await attempt(session, "gone before", 1, 31)
    await attempt(session, "gone before", 2, 29)
    await attempt(session, "running", 1, 40, ended=False)
    assert await forget_history(session, HISTORY) == {"cases": 1, "attempts": 2}
    assert await column(session, "select thread_id from resumed.cases") == ["held", "new", "q"]
    left = await column(session, "select thread_id || ' ' || attempt from resumed.attempts")
    assert left == ["gone before 2", "held 1", "new 1", "q 1", "running 1"]
    assert await forget_history(session, HISTORY) == {}


async def test_the_case_that_says_when_a_thread_of_no_time_was_seen_stays_while_the_thread_does(
    session: Session,
) -> None:
    await case(session, "odd", "closed", 40, head="zz-1")
    await case(session, "gone", "closed", 40, head="zz-1")
    await checkpoint(session, "odd", "zz-1")
    assert await forget_history(session, HISTORY) == {"cases": 1}
    assert await column(session, "select thread_id from resumed.cases") == ["odd"]


async def test_runs_go_but_a_submitted_id_stays_as_long_as_its_thread(session: Session) -> None:
    await run(session, "old", "finished", 31)
    await run(session, "new", "finished", 29)
    await run(session, "open", "open", 99)
    await run(session, "submitted", "finished", 99, submitted=True)
    await run(session, "submitted and gone", "finished", 99, submitted=True)
    await run(session, "held", "waiting", 99)
    await case(session, "held", "held", 1)
    for thread in ("old", "submitted"):
        await checkpoint(session, thread)
    assert await forget_history(session, HISTORY) == {"runs": 2}
    assert await column(session, "select thread_id from resumed.runs") == ["held", "new", "open", "submitted"]


async def test_versions_go_after_the_history_and_never_within_thirty_days(session: Session) -> None:
    for age in (20, 40, 99):
        await session.execute(
            "insert into resumed.workflows"
            " select 'orders', %s, '{}', '{}', '0', '0', 1, 1, '0', '0', '0', 1, now() - %s",
            [str(age), age * DAY],
        )
    assert await forget_history(session, History(60 * DAY, 365 * DAY)) == {"workflows": 1}
    assert await forget_history(session, History(DAY, 365 * DAY)) == {"workflows": 1}
    assert await column(session, "select version from resumed.workflows") == ["20"]


async def test_the_audit_goes_after_a_time_of_its_own(session: Session) -> None:
    for age in (366, 364, 31, 0):
        await session.execute(
            "insert into resumed.audit (actor, action, reason, at) values ('x', 'pause', %s, now() - %s)",
            [str(age), age * DAY],
        )
    assert await forget_history(session, HISTORY) == {"audit": 1}
    assert await column(session, "select reason from resumed.audit") == ["0", "31", "364"]


async def test_each_round_takes_a_batch_and_the_next_goes_on(session: Session) -> None:
    await session.execute(
        "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at, updated_at) select 't-' || n, 'finished', 'x', 'closed', '', '', now(), now(),"
        " now() - '40 days'::interval from generate_series(1, 25) n"
    )
    taken = [await forget_history(session, HISTORY, 10) for _ in range(4)]
    assert [one.get("cases", 0) for one in taken] == [10, 10, 5, 0]


async def test_a_round_is_made_only_while_ready_by_one_at_a_time_and_never_in_a_dry_run(
    database: str, session: Session
) -> None:
    settings = Settings(database_url=SecretStr(database))
    service = Service(settings, Events())
    dry = Service(Settings(database_url=SecretStr(database), dry_run=True), Events())
    await case(session, "old", "closed", 40)

    async def left(of: Service) -> bool:
        await of.retention.run_once()
        return bool(await column(session, "select thread_id from resumed.cases"))

    assert await left(service)  # not ready: not connected, no worker
    for one in (service, dry):
        make_ready(one)
    assert await left(dry)
    assert await locks.try_key(session, RETENTION_KEY)
    assert await left(service)
    await locks.unlock_key(session, RETENTION_KEY)
    assert not await left(service)


@pytest.mark.parametrize("prunes", [False, True])
async def test_after_a_round_that_left_nothing_to_do_the_next_comes_a_minute_later(
    database: str, session: Session, monkeypatch: pytest.MonkeyPatch, *, prunes: bool
) -> None:
    service = Service(Settings(database_url=SecretStr(database), prune_older_than=DAY if prunes else None), Events())
    make_ready(service)
    service.monitor.workflows.registrations = {"orders": Registration("orders", "", (), (), NUMBERS, datetime.now(UTC))}
    await case(session, "first", "closed", 40)

    async def left() -> list[str]:
        await service.retention.run_once()
        return await column(session, "select thread_id from resumed.cases")

    assert [await left(), await left()] == [[], []]
    await case(session, "second", "closed", 40)
    assert await left() == ([] if prunes else ["second"])  # where a policy prunes, no round rests
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + 61)
    assert await left() == []


async def test_a_role_without_the_right_to_delete_is_told_once(
    database: str, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("json", "info")
    service = Service(Settings(database_url=SecretStr(database), prune_older_than=DAY), Events())
    make_ready(service)
    capsys.readouterr()
    orders = Registration("orders", "", (), (), NUMBERS, datetime.now(UTC))
    service.monitor.workflows.registrations = {"orders": orders}
    name = f"poor_{database[-12:]}"
    await session.execute(f"create role {name}")
    await session.execute(f"grant all on schema public, resumed to {name}; grant {name} to current_user")
    await session.execute(f"grant all on all tables in schema resumed to {name}")
    await session.execute(f"grant all on all functions in schema resumed to {name}")
    await session.execute(f"grant select on all tables in schema public to {name}")
    await session.execute(f"alter role postgres in database {database.rpartition('/')[2]} set role {name}")
    for _ in range(2):
        await service.retention.run_once()
    await session.execute(f"drop owned by {name}; drop role {name}")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["event"] for one in events] == ["retention.denied"]
    assert "DELETE on checkpoint_blobs, checkpoint_writes, checkpoints" in events[0]["reason"]


async def test_after_a_month_of_operation_our_tables_stop_growing(session: Session) -> None:
    """Each day has as much as the one before: all rows grow a day older, and a day's rows come."""
    sizes = []
    for day in range(45):
        for statement in DAY_PASSES:
            await session.execute(statement)
        await session.execute(DAY_COMES, {"day": day})
        while await forget_history(session, History(10 * DAY, 30 * DAY)):
            continue
        rows = [len(await column(session, f"select 1 from resumed.{table}")) for table in OF_OUR_OWN]
        sizes.append(tuple(rows))
    assert sizes[32:] == [sizes[32]] * len(sizes[32:])
    cases, attempts, runs, versions, audit = sizes[-1]
    assert (cases, attempts, runs) == (10 * 20 + OPEN, 10 * 20 + OPEN, 10 * 20)
    assert (versions, audit) == (30, 30 * 2)


OPEN = 3
DAY_PASSES = [
    "update resumed.cases set updated_at = updated_at - interval '1 day' where state = 'closed'",
    "update resumed.attempts set started_at = started_at - interval '1 d', finished_at = finished_at - interval '1 d'",
    "update resumed.runs set begun_at = begun_at - interval '1 day', ended_at = ended_at - interval '1 day'",
    "update resumed.workflows set seen_at = seen_at - interval '1 day'",
    "update resumed.audit set at = at - interval '1 day'",
]
DAY_COMES = """
with made as (
    insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at, first_seen_at)
    select 't-' || %(day)s::int || '-' || n, 'finished', 'x', 'closed', '', '', now(), now()
    from generate_series(1, 20) n
    union all
    select 'open-' || n, 'waiting', 'x', 'held', '', '', now(), now()
    from generate_series(1, 3) n where %(day)s::int = 0
    returning thread_id
), tried as (
    insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome,
        before)
    select thread_id, 1, 'orders', '', 'w', now(), now(), 'finished', '' from made
), ran as (
    insert into resumed.runs (run_id, thread_id, workflow, state, owner, ended_at)
    select thread_id, thread_id, 'orders', 'finished', '', clock_timestamp() from made
    where starts_with(thread_id, 't-')
), about as (
    insert into resumed.workflows (name, version, accepts, triggers, min_age, max_age, max_attempts, max_total_attempts,
        retry_base, retry_cap, timeout, concurrency, seen_at)
    values ('orders', %(day)s::int::text, '{}', '{}', '0', '0', 1, 1, '0', '0', '0', 1, now())
)
insert into resumed.audit (actor, action) select 'x', 'pause' from generate_series(1, 2)
"""
