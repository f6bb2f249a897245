"""The sending of notices to a real receiver: one at a time, again under the same id, bounded while it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from postgres.test_acts import WORKFLOW
from resumed import timings
from resumed.admin.doctor import DoctorContext, Finding, Level, _webhook
from resumed.config.settings import Settings
from resumed.daemon import webhook as sending
from resumed.daemon.available_workflows import AvailableWorkflows
from resumed.daemon.webhook import WebhookTask, webhook_task
from resumed.observability.events import Events
from resumed.store import webhook, workflow_versions
from resumed.store.connection import Session, Target, open_session
from resumed.timings import Timings
from support.receiver import SECRET, Receiver, receiver

SECOND = timedelta(seconds=1)


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as made:
        yield made
        assert made.unverified == []


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        await workflow_versions.announce_versions(it, [WORKFLOW])
        yield it


@pytest.fixture(autouse=True)
def _hurried() -> Iterator[None]:
    timings.use(Timings(webhook_interval=timedelta(minutes=5), webhook_timeout=SECOND))
    yield
    timings.use(Timings())


class Heard(Events):
    """Events that keep what was said of the webhook."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str | int] = []

    def webhook_failed(self, reason: str, *, counts: bool, first: bool) -> None:
        super().webhook_failed(reason, counts=counts, first=first)
        self.said += [reason] * first

    def webhook_recovered(self, failures: int) -> None:
        super().webhook_recovered(failures)
        self.said.append(failures)

    @property
    def failures(self) -> float | None:
        return self.metrics.registry.get_sample_value("resumed_webhook_failures_total")


@pytest.fixture
async def task(database: str, receiving: Receiver) -> AsyncIterator[WebhookTask]:
    made = sender(database, receiving)
    await made.ask_for_notices()
    yield made
    await made.close()


def sender(database: str, receiving: Receiver, **more: Any) -> WebhookTask:
    settings = Settings(webhook_url=receiving.url, webhook_secret=SECRET, **more)
    made = webhook_task(settings, Target(database), Heard())
    assert made is not None
    return made


def heard(task: WebhookTask) -> Heard:
    assert isinstance(task.events, Heard)
    return task.events


async def quarantined(session: Session, threads: int, workflow: str = "orders", prefix: str = "t") -> None:
    await session.execute(
        "insert into resumed.cases (thread_id, workflow, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at, quarantine_reason) select %s || n, %s, 'failed', 'hunter2 text', 'quarantined', '', '', now(),"
        " now(), 'hunter2 text' from generate_series(1, %s) n",
        [prefix, workflow, threads],
    )


async def made_due(session: Session) -> None:
    """Let the time pass until the next request may be made."""
    await session.execute("update resumed.webhook set next_at = now()")


async def failing_attempts(session: Session, count: int, *, charged: bool = True) -> None:
    await session.execute(
        "insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome,"
        " charged, before) select 't' || n, (select count(*) from resumed.attempts), 'orders', '1', 'w', now(),"
        " clock_timestamp(), %s, %s, '' from generate_series(1, %s) n",
        ["failed" if charged else "finished", charged, count],
    )


async def test_a_thousand_quarantines_are_one_request_and_the_next_waits_its_time(
    session: Session, task: WebhookTask, receiving: Receiver
) -> None:
    await quarantined(session, 1000)
    await task.run_once()
    (request,) = receiving.requests
    (entry,) = request.notices
    assert (entry["type"], entry["workflow"], entry["count"], entry["more"]) == (
        "case.quarantined",
        "orders",
        1000,
        990,
    )
    assert b"hunter2" not in request.body
    await quarantined(session, 3, prefix="u")
    for _ in range(3):
        await task.run_once()
    assert len(receiving.requests) == 1
    await made_due(session)
    await task.run_once()
    assert [entry["count"] for request in receiving.requests for entry in request.notices] == [1000, 3]
    await made_due(session)
    await task.run_once()
    assert len({request.id for request in receiving.requests}) == len(receiving.requests) == 2
    assert (heard(task).said, heard(task).failures) == ([], 0)


