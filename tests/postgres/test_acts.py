"""What a person says of threads: written whole or not at all, and overruled by nothing that runs at the same moment."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from postgres.case_writes import begin_attempt, blank_attempt, settle
from resumed.daemon.sweep import run_sweep
from resumed.judge.case import AttemptOutcomeFields, CasePlacement, CaseUpdate
from resumed.judge.checkpoint_id import first_at
from resumed.model import Attempt, Case, Ending, Judgement, Outcome, PolicyLimits, Registration, State, Verdict, Via
from resumed.operations import containment, pause
from resumed.operations.assess import SweepRules
from resumed.operations.containment import CommandResult, OperatorCommand, OperatorContext
from resumed.store import attempts, audit, cases, locks, pauses, workflow_versions
from resumed.store import case_commands as stored
from resumed.store.cases import ClaimRequest
from resumed.store.connection import Session, Target, open_session

MINUTE = timedelta(minutes=1)
NUMBERS = PolicyLimits(timedelta(0), timedelta(days=1), 5, 50, MINUTE, MINUTE, MINUTE, 4)
RULES = SweepRules(NUMBERS, "orders", 15 * MINUTE)
WORKFLOW = Registration("orders", "1", (), (), NUMBERS, datetime.now(UTC))
WHY = "the customer called"
STOPPED = Judgement(Verdict.STOPPED, "work waits")
INSERT = (
    "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
    " values (%(thread)s, '', %(id)s, %(checkpoint)s::text::jsonb, %(metadata)s::text::jsonb)"
)
ERRORLESS = {"error_type": None, "error_at": None, "error": None}
Deed = Callable[[OperatorContext, str], Awaitable[CommandResult]]


@pytest.fixture
def dsn(shared_database: str) -> str:
    with psycopg.connect(shared_database, autocommit=True) as connection:
        connection.execute(
            "truncate checkpoints, resumed.cases, resumed.attempts, resumed.audit, resumed.pauses, resumed.watermarks"
        )
    return shared_database


@pytest.fixture
async def session(dsn: str) -> AsyncIterator[Session]:
    async with open_session(Target(dsn)) as it:
        await workflow_versions.announce_versions(it, [WORKFLOW])
        yield it


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[Session]:
    async with open_session(Target(dsn)) as it:
        yield it


def office(session: Session, actor: str = "ada@desk", reason: str | None = WHY) -> OperatorContext:
    return OperatorContext(session, RULES, OperatorCommand(actor, reason, via=Via.CLI))


async def saved(session: Session, thread: str, ago: timedelta = MINUTE, channel: str = "branch:to:pay") -> str:
    """Save a head of this age; gives its id."""
    head = first_at(datetime.now(UTC) - ago)
    checkpoint, metadata = {"v": 4, "updated_channels": [channel]}, {"source": "loop", "step": 1}
    row = {"thread": thread, "id": head, "checkpoint": json.dumps(checkpoint), "metadata": json.dumps(metadata)}
    await session.execute(INSERT, row)
    return head


async def swept(session: Session, thread: str = "t1") -> Case:
    """Sweep until the case has been looked at, whenever its next look is due."""
    await session.execute("update resumed.cases set next_look_at = clock_timestamp() where next_look_at is not null")
    assert await run_sweep(session, RULES) is not None
    return await case(session, thread)


async def case(session: Session, thread: str = "t1") -> Case:
    return (await cases.of_threads(session, [thread]))[thread]


async def asked(session: Session) -> list[tuple[str, str | None, str | None, str, str | None]]:
    cursor = await session.execute("select * from resumed.audit order by id")
    return [(row["action"], row["thread_id"], row["workflow"], row["actor"], row["reason"]) async for row in cursor]


async def claimed(session: Session) -> list[str]:
    wanted = [ClaimRequest(WORKFLOW, 100), ClaimRequest(WORKFLOW, 100, suspects=True)]
    return [one.thread_id for one in await cases.claim(session, wanted, "us", 100)]


def standing(thread: str, head: str, **changes: Any) -> CaseUpdate:
    whole = CaseUpdate(thread, "orders", "1", head, "", datetime.now(UTC), STOPPED, CasePlacement(State.DUE))
    return replace(whole, **changes)


async def begun(session: Session, head: str, thread: str = "t1") -> Attempt:
    """Begin an attempt as a worker does, the thread's lock apart."""
    begun = await begin_attempt(session, standing(thread, head))
    assert begun is not None
    return begun[0]


