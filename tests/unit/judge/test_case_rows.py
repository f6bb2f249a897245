"""What a case becomes by a look, by an attempt and by a person's request: the whole row, as the store writes it."""

from dataclasses import replace

import pytest

from resumed.judge.case import (
    AttemptOutcomeFields,
    CasePlacement,
    CaseUpdate,
    begin_case,
    make_case_due,
    record_look,
    settle_case,
)
from resumed.model import Case, Judgement, State, Verdict
from unit.judge.builders import HEAD, NOW, QUIET_AT, SECOND, case

STOPPED = Judgement(Verdict.STOPPED, "work waits")
WAITING = Judgement(Verdict.WAITING, "a person is asked")
DUE = CasePlacement(State.DUE, NOW - SECOND)
CLOSED = CasePlacement(State.CLOSED)
QUARANTINED = CasePlacement(State.QUARANTINED, None, NOW + SECOND, "five in a row")
ROWS = "rows-1"
UPDATE = CaseUpdate("orders_1", "orders", "1", HEAD, ROWS, QUIET_AT, STOPPED, DUE)
MOVED = [
    pytest.param({"head": "head-2"}, id="head"),
    pytest.param({"fingerprint": "rows-2"}, id="control rows"),
    pytest.param({"fingerprint": f"{ROWS}+more"}, id="other rows"),
]


def known(**changes: object) -> Case:
    return case(**{"fingerprint": ROWS, "revision": 7, "head_seen_at": QUIET_AT, **changes})


def refused(**changes: object) -> Case:
    return known(refused_by=("1",), refusal=Verdict.EDITED, refusal_reason="edited", **changes)


def update(**changes: object) -> CaseUpdate:
    return replace(UPDATE, **changes)


def each_write(before: Case, found: CaseUpdate) -> list[Case]:
    written = [
        record_look(before, found, NOW),
        settle_case(before, found, AttemptOutcomeFields(), NOW),
        begin_case(before, found, NOW),
        make_case_due(before, found, NOW, pinned=False),
    ]
    assert None not in written
    return [one for one in written if one is not None]


# All of them


def test_every_write_counts_the_revision_up_and_keeps_what_the_thread_is() -> None:
    before = known(attempts=3, own_head="head-0", cancelled_head="head-0")
    for after in each_write(before, update(judgement=WAITING)):
        assert after.revision == 8
        assert (after.verdict, after.reason) == (Verdict.WAITING, "a person is asked")
        assert (after.thread_id, after.first_seen_at) == (before.thread_id, before.first_seen_at)
        assert (after.own_head, after.cancelled_head) == ("head-0", "head-0")


@pytest.mark.parametrize("moved", MOVED)
def test_what_a_preflight_said_counts_for_exactly_what_it_saw(moved: dict[str, str]) -> None:
    for write in (
        lambda before, found: record_look(before, found, NOW),
        lambda before, found: settle_case(before, found, AttemptOutcomeFields(), NOW),
        lambda before, found: begin_case(before, found, NOW),
    ):
        same, other = write(refused(), update()), write(refused(), update(**moved))
        assert (same.refused_by, same.refusal, same.refusal_reason) == (("1",), Verdict.EDITED, "edited")
        assert (other.refused_by, other.refusal, other.refusal_reason) == ((), None, None)


@pytest.mark.parametrize("look", [True, False], ids=["a look", "an attempt"])
def test_a_change_of_the_control_rows_of_a_known_head_is_dated(*, look: bool) -> None:
    def write(before: Case, found: CaseUpdate) -> Case:
        return record_look(before, found, NOW) if look else settle_case(before, found, AttemptOutcomeFields(), NOW)

    before = known(changed_at=QUIET_AT)
    assert write(before, update()).changed_at == QUIET_AT
    assert write(before, update(fingerprint=f"{ROWS}+more")).changed_at == QUIET_AT
    assert write(before, update(fingerprint="rows-2")).changed_at == NOW
    moved = write(before, update(head="head-2"))
    assert (moved.changed_at, moved.head_seen_at) == (None, NOW)
    assert write(before, update()).head_seen_at == QUIET_AT