async def test_two_senders_make_one_request(
    session: Session, task: WebhookTask, receiving: Receiver, database: str
) -> None:
    await quarantined(session, 5)
    others = [sender(database, receiving) for _ in range(4)]
    await asyncio.gather(*(one.run_once() for one in (task, *others)))
    await asyncio.gather(*(one.run_once() for one in (task, *others)))
    assert [entry["count"] for entry in receiving.notices("case.quarantined")] == [5]
    await asyncio.gather(*(one.close() for one in others))


async def test_while_one_sends_no_other_does_though_its_session_is_gone(
    session: Session, task: WebhookTask, receiving: Receiver, database: str
) -> None:
    timings.use(Timings(webhook_timeout=timedelta(seconds=30)))
    receiving.hold.clear()
    await quarantined(session, 1)
    first = asyncio.create_task(task.run_once())
    while not receiving.requests:
        await asyncio.sleep(0.01)
    await session.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed webhook'"
        " and datname = current_database()"
    )
    other = sender(database, receiving)
    await other.run_once()
    assert len(receiving.requests) == 1
    receiving.hold.set()
    await first
    await other.close()
    assert heard(task).said == []
    assert (await webhook.delivery_record(session)).waiting == 0


async def test_a_sender_that_died_before_it_could_say_so_has_its_message_sent_again_under_the_same_id(
    session: Session, task: WebhookTask, receiving: Receiver, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any) -> None:
        raise KeyboardInterrupt

    await quarantined(session, 2)
    with monkeypatch.context() as patched:
        patched.setattr(sending.webhook, "note_delivered", die)
        with pytest.raises(KeyboardInterrupt):
            await task.run_once()
    await quarantined(session, 7, prefix="u")
    other = sender(database, receiving)
    await other.run_once()
    assert len(receiving.requests) == 1
    await made_due(session)
    await other.run_once()
    first, second = receiving.requests
    assert (first.id, first.body) == (second.id, second.body)
    await made_due(session)
    await other.run_once()
    assert receiving.requests[2].id != first.id
    assert receiving.requests[2].notices[0]["count"] == 7
    await other.close()


async def test_while_the_receiver_is_away_notices_are_gathered_in_one_row_and_none_is_lost(
    session: Session, task: WebhookTask, receiving: Receiver
) -> None:
    receiving.answered(503)
    for number in range(4):
        await quarantined(session, 100, workflow=f"w{number % 2}", prefix=f"{number} ")
        await made_due(session)
        await task.run_once()
    assert len({(request.id, request.body) for request in receiving.requests}) == 1
    left = await (await session.execute("select count(*)::int as rows from resumed.notices")).fetchone()
    assert left == {"rows": 0}
    record = await webhook.delivery_record(session)
    assert (record.failures, record.failure, record.waiting) == (4, "answered 503", 400)
    (found,) = await findings(session, receiving)
    assert found.level is Level.WARNING
    assert "4 requests in a row have failed since" in found.finding
    assert "answered 503; 400 notices wait" in found.finding
    receiving.answered(200)
    for _ in range(3):
        await made_due(session)
        await task.run_once()
    assert [[entry["count"] for entry in request.notices] for request in receiving.requests[4:]] == [[100], [100, 200]]
    assert (heard(task).said, heard(task).failures) == (["answered 503", 4], 4)
    assert await findings(session, receiving) == [Finding("webhook", Level.OK, "no notice waits to be sent")]


async def test_more_than_a_page_of_notices_is_sent_in_pages(
    session: Session, task: WebhookTask, receiving: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "GATHERED_ROWS", 40)
    await quarantined(session, 100)
    for _ in range(3):
        await task.run_once()
    await made_due(session)
    await task.run_once()
    assert [entry["count"] for entry in receiving.notices("case.quarantined")] == [40, 60]


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [(500, {}, 300), (429, {"Retry_After": "900"}, 900), (503, {"Retry_After": "99999"}, 3600)],
)
async def test_a_failure_is_tried_again_after_a_while_and_not_before_the_receiver_says(
    session: Session, task: WebhookTask, receiving: Receiver, *, status: int, headers: dict[str, str], seconds: int
) -> None:
    receiving.answered(status, **headers)
    await quarantined(session, 1)
    await task.run_once()
    row = await (await session.execute("select next_at - clock_timestamp() as wait from resumed.webhook")).fetchone()
    assert row is not None
    assert timedelta(seconds=seconds - 5) < row["wait"] < timedelta(seconds=seconds + 1)