async def closed(session: Session, attempt: Attempt, head: str, placement: CasePlacement) -> Case:
    """Close it as a worker does that has not heard of what was said meanwhile."""
    async with session.transaction():
        await attempts.finish(session, attempt, Ending(Outcome.DRAINED, advanced=True, after=head))
        left = standing(attempt.thread_id, head, placement=placement)
        await settle(session, left, AttemptOutcomeFields(consecutive=0, own=True))
    return await case(session, attempt.thread_id)


async def waits_for_a_row(session: Session, task: "asyncio.Future[Any]") -> None:
    """Come back once a statement of the task stands behind somebody's row lock."""
    waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    for _ in range(500):
        assert not task.done()
        if await (await session.execute(waiting)).fetchone() is not None:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody waits")


# Cancel


@pytest.mark.parametrize("known", [True, False], ids=["a case", "no case yet"])
async def test_a_cancelled_head_is_held_until_it_moves(session: Session, *, known: bool) -> None:
    head = await saved(session, "t1")
    if known:
        await swept(session)
    answer = await containment.cancel_thread(office(session), "t1")
    assert answer.done
    for found in (await case(session), await swept(session)):
        assert (found.verdict, found.state, found.cancelled_head) == (Verdict.CANCELLED, State.HELD, head)
        assert found.due_at is None
    assert await claimed(session) == []
    assert await asked(session) == [("cancel", "t1", None, "ada@desk", WHY)]
    await saved(session, "t1", timedelta(seconds=1))
    assert (await swept(session)).state is State.DUE
    assert await claimed(session) == ["t1"]


async def test_a_thread_that_nobody_registered_can_be_cancelled(session: Session) -> None:
    await session.execute("update resumed.workflows set seen_at = '2020-01-01'")
    await saved(session, "t1")
    assert (await swept(session)).verdict is Verdict.UNCLAIMED
    assert (await containment.cancel_thread(office(session), "t1")).done
    assert (await swept(session)).verdict is Verdict.CANCELLED


@pytest.mark.parametrize("deed", [containment.cancel_thread, containment.quarantine_thread])
async def test_neither_an_unknown_nor_a_finished_thread_is_touched(session: Session, deed: Deed) -> None:
    await saved(session, "over", channel="messages")
    await saved(session, "asked the graph")
    seen = await swept(session, "asked the graph")
    gone = standing(seen.thread_id, seen.head, fingerprint=seen.fingerprint, placement=CasePlacement(State.CLOSED))
    await settle(session, gone)
    for thread in ("nobody", "over", "asked the graph"):
        answer = await deed(office(session), thread)
        assert not answer.done
        assert ("finished" in answer.said) is (thread != "nobody")
    assert await asked(session) == []
    assert set(await cases.of_threads(session, ["nobody", "over"])) == set()
    assert (await case(session, "asked the graph")).state is State.CLOSED


async def test_where_somebody_else_holds_the_lock_that_is_said_and_the_head_cancelled(
    session: Session, other: Session
) -> None:
    head = await saved(session, "t1")
    await locks.try_lock(other, "t1")
    answer = await containment.cancel_thread(office(session), "t1")
    assert answer.done
    assert "is not stopped" in answer.said
    found = await swept(session)
    assert (found.verdict, found.cancelled_head) == (Verdict.RUNNING, head)
    await locks.unlock(other, "t1")
    assert (await swept(session)).verdict is Verdict.CANCELLED