# A look


def test_a_first_look_makes_a_case_of_what_it_saw() -> None:
    made = record_look(None, update(placement=QUARANTINED), NOW)
    assert (made.state, made.next_look_at, made.quarantine_reason) == (State.QUARANTINED, NOW + SECOND, "five in a row")
    assert (made.first_seen_at, made.head_seen_at, made.changed_at) == (NOW, NOW, None)
    assert (made.attempts, made.consecutive, made.revision) == (0, 0, 1)


def test_a_look_keeps_the_count_of_charged_attempts_with_the_head() -> None:
    before = known(attempts=4, consecutive=3)
    assert record_look(before, update(fingerprint="rows-2"), NOW).consecutive == 3
    moved = record_look(before, update(head="head-2"), NOW)
    assert (moved.attempts, moved.consecutive) == (4, 0)


def test_a_case_that_leaves_quarantine_has_its_charged_attempts_again() -> None:
    before = known(state=State.QUARANTINED, consecutive=5, spent_by=("1",))
    assert record_look(before, update(placement=QUARANTINED), NOW).consecutive == 5
    left = record_look(before, update(), NOW)
    assert (left.consecutive, left.spent_by) == (0, ("1",))


def test_a_closed_case_starts_again_without_its_history() -> None:
    before = known(
        state=State.CLOSED, attempts=9, consecutive=3, spent_by=("1",), pinned=True, suspect=True, own_head=HEAD
    )
    after = record_look(before, update(), NOW)
    assert (after.first_seen_at, after.attempts, after.consecutive, after.spent_by) == (NOW, 0, 0, ())
    assert (after.pinned, after.suspect, after.own_head) == (False, False, HEAD)


def test_a_look_leaves_what_a_person_has_said() -> None:
    before = known(pinned=True, cancel_pending=True, suspect=True)
    after = record_look(before, update(), NOW)
    assert (after.pinned, after.cancel_pending, after.suspect) == (True, True, True)


# Under the lock


def test_an_attempt_that_says_nothing_of_them_leaves_counts_and_marks_as_they_are() -> None:
    before = known(consecutive=2, spent_by=("1",), suspect=True, own_head="head-0", workflow="orders", version="0")
    after = settle_case(before, update(version="1"), AttemptOutcomeFields(), NOW)
    assert (after.consecutive, after.spent_by, after.suspect, after.own_head) == (2, ("1",), True, "head-0")
    assert (after.workflow, after.version) == ("orders", "0")
    assert (after.state, after.due_at, after.last_activity_at) == (State.DUE, NOW - SECOND, QUIET_AT)


def test_an_attempt_that_says_so_changes_them() -> None:
    fields = AttemptOutcomeFields(consecutive=0, spent_by="1", own=True, suspect=False)
    after = settle_case(known(consecutive=2, suspect=True, spent_by=("1", "0")), update(head="head-2"), fields, NOW)
    assert (after.consecutive, after.spent_by, after.own_head, after.suspect) == (0, ("0", "1"), "head-2", False)


def test_each_version_that_refuses_a_head_is_named_once_with_what_the_last_one_said() -> None:
    after = refused()
    for version in ("2", "1", "2"):
        after = settle_case(after, update(judgement=WAITING), AttemptOutcomeFields(refused_by=version), NOW)
    assert (after.refused_by, after.refusal, after.refusal_reason) == (("1", "2"), Verdict.WAITING, WAITING.reason)
    moved = settle_case(after, update(head="head-2"), AttemptOutcomeFields(refused_by="3"), NOW)
    assert (moved.refused_by, moved.refusal) == (("3",), Verdict.STOPPED)