async def test_a_receiver_that_is_gone_is_asked_no_more_by_this_process(
    session: Session, task: WebhookTask, receiving: Receiver, database: str
) -> None:
    receiving.answered(410)
    await quarantined(session, 1)
    for _ in range(3):
        await task.run_once()
        await made_due(session)
    assert len(receiving.requests) == 1
    assert heard(task).said == ["answered 410 Gone: nothing is sent until this process is started again"]
    receiving.answered(200)
    restarted = sender(database, receiving)
    await restarted.run_once()
    assert receiving.requests[1].id == receiving.requests[0].id
    assert heard(restarted).said == [1]
    await restarted.close()


async def test_neither_address_nor_secret_is_shown_of_a_sender(task: WebhookTask) -> None:
    assert "hunter2" not in repr(task)
    assert "a key of this test" not in repr(task)


async def test_redirects_are_not_followed(session: Session, task: WebhookTask, receiving: Receiver) -> None:
    receiving.answered(307, Location=receiving.url)
    await quarantined(session, 1)
    await task.run_once()
    assert len(receiving.requests) == 1
    assert heard(task).failures == 1


async def test_a_circuit_is_told_when_it_opens_and_not_again_until_it_has_closed(
    session: Session, task: WebhookTask, receiving: Receiver, database: str
) -> None:
    quiet = sender(database, receiving, dry_run=True)
    await failing_attempts(session, 20)
    await quiet.run_once()
    assert receiving.requests == []
    restarted = sender(database, receiving)
    for one in (task, restarted, quiet, task):
        await one.run_once()
        await made_due(session)
    (entry,) = receiving.notices("circuit.opened")
    assert (entry["workflow"], entry["count"], "threads" in entry) == ("orders", 1, False)
    await failing_attempts(session, 20, charged=False)
    await restarted.run_once()
    await failing_attempts(session, 20)
    await restarted.run_once()
    assert len(receiving.notices("circuit.opened")) == 2
    for one in (quiet, restarted):
        await one.close()


async def test_a_database_that_fails_is_logged_once_and_counts_as_no_request(
    session: Session, task: WebhookTask, receiving: Receiver
) -> None:
    await session.execute("alter table resumed.webhook rename to elsewhere")
    for _ in range(2):
        await task.run_once()
    assert (heard(task).said, heard(task).failures) == (["the database failed: UndefinedTable"], 0)
    await session.execute("alter table resumed.elsewhere rename to webhook")
    await quarantined(session, 1)
    await task.run_once()
    assert heard(task).said[1:] == [0]


async def test_a_clock_that_was_ahead_delays_nothing_when_it_is_right_again(
    session: Session, task: WebhookTask, receiving: Receiver
) -> None:
    ahead = "now() + interval '300 days'"
    await session.execute(f"update resumed.webhook set next_at = {ahead}, wanted_until = {ahead}")
    await quarantined(session, 1)
    await task.run_once()
    assert len(receiving.requests) == 1
    cursor = await session.execute("select wanted_until < now() + interval '2 days' as soon from resumed.webhook")
    assert await cursor.fetchone() == {"soon": True}


async def test_without_rights_doctor_names_them(session: Session, receiving: Receiver) -> None:
    await session.execute(
        "drop role if exists bare; create role bare; grant usage on schema resumed to bare; set role bare"
    )
    (found,) = await findings(session, receiving)
    assert found.level is Level.WARNING
    assert "resumed.webhook, resumed.notices, resumed.forget_notices_v1" in found.finding
    await session.execute("reset role; drop owned by bare; drop role bare")


async def findings(session: Session, receiving: Receiver) -> list[Finding]:
    settings = Settings(webhook_url=receiving.url, webhook_secret=SECRET)
    assert await _webhook(DoctorContext(session, Settings(), AvailableWorkflows(Events()))) == []
    return await _webhook(DoctorContext(session, settings, AvailableWorkflows(Events())))