@pytest.mark.parametrize("orphaned", [False, True], ids=["its worker closes it", "its next holder closes it"])
async def test_the_head_where_a_running_attempt_stops_is_the_cancelled_one(session: Session, *, orphaned: bool) -> None:
    attempt = await begun(session, await saved(session, "t1"))
    answer = await containment.cancel_thread(office(session), "t1")
    assert (answer.done, "attempt 1" in answer.said) == (True, True)
    assert await stored.find_stops(session, ["t1", "t2"]) == {"t1": True}
    head = await saved(session, "t1", timedelta(seconds=1))
    if orphaned:
        await attempts.finish(session, attempt, Ending(Outcome.CRASHED))
        await stored.resolve_cancel(session, "t1", head)
    else:
        found = await closed(session, attempt, head, CasePlacement(State.DUE, datetime.now(UTC)))
        assert (found.verdict, found.state, found.due_at) == (Verdict.CANCELLED, State.HELD, None)
    assert await claimed(session) == []
    found = await swept(session)
    assert (found.verdict, found.state, found.cancelled_head) == (Verdict.CANCELLED, State.HELD, head)
    assert await stored.find_stops(session, ["t1"]) == {}
    await saved(session, "t1", timedelta(0))
    await asyncio.sleep(0.05)
    assert (await swept(session)).state is State.DUE


async def test_a_cancelled_attempt_that_came_to_its_end_leaves_a_closed_case(session: Session) -> None:
    attempt = await begun(session, await saved(session, "t1"))
    await containment.cancel_thread(office(session), "t1")
    head = await saved(session, "t1", timedelta(0), channel="messages")
    found = await closed(session, attempt, head, CasePlacement(State.CLOSED))
    assert (found.state, found.verdict, found.cancelled_head) == (State.CLOSED, Verdict.STOPPED, None)
    assert await stored.find_stops(session, ["t1"]) == {}


# Quarantine


async def test_a_persons_quarantine_outlives_heads_versions_and_looks(session: Session) -> None:
    await saved(session, "t1")
    assert (await containment.quarantine_thread(office(session), "t1")).done
    await workflow_versions.announce_versions(session, [replace(WORKFLOW, version="2", accepts=("1",))])
    await saved(session, "t1", timedelta(seconds=1))
    for found in (await case(session), await swept(session), await swept(session)):
        assert (found.state, found.pinned, found.quarantine_reason) == (State.QUARANTINED, True, WHY)
    assert await claimed(session) == []
    assert await asked(session) == [("quarantine", "t1", None, "ada@desk", WHY)]


@pytest.mark.parametrize("state", [State.DUE, State.BACKOFF, State.QUARANTINED, State.HELD])
async def test_the_closing_of_an_attempt_does_not_end_a_persons_quarantine(session: Session, state: State) -> None:
    attempt = await begun(session, await saved(session, "t1"))
    answer = await containment.quarantine_thread(office(session), "t1")
    assert "attempt 1" in answer.said
    assert await stored.find_stops(session, ["t1"]) == {"t1": False}
    head = await saved(session, "t1", timedelta(seconds=1))
    reason = "5 charged attempts" if state is State.QUARANTINED else None
    found = await closed(session, attempt, head, CasePlacement(state, datetime.now(UTC), None, reason))
    assert (found.state, found.pinned, found.quarantine_reason, found.due_at) == (State.QUARANTINED, True, WHY, None)
    assert (await swept(session)).state is State.QUARANTINED
    assert await claimed(session) == []


# Release


async def test_a_release_gives_every_try_back_and_makes_it_due(session: Session) -> None:
    await saved(session, "t1")
    await swept(session)
    await session.execute(
        "update resumed.cases set state = 'quarantined', spent_by = '{1}', refused_by = '{1}',"
        " refusal = 'incompatible',"
        " attempts = 50, consecutive = 5, suspect = true, due_at = null, quarantine_reason = 'x', own_head = head"
    )
    [answer] = await containment.release_threads(office(session, reason=None), ["t1"])
    assert answer.done
    found = await case(session)
    assert (found.state, found.attempts, found.consecutive, found.spent_by) == (State.DUE, 0, 0, ())
    assert (found.refused_by, found.refusal, found.suspect, found.quarantine_reason) == ((), None, False, None)
    assert await claimed(session) == ["t1"]
    assert await asked(session) == [("release", "t1", None, "ada@desk", None)]


async def test_what_is_not_in_quarantine_is_said_and_left_alone(session: Session) -> None:
    await saved(session, "t1")
    before = await swept(session)
    answers = await containment.release_threads(office(session), ["t1", "nobody"])
    assert [one.done for one in answers] == [False, False]
    assert all("not in quarantine" in one.said for one in answers)
    assert await case(session) == before
    assert await asked(session) == []


