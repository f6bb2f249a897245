"""Every way into quarantine, to a person or into a pause leaves one notice, in the transaction of what it tells."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import conninfo

from postgres.case_writes import begin_attempt, settle
from postgres.test_acts import RULES, WORKFLOW, case, office, saved, standing, swept
from postgres.test_databases import made
from postgres.test_orphans import STRICT, closed, left_open, version
from resumed.daemon.recovery import suspect_thread
from resumed.judge.case import CasePlacement
from resumed.judge.webhook import Gathered
from resumed.model import Ending, Judgement, Outcome, State, Verdict, Via
from resumed.operations import containment, pause
from resumed.operations.assess import build_sweep_context
from resumed.operations.retention import History, forget_history
from resumed.store import attempts, cases, schema, webhook, workflow_versions
from resumed.store.attempts import Conclusion
from resumed.store.connection import Session, Target, open_session

DAY = timedelta(days=1)
QUARANTINED = Judgement(Verdict.FAILED, "it said hunter2"), CasePlacement(State.QUARANTINED, None, None, "hunter2")
WAITING = Judgement(Verdict.WAITING, "a person was asked"), CasePlacement(State.HELD)


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        await workflow_versions.announce_versions(it, [WORKFLOW])
        await webhook.renew(it)
        yield it


async def notices(session: Session) -> list[tuple[str, str | None, str | None]]:
    cursor = await session.execute("select type, workflow, thread_id from resumed.notices order by id")
    return [(row["type"], row["workflow"], row["thread_id"]) async for row in cursor]


async def test_a_sweep_tells_of_what_it_quarantines_and_of_what_waits_once(session: Session) -> None:
    await saved(session, "t1", channel="branch:to:gone")
    await saved(session, "t2", channel="__interrupt__")
    unknown = replace(WORKFLOW, version="2", accepts=())
    await workflow_versions.announce_versions(session, [unknown])
    await session.execute("update checkpoints set metadata = metadata || '{\"version\": \"0\"}' where thread_id = 't1'")
    await session.execute(
        "insert into checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, type, blob)"
        " select thread_id, checkpoint_id, 'task', 0, '__interrupt__', 'msgpack', '' from checkpoints"
        " where thread_id = 't2'"
    )
    assert (await swept(session, "t1")).state is State.QUARANTINED
    assert (await swept(session, "t2")).verdict is Verdict.WAITING
    told = [("case.quarantined", "orders", "t1"), ("case.waiting", "orders", "t2")]
    assert sorted(await notices(session)) == told
    await swept(session)
    assert sorted(await notices(session)) == told


@pytest.mark.parametrize(("left", "kind"), [(QUARANTINED, "case.quarantined"), (WAITING, "case.waiting")])
@pytest.mark.parametrize("way", ["conclude", "settle"])
async def test_the_end_of_an_attempt_tells_of_it_and_not_where_it_is_rolled_back(
    session: Session, way: str, left: tuple[Judgement, CasePlacement], kind: str
) -> None:
    head = await saved(session, "t1")
    await swept(session)
    begun = await begin_attempt(session, standing("t1", head))
    assert begun is not None
    update = standing("t1", head, judgement=left[0], placement=left[1])

    async def close() -> None:
        if way == "settle":
            await settle(session, update)
            return
        known = await case(session)
        conclusion = Conclusion(update, attempts.AttemptOutcomeFields(), known, datetime.now(UTC), None)
        assert await attempts.conclude(session, begun[0], Ending(Outcome.FAILED), conclusion) is not None

    async with session.transaction(force_rollback=True):
        await close()
        assert len(await notices(session)) == 1
    assert await notices(session) == []
    await close()
    assert await notices(session) == [(kind, "orders", "t1")]


async def test_a_crashed_attempt_that_was_one_too_many_is_told(session: Session) -> None:
    known = [version("1", STRICT)]
    attempt = await left_open(session, "1", known, version="1")
    assert (await closed(session, attempt, known)).state is State.QUARANTINED
    assert await notices(session) == [("case.quarantined", "orders", "orders_1")]


async def test_a_thread_whose_state_kills_its_worker_is_told(session: Session) -> None:
    once = replace(WORKFLOW, numbers=replace(WORKFLOW.numbers, max_attempts=1))
    await workflow_versions.announce_versions(session, [once])
    await saved(session, "t1")
    await swept(session)
    context = await build_sweep_context(session, RULES)
    result = await suspect_thread(session, context, "t1", {"orders": once}, alone=True)
    assert result is not None
    assert result.quarantine_reason is not None
    assert await notices(session) == [("case.quarantined", "orders", "t1")]


async def test_a_person_tells_by_quarantine_and_pause_and_a_release_tells_nothing(session: Session) -> None:
    await saved(session, "t1")
    assert (await containment.quarantine_thread(office(session), "t1")).done
    assert (await containment.quarantine_thread(office(session), "t1")).done
    await containment.release_threads(office(session), ["t1"])
    for workflow in ("orders", "orders", ""):
        await pause.pause_workflow(session, workflow, "ada", "hunter2", via=Via.CLI)
    await pause.unpause_workflow(session, "orders", "ada", via=Via.CLI)
    await pause.pause_workflow(session, "orders", "ada", "hunter2", via=Via.CLI)
    assert await notices(session) == [
        ("case.quarantined", "orders", "t1"),
        ("workflow.paused", "orders", None),
        ("workflow.paused", None, None),
        ("workflow.paused", "orders", None),
    ]


async def test_the_next_question_of_a_thread_is_told_and_a_look_at_the_same_is_not(session: Session) -> None:
    for head in ("1", "1", "2"):
        await record(session, standing("t1", head, judgement=WAITING[0], placement=WAITING[1]))
    assert await notices(session) == [("case.waiting", "orders", "t1")] * 2


async def test_where_no_replica_has_a_webhook_nothing_is_written(session: Session) -> None:
    await session.execute("update resumed.webhook set wanted_until = now() - interval '1 second'")
    await record(session, standing("t1", "1", judgement=WAITING[0], placement=WAITING[1]))
    await pause.pause_workflow(session, "orders", "ada", "x", via=Via.CLI)
    assert await notices(session) == []


async def test_a_release_of_an_older_schema_tells_without_a_right_on_notices(session: Session, database: str) -> None:
    """Triggers have their owner's rights: who writes a case or a pause needs none on what they write."""
    await session.execute(
        "drop role if exists older; create role older; grant usage on schema resumed to older;"
        " grant select, insert, update on resumed.cases, resumed.pauses to older; set role older"
    )
    await record(session, standing("t1", "1", judgement=QUARANTINED[0], placement=QUARANTINED[1]))
    await session.execute(
        "insert into resumed.pauses (workflow, paused, actor, reason, since) values ('orders', true, 'a', 'b', now())"
    )
    await session.execute("reset role")
    assert [kind for kind, _, _ in await notices(session)] == ["case.quarantined", "workflow.paused"]
    await session.execute("drop owned by older; drop role older")