def test_where_the_attempt_of_a_cancelled_case_stopped_is_its_cancelled_head() -> None:
    after = settle_case(known(cancel_pending=True), update(head="head-2"), AttemptOutcomeFields(), NOW)
    assert (after.verdict, after.state, after.cancelled_head) == (Verdict.CANCELLED, State.HELD, "head-2")
    assert (after.cancel_pending, after.due_at, after.next_look_at) == (False, None, NOW)


def test_a_case_that_a_person_put_into_quarantine_stays_there_with_the_persons_reason() -> None:
    before = known(pinned=True, quarantine_reason="mine")
    after = settle_case(before, update(), AttemptOutcomeFields(), NOW)
    assert (after.state, after.quarantine_reason, after.pinned) == (State.QUARANTINED, "mine", True)
    assert (after.verdict, after.due_at, after.next_look_at) == (Verdict.STOPPED, None, NOW)
    both = settle_case(replace(before, cancel_pending=True), update(), AttemptOutcomeFields(), NOW)
    assert (both.state, both.verdict, both.cancelled_head) == (State.QUARANTINED, Verdict.CANCELLED, HEAD)


@pytest.mark.parametrize("changes", [{"pinned": True}, {"cancel_pending": True}])
def test_a_thread_that_has_finished_is_closed_whatever_a_person_wanted(changes: dict[str, bool]) -> None:
    after = settle_case(known(**changes), update(placement=CLOSED), AttemptOutcomeFields(), NOW)
    assert (after.state, after.cancelled_head, after.next_look_at) == (State.CLOSED, None, None)
    assert not after.cancel_pending


# Beginning, and a person's request


def test_beginning_counts_the_attempt_and_takes_the_case_off_every_list() -> None:
    before = known(attempts=2, consecutive=1, next_look_at=NOW, changed_at=QUIET_AT)
    after = begin_case(before, update(head="head-2", last_activity_at=NOW), NOW)
    assert after is not None
    assert (after.state, after.attempts, after.consecutive, after.head) == (State.RUNNING, 3, 1, "head-2")
    assert (after.due_at, after.next_look_at) == (None, None)
    assert (after.last_activity_at, after.changed_at) == (before.last_activity_at, QUIET_AT)


def test_beginning_on_a_thread_without_a_case_makes_one() -> None:
    made = begin_case(None, update(), NOW)
    assert made is not None
    assert (made.state, made.attempts, made.consecutive, made.revision) == (State.RUNNING, 1, 0, 1)
    assert (made.due_at, made.first_seen_at) == (None, NOW)


@pytest.mark.parametrize("forbidden", [{"pinned": True}, {"cancel_pending": True}, {"cancelled_head": HEAD}])
def test_nothing_begins_on_what_a_person_has_forbidden(forbidden: dict[str, object]) -> None:
    assert begin_case(known(**forbidden), update(), NOW) is None
    assert make_case_due(known(**forbidden), update(), NOW, pinned=False) is None
    assert (make_case_due(known(**forbidden), update(), NOW, pinned=True) is not None) is ("pinned" in forbidden)
    assert begin_case(known(cancelled_head="head-0"), update(), NOW) is not None


def test_a_person_who_asks_gives_all_attempts_back() -> None:
    before = refused(
        state=State.QUARANTINED,
        attempts=9,
        consecutive=5,
        spent_by=("1",),
        pinned=True,
        suspect=True,
        quarantine_reason="mine",
        next_look_at=NOW,
    )
    after = make_case_due(before, update(), NOW, pinned=True)
    assert after is not None
    assert (after.state, after.due_at, after.next_look_at, after.quarantine_reason) == (State.DUE, NOW, None, None)
    assert (after.consecutive, after.spent_by, after.refused_by, after.refusal) == (0, (), (), None)
    assert (after.pinned, after.suspect, after.attempts) == (False, False, 9)
    made = make_case_due(None, update(placement=QUARANTINED), NOW, pinned=False)
    assert made is not None
    assert (made.state, made.due_at, made.next_look_at, made.quarantine_reason) == (State.DUE, NOW, None, None)