@pytest.mark.parametrize(("channel", "state"), [("messages", State.CLOSED), ("branch:to:pay", State.HELD)])
async def test_a_released_thread_stands_where_its_rows_say(session: Session, channel: str, state: State) -> None:
    """It finished, or a person edited it, while it was in quarantine."""
    await saved(session, "t1")
    await containment.quarantine_thread(office(session), "t1")
    await saved(session, "t1", timedelta(seconds=1), channel)
    if state is State.HELD:
        await session.execute("""update checkpoints set metadata = '{"source": "update", "step": 2}'""")
    [answer] = await containment.release_threads(office(session), ["t1"])
    assert answer.done
    found = await case(session)
    assert (found.state, found.pinned) == (state, False)
    assert await claimed(session) == []


async def test_a_thread_that_is_gone_is_released_into_a_closed_case(session: Session) -> None:
    await saved(session, "t1")
    await containment.quarantine_thread(office(session), "t1")
    await session.execute("delete from checkpoints")
    [answer] = await containment.release_threads(office(session), ["t1"])
    assert answer.done
    assert (await case(session)).state is State.CLOSED


async def test_thousands_are_released_page_by_page_those_of_one_workflow_alone(session: Session) -> None:
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)"
        " select 't' || n, '', %s, %s::text::jsonb, %s::text::jsonb from generate_series(1, 1300) n",
        [first_at(datetime.now(UTC) - MINUTE), '{"updated_channels": ["branch:to:pay"]}', '{"source": "loop"}'],
    )
    await run_sweep(session, RULES)
    await session.execute("update resumed.cases set state = 'quarantined', pinned = thread_id < 't5', due_at = null")
    await session.execute("update resumed.cases set workflow = 'others' where thread_id > 't9'")
    few = await stored.in_quarantine(session, "others")
    assert (await stored.in_quarantine(session, None), 0 < few < 1300) == (1300, True)
    pages = [page async for page in containment.release_all(office(session), "orders")]
    assert sum(one.done for page in pages for one in page) == 1300 - few
    assert len(pages) > 2
    assert max(map(len, pages)) == containment.PAGE
    assert await stored.in_quarantine(session, None) == few
    assert len(await asked(session)) == 1300 - few
    assert len([page async for page in containment.release_all(office(session), None)]) == 1
    assert await stored.in_quarantine(session, None) == 0


# What happens at the same moment


@pytest.mark.parametrize("stale", [True, False], ids=["since the look", "before the look"])
@pytest.mark.parametrize("forbidden", ["pinned = true", "cancelled_head = head", "cancel_pending = true"])
async def test_no_attempt_begins_on_what_was_forbidden_since_it_was_looked_at(
    session: Session, forbidden: str, *, stale: bool
) -> None:
    head = await saved(session, "t1")
    seen = await swept(session)
    await session.execute(f"update resumed.cases set {forbidden}, revision = revision + 1")
    known, update, now = seen if stale else await case(session), standing("t1", head), datetime.now(UTC)
    assert await attempts.begin(session, blank_attempt(update), update, None, known=known, now=now) is None
    assert not await cases.make_due(session, update, "us", known=known, pinned=False)
    assert (await case(session)).attempts == 0
    assert await cases.make_due(session, update, "us", known=known, pinned=True) is (forbidden == "pinned = true")


@pytest.mark.parametrize("known", [True, False], ids=["a case", "no case yet"])
async def test_no_attempt_begins_on_a_paused_workflow(session: Session, *, known: bool) -> None:
    head = await saved(session, "t1")
    if known:
        await swept(session)
    for workflow in ("orders", ""):
        await pause.pause_workflow(session, workflow, "ada", WHY, via=Via.CLI)
        assert await begin_attempt(session, standing("t1", head)) is None
        assert await claimed(session) == []
        await pause.unpause_workflow(session, workflow, "ada", via=Via.CLI)
    await pause.pause_workflow(session, "another", "ada", WHY, via=Via.CLI)
    assert await begin_attempt(session, standing("t1", head)) is not None


async def test_a_cancelling_that_meets_a_beginning_attempt_waits_and_stops_it(session: Session, other: Session) -> None:
    head = await saved(session, "t1")
    await swept(session)
    async with other.transaction():
        attempt = await begun(other, head)
        cancelling = asyncio.ensure_future(containment.cancel_thread(office(session), "t1"))
        await waits_for_a_row(other, cancelling)
    assert "attempt 1" in (await cancelling).said
    moved = await saved(session, "t1", timedelta(0))
    assert (await closed(session, attempt, moved, CasePlacement(State.DUE, datetime.now(UTC)))).cancelled_head == moved