async def test_hostile_thread_ids_are_cut_and_told(session: Session) -> None:
    hostile = "\"}]\n'--\x01\u2028é" + "x" * 2000
    await record(session, standing(hostile, "1", judgement=QUARANTINED[0], placement=QUARANTINED[1]))
    (group,) = await webhook.gather(session, 10)
    assert group.threads == (hostile[:201],)
    message = Gathered().with_groups([group]).to_message()
    assert message.isascii()
    assert "\n" not in message


async def test_a_thousand_notices_are_gathered_as_one_group_a_page_at_a_time(session: Session) -> None:
    await session.execute(
        "insert into resumed.notices (type, workflow, thread_id)"
        " select 'case.quarantined', 'orders', 't' || n from generate_series(1, 1000) n"
    )
    pages = [await webhook.gather(session, 600) for _ in range(3)]
    assert [sum(group.notices for group in page) for page in pages] == [600, 400, 0]
    gathered = Gathered().with_groups(group for page in pages for group in page)
    (group,) = gathered.groups
    assert (group.notices, len(group.threads)) == (1000, 10)
    assert Gathered.from_text(gathered.to_text()) == gathered


async def test_what_nobody_has_wanted_for_a_week_is_deleted(session: Session) -> None:
    history = History(30 * DAY, 365 * DAY)
    await record(session, standing("t1", "1", judgement=WAITING[0], placement=WAITING[1]))
    await session.execute(
        "update resumed.webhook set gathered = '{}', body = 'x', message_id = 'm', failures = 3,"
        " wanted_until = now() - interval '6 days'"
    )
    assert await forget_history(session, history) == {}
    await session.execute("update resumed.webhook set wanted_until = now() - interval '8 days'")
    assert await forget_history(session, history) == {"notices": 1}
    outbox = await webhook.take(session)
    assert outbox is not None
    assert (outbox.message, outbox.gathered, outbox.failures) == (None, Gathered(), 0)


@pytest.mark.parametrize(("encoding", "thread"), [("SQL_ASCII", "caf\udce9" + "é" * 150), ("LATIN1", "café" * 60)])
async def test_in_any_encoding_an_id_is_told_as_text(server_dsn: str, encoding: str, thread: str) -> None:
    with made(server_dsn, f"encoding '{encoding}' lc_collate 'C' lc_ctype 'C'") as dsn:
        with PostgresSaver.from_conn_string(conninfo.make_conninfo(dsn, client_encoding="UTF8")) as saver:
            saver.setup()
        await schema.migrate(Target(dsn))
        async with open_session(Target(dsn)) as session:
            await webhook.renew(session)
            await record(session, standing(thread, "1", judgement=WAITING[0], placement=WAITING[1]))
            gathered = Gathered().with_groups(await webhook.gather(session, 10))
            outbox = await webhook.take(session)
            assert outbox is not None
            await webhook.keep(session, replace(outbox, gathered=gathered), None)
            outbox = await webhook.take(session)
    assert outbox is not None
    ((told,),) = (group.threads for group in outbox.gathered.groups)
    assert told.startswith(thread.replace("\udce9", "?")[:90])
    assert "\\ud" not in outbox.gathered.to_message()


async def record(session: Session, update: Any) -> None:
    known = (await cases.of_threads(session, [update.thread_id])).get(update.thread_id)
    assert await cases.record(session, [(update, known)], datetime.now(UTC))
