"""Our record of unfinished threads: who may write over what, and who is handed which case."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
import pytest

from postgres.case_writes import begin, settle
from resumed.judge.case import AttemptOutcomeFields, CasePlacement, CaseUpdate
from resumed.judge.retry_policy import Tally
from resumed.judge.workflow_match import accepts
from resumed.model import Case, Judgement, PolicyLimits, Registration, State, Verdict
from resumed.store import cases
from resumed.store.cases import Claimed, ClaimRequest
from resumed.store.connection import Session, Target, open_session

NOW = datetime.now(UTC).replace(microsecond=123456)
MINUTE = timedelta(minutes=1)
NUMBERS = PolicyLimits(MINUTE, MINUTE, 5, 50, MINUTE, MINUTE, MINUTE, 4)
STOPPED = Judgement(Verdict.STOPPED, "work waits")
WAITING = Judgement(Verdict.WAITING, "a person is asked")
LOOK = CaseUpdate(
    "t1", "orders", "1", "head-1", "rows-1", NOW - MINUTE, STOPPED, CasePlacement(State.DUE, NOW - MINUTE)
)


@pytest.fixture
def dsn(shared_database: str) -> str:
    with psycopg.connect(shared_database, autocommit=True) as connection:
        connection.execute("truncate resumed.cases")
    return shared_database


@pytest.fixture
async def session(dsn: str) -> AsyncIterator[Session]:
    async with open_session(Target(dsn)) as it:
        yield it


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[Session]:
    async with open_session(Target(dsn)) as it:
        yield it


async def _case(session: Session, thread_id: str = "t1") -> Case:
    return (await cases.of_threads(session, [thread_id]))[thread_id]


async def _column(session: Session, name: str, thread_id: str = "t1") -> Any:
    cursor = await session.execute(f"select {name} as it from resumed.cases where thread_id = %s", [thread_id])
    row = await cursor.fetchone()
    return row["it"] if row else None


async def _recorded(session: Session, standing: CaseUpdate = LOOK, now: datetime = NOW) -> Case:
    known = (await cases.of_threads(session, [standing.thread_id])).get(standing.thread_id)
    await cases.record(session, [(standing, known)], now)
    return await _case(session, standing.thread_id)


async def _due(session: Session, thread_id: str, **fields: Any) -> None:
    """Record a case that has been due for a minute, or for as long as `due_at` says."""
    due_at = fields.pop("due_at", NOW - MINUTE)
    state = fields.pop("state", State.DUE)
    await _recorded(session, replace(LOOK, thread_id=thread_id, placement=CasePlacement(state, due_at), **fields))


def _taker(version: str = "1", *accepted: str, name: str = "orders") -> Registration:
    return Registration(name, version, accepted, (), NUMBERS, NOW)


async def _claimed(session: Session, *takers: Registration, rows: int = 100, claimant: str = "us") -> list[str]:
    wanted = [ClaimRequest(one, rows) for one in takers or (_taker(),)]
    return [one.thread_id for one in await cases.claim(session, wanted, claimant, rows)]


# What is recorded


async def test_a_look_at_a_new_thread_is_recorded_as_it_was_seen(session: Session) -> None:
    placement = CasePlacement(State.QUARANTINED, NOW, NOW + MINUTE, "no version takes it")
    judgement = Judgement(Verdict.INCOMPATIBLE, "the node is gone")
    await cases.record(session, [(replace(LOOK, judgement=judgement, placement=placement), None)], NOW)
    assert await _case(session) == Case(
        thread_id="t1",
        workflow="orders",
        version="1",
        verdict=Verdict.INCOMPATIBLE,
        reason="the node is gone",
        state=State.QUARANTINED,
        head="head-1",
        fingerprint="rows-1",
        last_activity_at=NOW - MINUTE,
        first_seen_at=NOW,
        changed_at=None,
        due_at=NOW,
        next_look_at=NOW + MINUTE,
        attempts=0,
        consecutive=0,
        revision=1,
        head_seen_at=NOW,
        refused_by=(),
        refusal=None,
        refusal_reason=None,
        spent_by=(),
        own_head=None,
        cancelled_head=None,
        pinned=False,
        quarantine_reason="no version takes it",
    )


async def test_a_thread_that_nobody_claims_has_no_workflow_and_no_version(session: Session) -> None:
    case = await _recorded(session, replace(LOOK, workflow=None, version=None))
    assert (case.workflow, case.version) == (None, None)


async def test_every_verdict_and_every_state_can_be_recorded(session: Session) -> None:
    for verdict, state in product(Verdict, State):
        case = await _recorded(
            session, replace(LOOK, judgement=Judgement(verdict, "x"), placement=CasePlacement(state))
        )
        assert (case.verdict, case.state) == (verdict, state)


async def test_an_odd_thread_id_is_kept_to_the_letter(session: Session) -> None:
    odd = 'it\'s "odd"\n\tłódź 🧾 %s ' + "x" * 10_000
    assert (await _recorded(session, replace(LOOK, thread_id=odd[:2000]))).thread_id == odd[:2000]
    assert set(await cases.of_threads(session, [odd[:2000], "another"])) == {odd[:2000]}


async def test_a_look_is_recorded_over_the_revision_that_it_saw(session: Session) -> None:
    seen = await _recorded(session)
    await cases.record(session, [(replace(LOOK, judgement=WAITING), seen)], NOW)
    case = await _case(session)
    assert (case.verdict, case.revision) == (Verdict.WAITING, seen.revision + 1)


async def test_a_case_that_was_written_since_the_look_is_left_alone(session: Session) -> None:
    seen = await _recorded(session)
    await settle(session, replace(LOOK, judgement=WAITING, placement=CasePlacement(State.HELD)))
    settled = await _case(session)
    await cases.record(session, [(replace(LOOK, head="head-2"), seen)], NOW)
    assert await _case(session) == settled


async def test_a_case_that_was_made_since_the_look_is_left_alone(session: Session) -> None:
    made = await _recorded(session)
    await cases.record(session, [(replace(LOOK, judgement=WAITING), None)], NOW)
    assert await _case(session) == made


@pytest.mark.parametrize("write", ["settle", "begin", "postpone", "record"])
async def test_every_write_to_a_case_outdates_the_looks_before_it(session: Session, write: str) -> None:
    seen = await _recorded(session)
    match write:
        case "settle":
            await settle(session, LOOK)
        case "begin":
            await begin(session, LOOK)
        case "postpone":
            await cases.postpone(session, "t1", MINUTE)
        case "record":
            await cases.record(session, [(LOOK, seen)], NOW)
    assert (await _case(session)).revision > seen.revision


async def test_of_several_looks_only_those_whose_case_moved_are_dropped(session: Session) -> None:
    looks = [replace(LOOK, thread_id=f"t{number}") for number in range(5)]
    await cases.record(session, [(one, None) for one in looks], NOW)
    known = await cases.of_threads(session, [one.thread_id for one in looks])
    await cases.postpone(session, "t2", MINUTE)
    await cases.record(session, [(replace(one, judgement=WAITING), known[one.thread_id]) for one in looks], NOW)
    found = await cases.of_threads(session, [one.thread_id for one in looks])
    assert [found[f"t{number}"].verdict for number in range(5)] == [
        Verdict.WAITING, Verdict.WAITING, Verdict.STOPPED, Verdict.WAITING, Verdict.WAITING,
    ]  # fmt: skip


async def test_of_two_replicas_that_record_the_same_look_at_once_one_writes(session: Session, other: Session) -> None:
    seen = await _recorded(session)
    async with session.transaction():
        await cases.record(session, [(replace(LOOK, head="head-2"), seen)], NOW)
        waiting = asyncio.create_task(cases.record(other, [(replace(LOOK, head="head-3"), seen)], NOW))
        await _until_blocked(session, other)
    await waiting
    case = await _case(session)
    assert (case.head, case.revision) == ("head-2", seen.revision + 1)


async def _until_blocked(session: Session, blocked: Session) -> None:
    async with asyncio.timeout(10):
        while True:
            query = "select cardinality(pg_blocking_pids(%s)) > 0 as blocked"
            row = await (await session.execute(query, [blocked.info.backend_pid])).fetchone()
            if row and row["blocked"]:
                return
            await asyncio.sleep(0.01)


async def test_recording_nothing_does_nothing(session: Session) -> None:
    await cases.record(session, [], NOW)
    assert await cases.list_open(session) == []


async def test_a_change_of_the_control_rows_on_a_known_head_is_dated(session: Session) -> None:
    assert (await _recorded(session)).changed_at is None
    changed = await _recorded(session, replace(LOOK, fingerprint="rows-2"), NOW + MINUTE)
    assert changed.changed_at == NOW + MINUTE
    same = await _recorded(session, replace(LOOK, fingerprint="rows-2", judgement=WAITING), NOW + 2 * MINUTE)
    assert same.changed_at == NOW + MINUTE
    moved = await _recorded(session, replace(LOOK, fingerprint="rows-3", head="head-2"), NOW + 3 * MINUTE)
    assert moved.changed_at is None


async def test_when_a_thread_and_its_head_were_first_seen_is_not_forgotten_by_another_look(session: Session) -> None:
    await _recorded(session)
    again = replace(LOOK, judgement=Judgement(Verdict.RUNNING, "x"), placement=CasePlacement(State.RUNNING))
    case = await _recorded(session, again, NOW + MINUTE)
    assert (case.first_seen_at, case.head_seen_at) == (NOW, NOW)


async def test_a_new_head_is_first_seen_when_it_is_seen_and_its_thread_stays_as_old_as_it_is(session: Session) -> None:
    await _recorded(session)
    case = await _recorded(session, replace(LOOK, head="head-2"), NOW + MINUTE)
    assert (case.first_seen_at, case.head_seen_at) == (NOW, NOW + MINUTE)


async def test_a_closed_case_that_opens_again_was_first_seen_then(session: Session) -> None:
    await _recorded(session, replace(LOOK, placement=CasePlacement(State.CLOSED)))
    case = await _recorded(session, replace(LOOK, head="head-2"), NOW + MINUTE)
    assert case.first_seen_at == NOW + MINUTE


async def test_a_new_head_starts_the_count_of_charged_attempts_anew_but_not_that_of_all(session: Session) -> None:
    await _recorded(session)
    await begin(session, LOOK)
    await settle(session, LOOK, AttemptOutcomeFields(consecutive=3))
    case = await _recorded(session, replace(LOOK, judgement=WAITING))
    assert (case.attempts, case.consecutive) == (1, 3)
    case = await _recorded(session, replace(LOOK, head="head-2"))
    assert (case.attempts, case.consecutive) == (1, 0)


@pytest.mark.parametrize("head", ["head-1", "head-2"])
async def test_a_closed_case_that_opens_again_starts_all_counts_anew(session: Session, head: str) -> None:
    await _recorded(session)
    await begin(session, LOOK)
    closed = replace(LOOK, placement=CasePlacement(State.CLOSED))
    await settle(session, closed, AttemptOutcomeFields(consecutive=3, spent_by="1"))
    case = await _recorded(session, replace(LOOK, head=head))
    assert (case.state, case.attempts, case.consecutive, case.spent_by) == (State.DUE, 0, 0, ())


async def test_a_case_that_leaves_quarantine_has_its_charged_attempts_again_and_one_that_stays_has_not(
    session: Session,
) -> None:
    await _recorded(session)
    quarantined = replace(LOOK, placement=CasePlacement(State.QUARANTINED, None, None, "five in a row"))
    await settle(session, quarantined, AttemptOutcomeFields(consecutive=5, spent_by="1"))
    assert (await _recorded(session, quarantined)).consecutive == 5
    case = await _recorded(session)
    assert (case.state, case.consecutive, case.spent_by) == (State.DUE, 0, ("1",))


async def test_a_persons_quarantine_and_cancelling_outlive_every_look_until_the_case_was_closed(
    session: Session,
) -> None:
    await _recorded(session)
    await session.execute("update resumed.cases set pinned = true, cancelled_head = 'head-1', revision = revision + 1")
    await begin(session, LOOK)
    await settle(session, LOOK)
    case = await _recorded(session, replace(LOOK, judgement=WAITING))
    assert (case.pinned, case.cancelled_head) == (True, "head-1")
    await _recorded(session, replace(LOOK, placement=CasePlacement(State.CLOSED)))
    assert not (await _recorded(session, replace(LOOK, head="head-2"))).pinned


@pytest.mark.parametrize("moved", [{"head": "head-2"}, {"fingerprint": "rows-2"}], ids=["head", "control rows"])
async def test_who_refused_a_head_and_why_is_forgotten_once_it_changes(session: Session, moved: dict[str, str]) -> None:
    await _recorded(session)
    await settle(session, replace(LOOK, judgement=WAITING), AttemptOutcomeFields(refused_by="1"))
    case = await _recorded(session)
    assert (case.refused_by, case.refusal, case.refusal_reason) == (("1",), Verdict.WAITING, "a person is asked")
    case = await _recorded(session, replace(LOOK, **moved))
    assert (case.refused_by, case.refusal, case.refusal_reason) == ((), None, None)


# What is read


async def test_the_listing_comes_oldest_first_without_closed_ones(session: Session) -> None:
    for number in (3, 1, 2):
        await _recorded(session, replace(LOOK, thread_id=f"t{number}"), NOW + number * MINUTE)
    await _recorded(session, replace(LOOK, thread_id="t0", placement=CasePlacement(State.CLOSED)), NOW)
    held = replace(LOOK, thread_id="t4", placement=CasePlacement(State.HELD))
    await _recorded(session, held, NOW + 4 * MINUTE)
    assert [one.thread_id for one in await cases.list_open(session)] == ["t1", "t2", "t3", "t4"]
    assert [one.thread_id for one in await cases.list_open(session, "held")] == ["t4"]
    assert await cases.list_open(session, "closed") == []
    assert "t0" in await cases.of_threads(session, ["t0"])


async def test_cases_are_looked_at_again_when_their_time_has_come_the_longest_waiting_first(session: Session) -> None:
    for number, minutes in enumerate((-1, -3, 0, 1)):
        placement = CasePlacement(State.HELD, None, NOW + minutes * MINUTE)
        await _recorded(session, replace(LOOK, thread_id=f"t{number}", placement=placement))
    await _recorded(session, replace(LOOK, thread_id="never", placement=CasePlacement(State.CLOSED)))
    assert await cases.find_due_looks(session, NOW, 100) == ["t1", "t0", "t2"]
    assert await cases.find_due_looks(session, NOW, 2) == ["t1", "t0"]
    assert await cases.find_due_looks(session, NOW - timedelta(hours=1), 100) == []


# Claiming


async def test_a_due_case_is_claimed_with_what_dispatch_needs_to_know(session: Session) -> None:
    await _due(session, "t1")
    claimed = await cases.claim(session, [ClaimRequest(_taker(), 10)], "us", 10)
    assert claimed == [Claimed("t1", "orders", "1", NOW - MINUTE)]
    assert await _column(session, "claimed_by") == "us"
    until = await _column(session, "claimed_until")
    assert timedelta(seconds=20) < until - datetime.now(UTC) <= timedelta(seconds=31)


async def test_a_claimed_case_is_not_claimed_again_until_the_claim_has_run_out(session: Session) -> None:
    await _due(session, "t1")
    assert await _claimed(session) == ["t1"]
    assert await _claimed(session) == []
    assert await _claimed(session, claimant="them") == []
    await session.execute("update resumed.cases set claimed_until = clock_timestamp() - interval '1 ms'")
    assert await _claimed(session, claimant="them") == ["t1"]
    assert await _column(session, "claimed_by") == "them"


async def test_of_two_claimants_at_once_only_one_gets_a_case(session: Session, other: Session) -> None:
    for number in range(3):
        await _due(session, f"t{number}")
    async with session.transaction():
        first = await _claimed(session, rows=2)
        async with asyncio.timeout(5):
            second = await _claimed(other, rows=3, claimant="them")
    assert len(first) == 2
    assert sorted(first + second) == ["t0", "t1", "t2"]


async def test_a_claim_that_was_decided_before_anothers_commit_is_checked_again(
    session: Session, other: Session
) -> None:
    await _due(session, "t1")
    await other.execute("set default_transaction_isolation = 'read committed'")
    answers = await asyncio.gather(*(_claimed(one, claimant=name) for one, name in ((session, "us"), (other, "them"))))
    assert sorted(answers) == [[], ["t1"]]


async def test_many_claimants_at_once_share_the_cases_without_one_going_to_two(dsn: str) -> None:
    threads = [f"t{number:03}" for number in range(60)]
    async with open_session(Target(dsn)) as session:
        for thread_id in threads:
            await _due(session, thread_id)

    async def drain(name: str) -> list[str]:
        mine: list[str] = []
        async with open_session(Target(dsn)) as one:
            while got := await _claimed(one, rows=3, claimant=name):
                mine += got
        return mine

    shares = await asyncio.gather(*(drain(f"replica {number}") for number in range(5)))
    assert sorted(thread_id for share in shares for thread_id in share) == threads


async def test_the_oldest_are_claimed_first_and_no_more_than_asked_for(session: Session) -> None:
    for number, minutes in enumerate((5, 9, 1, 7)):
        await _due(session, f"t{number}", due_at=NOW - minutes * MINUTE)
    assert await _claimed(session, rows=2) == ["t1", "t3"]
    assert await _claimed(session, rows=2) == ["t0", "t2"]


async def test_cases_that_nobody_here_has_the_code_for_do_not_stand_in_the_way(session: Session) -> None:
    for number in range(30):
        await _due(session, f"other{number}", workflow="refunds", due_at=NOW - timedelta(hours=1))
    await _due(session, "ours")
    assert await _claimed(session, rows=1) == ["ours"]


@pytest.mark.parametrize("state", State)
async def test_only_cases_that_are_due_or_in_back_off_are_claimed(session: Session, state: State) -> None:
    await _due(session, "t1", state=state)
    assert await _claimed(session) == (["t1"] if state in (State.DUE, State.BACKOFF) else [])


async def test_a_case_is_not_claimed_before_it_is_due(session: Session) -> None:
    await _due(session, "later", due_at=datetime.now(UTC) + MINUTE, state=State.BACKOFF)
    await _due(session, "never", due_at=None)
    assert await _claimed(session) == []


async def test_only_cases_of_a_workflow_that_this_replica_has_are_claimed(session: Session) -> None:
    for name in ("orders", "Orders", "orders2", "refunds"):
        await _due(session, name, workflow=name)
    await _due(session, "nobody", workflow=None)
    assert await _claimed(session, _taker(), _taker(name="refunds")) == ["orders", "refunds"]


async def test_who_has_no_workflow_claims_nothing(session: Session) -> None:
    await _due(session, "t1", version=None)
    assert await cases.claim(session, [], "us", 10) == []


@pytest.mark.parametrize("version", [None, "1", "2", "3"])
async def test_a_claim_accepts_the_versions_that_the_judge_accepts(session: Session, version: str | None) -> None:
    await _due(session, "t1", version=version)
    for own, accepted in product(("", "1", "2"), ((), ("1",), ("1", "3"))):
        taker = _taker(own, *accepted)
        assert (await _claimed(session, taker) == ["t1"]) == accepts(taker, version), taker
        await cases.release_claims(session, ["t1"], "us")


async def test_a_version_that_refused_the_head_is_not_handed_it_again_but_another_is(session: Session) -> None:
    await _due(session, "t1", version=None)
    await settle(session, replace(LOOK, version=None), AttemptOutcomeFields(refused_by="1"))
    assert await _claimed(session, _taker("1")) == []
    assert await _claimed(session, _taker("1"), _taker("2")) == ["t1"]


async def test_a_version_that_has_used_up_its_attempts_is_not_handed_the_case_but_another_is(session: Session) -> None:
    await _due(session, "t1", version=None)
    await settle(session, replace(LOOK, version=None), AttemptOutcomeFields(spent_by="1"))
    assert await _claimed(session, _taker("1")) == []
    assert await _claimed(session, _taker("1"), _taker("2")) == ["t1"]


async def test_a_version_that_accepts_several_claims_a_case_once(session: Session) -> None:
    await _due(session, "t1", version=None)
    assert await _claimed(session, _taker("1", "2", "3"), _taker("2", "1")) == ["t1"]


# Giving back, putting off


async def test_what_was_given_back_can_be_claimed_at_once(session: Session) -> None:
    await _due(session, "t1")
    await _due(session, "t2")
    await _claimed(session)
    await cases.release_claims(session, ["t1"], "us")
    assert await _claimed(session, claimant="them") == ["t1"]


async def test_nobody_gives_back_what_another_has_claimed(session: Session) -> None:
    await _due(session, "t1")
    await _claimed(session, claimant="them")
    await cases.release_claims(session, ["t1"], "us")
    assert await _claimed(session) == []


async def test_a_case_that_is_put_off_is_due_later_by_the_databases_clock_and_free(session: Session) -> None:
    await _due(session, "t1", due_at=NOW - timedelta(hours=5))
    await _claimed(session)
    before = datetime.now(UTC)
    await cases.postpone(session, "t1", timedelta(seconds=7.5))
    case = await _case(session)
    assert timedelta(seconds=7) < case.due_at - before < timedelta(seconds=20)
    assert (await _column(session, "claimed_by"), await _column(session, "claimed_until")) == (None, None)
    assert case.state is State.DUE
    assert await _claimed(session) == []
    await cases.postpone(session, "t1", timedelta(0))
    assert await _claimed(session) == ["t1"]


@pytest.mark.parametrize("state", sorted(set(State) - {State.DUE, State.BACKOFF}))
async def test_a_case_that_is_not_due_is_not_put_off(session: Session, state: State) -> None:
    placed = await _recorded(session, replace(LOOK, placement=CasePlacement(state)))
    await cases.postpone(session, "t1", MINUTE)
    assert await _case(session) == placed


# Under the lock


async def test_settling_writes_what_was_said_and_frees_the_claim(session: Session) -> None:
    await _due(session, "t1")
    await _claimed(session)
    placement = CasePlacement(State.QUARANTINED, NOW, NOW + MINUTE, "five in a row")
    said = replace(
        LOOK, head="head-2", fingerprint="rows-2", last_activity_at=NOW, judgement=WAITING, placement=placement
    )
    await settle(session, said)
    case = await _case(session)
    assert (case.verdict, case.reason, case.state) == (Verdict.WAITING, "a person is asked", State.QUARANTINED)
    assert (case.head, case.fingerprint, case.last_activity_at) == ("head-2", "rows-2", NOW)
    assert (case.due_at, case.next_look_at, case.quarantine_reason) == (NOW, NOW + MINUTE, "five in a row")
    assert (await _column(session, "claimed_by"), await _column(session, "claimed_until")) == (None, None)


async def test_settling_touches_no_other_case(session: Session) -> None:
    await _recorded(session)
    second = await _recorded(session, replace(LOOK, thread_id="t2"))
    await settle(session, replace(LOOK, judgement=WAITING))
    assert await _case(session, "t2") == second


async def test_settling_keeps_the_count_of_failures_unless_a_new_one_is_given(session: Session) -> None:
    await _recorded(session)
    await settle(session, LOOK, AttemptOutcomeFields(consecutive=2))
    await settle(session, LOOK)
    assert (await _case(session)).consecutive == 2
    await settle(session, LOOK, AttemptOutcomeFields(consecutive=0))
    assert (await _case(session)).consecutive == 0


async def test_each_version_that_refuses_a_head_is_named_once(session: Session) -> None:
    await _recorded(session)
    for version in ("1", "2", "1", "2"):
        await settle(session, LOOK, AttemptOutcomeFields(refused_by=version))
    assert sorted((await _case(session)).refused_by) == ["1", "2"]


@pytest.mark.parametrize("moved", [{"head": "head-2"}, {"fingerprint": "rows-2"}], ids=["head", "control rows"])
async def test_a_refusal_of_a_new_head_takes_the_place_of_those_of_the_old(
    session: Session, moved: dict[str, str]
) -> None:
    await _recorded(session)
    await settle(session, LOOK, AttemptOutcomeFields(refused_by="1"))
    await settle(session, replace(LOOK, **moved), AttemptOutcomeFields(refused_by="2"))
    assert (await _case(session)).refused_by == ("2",)


async def test_an_attempt_that_moved_the_head_takes_the_refusals_of_the_old_one_away(session: Session) -> None:
    await _recorded(session)
    await settle(session, LOOK, AttemptOutcomeFields(refused_by="1"))
    await settle(session, replace(LOOK, head="head-2"), AttemptOutcomeFields(own=True))
    case = await _case(session)
    assert (case.refused_by, case.refusal, case.refusal_reason) == ((), None, None)


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param({"head": "head-2"}, id="head"),
        pytest.param({"fingerprint": "rows-2"}, id="control rows"),
    ],
)
async def test_an_attempt_on_what_has_changed_unseen_takes_the_refusals_of_the_old_away(
    session: Session, moved: dict[str, str]
) -> None:
    await _recorded(session)
    await settle(session, LOOK, AttemptOutcomeFields(refused_by="1"))
    await begin(session, replace(LOOK, **moved))
    case = await _case(session)
    assert (case.refused_by, case.refusal, case.refusal_reason) == ((), None, None)


async def test_an_attempt_on_the_very_head_that_was_refused_leaves_the_refusal_on_record(session: Session) -> None:
    await _recorded(session)
    await settle(session, LOOK, AttemptOutcomeFields(refused_by="1"))
    await begin(session, LOOK)
    assert (await _case(session)).refused_by == ("1",)


async def test_each_version_that_has_used_up_its_attempts_is_named_once_whatever_the_head(session: Session) -> None:
    await _recorded(session)
    for version, head in (("1", "head-1"), ("2", "head-1"), ("1", "head-2")):
        await settle(session, replace(LOOK, head=head), AttemptOutcomeFields(spent_by=version))
    await settle(session, replace(LOOK, head="head-3"))
    assert sorted((await _case(session)).spent_by) == ["1", "2"]


async def test_a_head_that_an_attempt_left_was_first_seen_then(session: Session) -> None:
    await _recorded(session, now=NOW - 5 * MINUTE)
    await settle(session, LOOK)
    assert (await _case(session)).head_seen_at == NOW - 5 * MINUTE
    await settle(session, replace(LOOK, head="head-2"))
    case = await _case(session)
    assert case.first_seen_at == NOW - 5 * MINUTE
    assert case.head_seen_at > NOW - MINUTE


async def test_the_head_where_an_attempt_of_ours_left_off_is_kept_until_the_next(session: Session) -> None:
    await _recorded(session)
    await settle(session, replace(LOOK, head="head-2"), AttemptOutcomeFields(own=True))
    assert (await _case(session)).own_head == "head-2"
    await settle(session, replace(LOOK, head="head-3"))
    case = await _case(session)
    assert (case.head, case.own_head) == ("head-3", "head-2")


async def test_the_date_of_a_change_stays_with_its_head(session: Session) -> None:
    await _recorded(session)
    await _recorded(session, replace(LOOK, fingerprint="rows-2"), NOW + MINUTE)
    await settle(session, replace(LOOK, fingerprint="rows-2"))
    assert (await _case(session)).changed_at == NOW + MINUTE
    await settle(session, replace(LOOK, head="head-2"))
    assert (await _case(session)).changed_at is None


async def test_settling_a_thread_without_a_case_makes_none(session: Session) -> None:
    await settle(session, LOOK)
    assert await cases.of_threads(session, ["t1"]) == {}


async def test_beginning_counts_every_attempt_and_none_as_failed(session: Session) -> None:
    await _recorded(session)
    assert await begin(session, LOOK) == Tally(1, 0)
    await settle(session, LOOK, AttemptOutcomeFields(consecutive=1))
    assert await begin(session, LOOK) == Tally(2, 1)
    assert (await _case(session)).attempts == 2


async def test_beginning_marks_the_case_as_running_and_takes_it_off_every_list(session: Session) -> None:
    await _recorded(session, replace(LOOK, placement=CasePlacement(State.DUE, NOW - MINUTE, NOW - MINUTE)))
    await begin(session, replace(LOOK, head="head-2", fingerprint="rows-2"))
    case = await _case(session)
    assert (case.state, case.head, case.fingerprint) == (State.RUNNING, "head-2", "rows-2")
    assert (case.due_at, case.next_look_at) == (None, None)
    assert await _claimed(session) == []
    assert await cases.find_due_looks(session, NOW, 10) == []


async def test_beginning_on_a_thread_without_a_case_makes_one(session: Session) -> None:
    assert await begin(session, LOOK) == Tally(1, 0)
    case = await _case(session)
    assert (case.state, case.workflow, case.version, case.head) == (State.RUNNING, "orders", "1", "head-1")


async def test_an_attempt_that_is_rolled_back_was_never_counted(session: Session) -> None:
    before = await _recorded(session)
    async with session.transaction(force_rollback=True):
        await begin(session, LOOK)
    assert await _case(session) == before


# Suspects, fairness, pauses


async def test_suspects_are_claimed_only_by_who_wants_suspects(session: Session) -> None:
    await _due(session, "healthy")
    await _due(session, "suspicious")
    await settle(session, replace(LOOK, thread_id="suspicious"), AttemptOutcomeFields(suspect=True))
    await session.execute("update resumed.cases set state = 'due', due_at = now() - interval '1 minute'")
    assert await _claimed(session) == ["healthy"]
    assert [
        one.thread_id for one in await cases.claim(session, [ClaimRequest(_taker(), 9, suspects=True)], "us", 9)
    ] == ["suspicious"]


async def test_only_an_end_that_tells_something_clears_a_suspect(session: Session) -> None:
    await _due(session, "t1")
    for said, after in ((None, False), (True, True), (None, True), (False, False)):
        await settle(session, LOOK, AttemptOutcomeFields(suspect=said))
        assert (await _case(session)).suspect is after


async def test_a_suspect_whose_application_finished_it_is_none_when_it_stops_again(session: Session) -> None:
    await _due(session, "t1")
    await settle(session, LOOK, AttemptOutcomeFields(suspect=True))
    await _recorded(session, replace(LOOK, placement=CasePlacement(State.CLOSED)))
    assert (await _recorded(session, replace(LOOK, head="head-2"))).suspect is False


async def test_many_cases_of_one_workflow_do_not_starve_the_few_of_another(session: Session) -> None:
    for number in range(50):
        await _due(session, f"many-{number:02}", workflow="many", due_at=NOW - timedelta(hours=2) + number * MINUTE)
    for number in range(5):
        await _due(session, f"few-{number}", workflow="few", due_at=NOW - MINUTE)
    wanted = [ClaimRequest(_taker(name="many"), 100), ClaimRequest(_taker(name="few"), 100)]
    claimed = {one.thread_id for one in await cases.claim(session, wanted, "us", 8)}
    assert claimed == {*(f"few-{number}" for number in range(4)), *(f"many-{number:02}" for number in range(4))}
    rest = [one.thread_id for one in await cases.claim(session, wanted, "us", 4)]
    assert rest == ["many-04", "many-05", "many-06", "few-4"]


async def test_a_workflow_gets_no_more_than_it_has_room_for(session: Session) -> None:
    for name in ("many", "few"):
        for number in range(9):
            await _due(session, f"{name}-{number}", workflow=name)
    wanted = [ClaimRequest(_taker(name="many"), 2), ClaimRequest(_taker(name="few"), 100)]
    claimed = [one.workflow for one in await cases.claim(session, wanted, "us", 8)]
    assert (claimed.count("many"), claimed.count("few")) == (2, 6)


@pytest.mark.parametrize("paused", ["orders", ""])
async def test_nothing_is_claimed_of_a_workflow_that_is_paused(session: Session, paused: str) -> None:
    await _due(session, "t1")
    await session.execute("insert into resumed.pauses values (%s, true, 'me', 'why', now())", [paused])
    assert await _claimed(session) == []
    assert not await cases.is_any_due(session, [ClaimRequest(_taker(), 1)])
    await session.execute("update resumed.pauses set paused = false")
    assert await cases.is_any_due(session, [ClaimRequest(_taker(), 1)])
    assert await _claimed(session) == ["t1"]


async def test_nothing_is_claimed_that_a_person_cancelled(session: Session) -> None:
    await _due(session, "t1")
    await session.execute("update resumed.cases set cancelled_head = head")
    assert await _claimed(session) == []
    await session.execute("update resumed.cases set cancelled_head = 'an older head', cancel_pending = true")
    assert await _claimed(session) == []
    await session.execute("update resumed.cases set cancel_pending = false")
    assert await _claimed(session) == ["t1"]


async def test_whether_anything_of_the_kind_is_due_is_told_without_claiming(session: Session) -> None:
    await _due(session, "t1")
    await _due(session, "later", due_at=NOW + timedelta(days=9999))
    assert not await cases.is_any_due(session, [ClaimRequest(_taker(), 1, suspects=True)])
    assert not await cases.is_any_due(session, [ClaimRequest(_taker(), 1)], NOW - timedelta(days=1))
    assert await cases.is_any_due(session, [ClaimRequest(_taker(), 1)])
    assert await _claimed(session) == ["t1"]
    assert not await cases.is_any_due(session, [ClaimRequest(_taker(), 1)])