@pytest.mark.parametrize("deed", [containment.cancel_thread, containment.quarantine_thread])
async def test_a_word_that_meets_a_closing_attempt_counts_for_where_it_stopped(
    session: Session, other: Session, deed: Deed
) -> None:
    """Whichever of the two is first."""
    attempt = await begun(session, await saved(session, "t1"))
    head = await saved(session, "t1", timedelta(seconds=1))
    async with other.transaction():
        await attempts.finish(other, attempt, Ending(Outcome.DRAINED, after=head))
        await settle(other, standing("t1", head, placement=CasePlacement(State.DUE, datetime.now(UTC))))
        doing = asyncio.ensure_future(deed(office(session), "t1"))
        await waits_for_a_row(other, doing)
    assert (await doing).done
    found = await case(session)
    assert found.state is (State.HELD if deed is containment.cancel_thread else State.QUARANTINED)
    assert found.cancelled_head == (head if deed is containment.cancel_thread else None)
    assert await claimed(session) == []


async def test_a_closing_that_meets_a_cancelling_leaves_the_head_cancelled(session: Session, other: Session) -> None:
    attempt = await begun(session, await saved(session, "t1"))
    head = await saved(session, "t1", timedelta(seconds=1))
    async with other.transaction():
        await stored.lock(other, ["t1"])
        await stored.cancel_running(other, "t1")
        closing = asyncio.ensure_future(closed(session, attempt, head, CasePlacement(State.DUE, datetime.now(UTC))))
        await waits_for_a_row(other, closing)
    found = await closing
    assert (found.state, found.cancelled_head, found.due_at) == (State.HELD, head, None)


async def test_two_people_at_once_are_both_heard_one_after_the_other(session: Session, other: Session) -> None:
    await saved(session, "t1")
    await swept(session)
    async with other.transaction():
        await containment.quarantine_thread(office(other, "ada"), "t1")
        second = asyncio.ensure_future(containment.release_threads(office(session, "ben"), ["t1"]))
        await waits_for_a_row(other, second)
    assert [one.done for one in await second] == [True]
    assert [entry[0:4:3] for entry in await asked(session)] == [("quarantine", "ada"), ("release", "ben")]
    assert (await case(session)).state is State.DUE
    both = await asyncio.gather(
        *(containment.cancel_thread(office(one, who), "t1") for one, who in ((session, "a"), (other, "b")))
    )
    assert [one.done for one in both] == [True, True]
    assert len(await asked(session)) == 4


async def test_two_people_who_name_a_thread_that_has_no_case_yet_make_one(session: Session, other: Session) -> None:
    for number in range(10):
        await saved(session, f"n{number}")
        deeds = (
            containment.quarantine_thread(office(session), f"n{number}"),
            containment.cancel_thread(office(other), f"n{number}"),
        )
        assert all(one.done for one in await asyncio.gather(*deeds))
        found = await swept(session, f"n{number}")
        assert (found.state, found.verdict) == (State.QUARANTINED, Verdict.CANCELLED)


async def _released(office: OperatorContext, thread: str) -> CommandResult:
    return (await containment.release_threads(office, [thread]))[0]


async def _paused(office: OperatorContext, _: str) -> CommandResult:
    return CommandResult(
        "", (await pause.pause_workflow(office.session, "orders", office.command.actor, WHY, via=Via.CLI)).said
    )


@pytest.mark.parametrize("deed", [containment.cancel_thread, containment.quarantine_thread, _released, _paused])
async def test_killed_before_any_of_its_statements_an_act_is_done_whole_or_not_at_all(
    dsn: str, session: Session, monkeypatch: pytest.MonkeyPatch, deed: Deed
) -> None:
    await saved(session, "t1")
    if deed is _released:
        await swept(session)
        await session.execute("update resumed.cases set state = 'quarantined', pinned = true, due_at = null")
    before, survived = await _everything(session), 0
    while True:
        async with open_session(Target(dsn)) as doomed:
            with monkeypatch.context() as patched:
                _kill_before(doomed, session, patched, survived)
                try:
                    assert (await deed(office(doomed), "t1")).said
                    break
                except psycopg.OperationalError:
                    assert await _everything(session) == before
        survived += 1
    assert survived >= 2
    assert await _everything(session) != before
    assert len(await asked(session)) == 1


async def _everything(session: Session) -> list[Any]:
    tables = ("cases", "audit", "pauses")
    return [await (await session.execute(f"select * from resumed.{one}")).fetchall() for one in tables]


def _kill_before(doomed: Session, alive: Session, patched: pytest.MonkeyPatch, survives: int) -> None:
    """Have the backend of `doomed` ended before the statement that comes after so many."""
    left = survives

    def killing(execute: Any) -> Any:
        async def run(cursor: Any, *arguments: Any, **named: Any) -> Any:
            nonlocal left
            if cursor.connection is doomed:
                if left == 0:
                    await alive.execute("select pg_terminate_backend(%s, 5000)", [doomed.info.backend_pid])
                left -= 1
            return await execute(cursor, *arguments, **named)

        return run

    for name in ("execute", "executemany"):
        patched.setattr(psycopg.AsyncCursor, name, killing(getattr(psycopg.AsyncCursor, name)))


# Pauses


async def test_a_pause_keeps_its_beginning_and_the_last_reason_until_it_ends(session: Session) -> None:
    assert not await pauses.pause(session, "orders", "ada", "first")
    [first] = await pauses.current_pauses(session)
    assert await pauses.pause(session, "orders", "ben", "second")
    [second] = await pauses.current_pauses(session)
    assert (second.since, second.actor, second.reason) == (first.since, "ben", "second")
    assert await pauses.unpause(session, "orders", "ada")
    assert not await pauses.unpause(session, "orders", "ada")
    assert await pauses.current_pauses(session) == []
    assert not await pauses.pause(session, "orders", "ada", "third")
    assert (await pauses.current_pauses(session))[0].since > first.since


async def test_a_pause_of_everything_and_one_of_a_workflow_end_each_by_itself(session: Session) -> None:
    assert not (await pause.unpause_workflow(session, "orders", "ada", via=Via.CLI)).done
    for workflow in ("", "orders"):
        switched = await pause.pause_workflow(session, workflow, "ada", WHY, via=Via.CLI)
        assert (switched.done, switched.warning) == (True, None)
    ended = await pause.unpause_workflow(session, "orders", "ben", via=Via.CLI)
    assert (ended.done, ended.paused) == (True, True)
    assert "everything is paused since" in ended.said
    still = await pause.unpause_workflow(session, "orders", "ben", via=Via.CLI)
    assert (still.done, still.paused, "everything is paused since" in still.said) == (False, True, True)
    await pause.pause_workflow(session, "elsewhere", "ada", WHY, via=Via.CLI)
    ended = await pause.unpause_workflow(session, "", "ben", via=Via.CLI)
    assert (ended.done, ended.paused, "the workflow 'elsewhere' is paused since" in ended.said) == (True, False, True)
    assert [entry[0:3:2] for entry in await asked(session)] == [
        ("pause", None), ("pause", "orders"), ("unpause", "orders"), ("pause", "elsewhere"), ("unpause", None),
    ]  # fmt: skip


async def test_an_unknown_name_is_paused_with_a_doubt(session: Session) -> None:
    switched = await pause.pause_workflow(session, "ordres", "ada", WHY, via=Via.CLI)
    assert switched.done
    assert switched.warning is not None
    found = await pauses.current_pauses(session)
    assert pauses.covering_pause(found, "ordres") == found[0]
    assert pauses.covering_pause(found, "orders") is None
    assert pauses.covering_pause(found, None) is None


async def test_what_was_asked_for_on_a_thread_is_told_in_its_order(session: Session) -> None:
    await saved(session, "t1")
    await containment.quarantine_thread(office(session), "t1")
    await containment.release_threads(office(session, "ben", None), ["t1"])
    told = await audit.of_thread(session, "t1")
    assert [(one.action, one.actor, one.reason) for one in told] == [
        ("quarantine", "ada@desk", WHY), ("release", "ben", None),
    ]  # fmt: skip
    assert all(one.at is not None for one in told)
