"""Which answer goes to which question: the rules that were measured, one by one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.interrupts import InterruptRow, OpenAnswer, match_answers
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict

ROOT, OTHER, CHILD = ("", "c1", "task-1"), ("", "c1", "task-3"), ("inner:1", "c2", "task-2")
CALLED_FIRST, CALLED_NEXT = ("", "c1", "task-4"), ("", "c1", "task-5")
NULL = ("", "c1", NULL_TASK)
CALL, ENTRY, SENT = "~__pregel_push", "~__pregel_pull, entry", "~__pregel_push, 0000000000"


def asks(*ids: str, task: tuple[str, str, str] = ROOT, **more: Any) -> InterruptRow:
    return InterruptRow(**{"task": task, "channel": INTERRUPT, "order": 1, "ids": ids or ("q1",), **more})


def took(*values: object, task: tuple[str, str, str] = ROOT, **more: Any) -> InterruptRow:
    return InterruptRow(**{"task": task, "channel": RESUME, "order": 3, "values": values, **more})


def gave(value: object, order: int = 2) -> InterruptRow:
    return InterruptRow(task=NULL, channel=RESUME, order=order, values=(value,))


def waits(*rows: InterruptRow) -> bool:
    said = match_answers(rows)
    return isinstance(said, Judgement) and said.verdict is Verdict.WAITING


def test_without_a_question_there_is_nothing_to_settle() -> None:
    assert match_answers([]) is None
    assert match_answers([gave("x1")]) is None


def test_a_question_without_an_answer_waits() -> None:
    assert waits(asks())


def test_an_open_answer_goes_to_its_question_by_id() -> None:
    assert match_answers([asks("q1"), gave("x1")]) == OpenAnswer("q1", "x1")


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_an_answer_may_be_anything(value: object) -> None:
    assert match_answers([asks("q1"), gave(value)]) == OpenAnswer("q1", value)


def test_an_answer_that_was_taken_before_the_next_question_answers_nothing() -> None:
    assert waits(asks("q2", order=4), gave("x1"), took("x1"))


def test_an_answer_that_a_subgraphs_node_took_answers_nothing_at_the_root() -> None:
    assert waits(asks("q2", order=1), gave("x1"), took("x1", task=CHILD))


def test_a_question_that_was_asked_after_the_answer_came_proves_that_it_was_taken() -> None:
    assert waits(asks("q2", order=3), gave("x1"))


def test_a_question_that_overtook_the_record_of_who_took_the_answer_before_leaves_that_answer_in_doubt() -> None:
    calls = "~__pregel_push, ~__pregel_pull, entry, 0"
    rows = [
        asks("q1", task=CALLED_FIRST, path=f"{calls}1"), asks("q1", order=2, path=ENTRY), gave("x1", order=3),
        asks("q2", task=CALLED_NEXT, order=4, path=f"{calls}2"),
    ]  # fmt: skip
    said = match_answers(rows)
    assert isinstance(said, Judgement)
    assert said.verdict is Verdict.WAITING
    assert said.reason == "there is an answer, but its order is unknown: answer again"


def test_output_of_a_task_that_had_asked_proves_that_it_took_the_answer() -> None:
    assert waits(asks("q1", output_order=3), gave("x1"), asks("q2", task=OTHER))


def test_the_error_of_a_task_proves_nothing() -> None:
    assert match_answers([asks("q1", failed=True), gave("x1")]) == OpenAnswer("q1", "x1")


def test_old_output_beside_an_error_does_not_answer() -> None:
    assert match_answers([asks("q1", output_order=1, failed=True), gave("x1")]) == OpenAnswer("q1", "x1")


@pytest.mark.parametrize("order", [2])
def test_rows_of_one_transaction_have_no_order_and_wait(order: int) -> None:
    assert waits(asks(order=order), gave("x1", order=order))
    assert waits(asks("q2", order=1), gave("x1"), took("x1", task=CHILD, order=order))


def test_a_value_that_a_task_took_last_is_not_believed_twice() -> None:
    assert waits(asks("q2", order=1), took("x1", task=CHILD, order=0), gave("x1"))
    assert match_answers([asks("q2", order=1), took("x0", task=CHILD, order=0), gave("x1")]) == OpenAnswer("q2", "x1")


def test_values_that_cannot_be_compared_may_be_the_same() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    assert waits(asks("q2"), took(Odd(), task=CHILD, order=0), gave("x1"))


def test_one_answer_for_two_questions_waits() -> None:
    assert waits(asks("q1", "q2"), gave("x1"))
    assert waits(asks("q1"), asks("q2", task=CHILD), gave("x1"))


def test_an_answer_that_was_saved_late_is_not_given_to_the_next_question() -> None:
    """A task with two questions records the answer to its last one nowhere; the slow saver stored that answer last."""
    first = asks("q2", order=2, output_order=5), took("x1", order=2)
    assert waits(*first, asks("q3", task=OTHER, order=6), gave("x2", order=7))


def test_an_answer_is_not_doubted_for_a_task_that_recorded_its_own() -> None:
    first = asks("q1", order=2, output_order=5), took("x1", order=5)
    assert match_answers([*first, asks("q3", task=CHILD, order=6), gave("x3", order=7)]) == OpenAnswer("q3", "x3")


def test_an_answer_is_not_doubted_for_a_subgraphs_node_that_its_parent_repeats() -> None:
    inner = asks("q1", task=CHILD, order=2, output_order=5), took("x1", task=CHILD, order=5)
    outer = asks("q1", order=3, output_order=6)
    other = asks("q3", task=("", "c1", "task-3"), order=7)
    assert match_answers([*inner, outer, other, gave("x3", order=8)]) == OpenAnswer("q3", "x3")


def test_an_answer_that_came_after_a_restore_is_not_doubted_for_what_was_restored() -> None:
    first = asks("q2", order=2, output_order=2), took("x1", order=2)
    assert match_answers([*first, asks("q3", task=CHILD, order=2), gave("x3", order=7)]) == OpenAnswer("q3", "x3")


def test_a_question_that_its_subgraph_has_left_behind_is_answered() -> None:
    inner, outer = asks("q1", task=CHILD, left_behind=True), asks("q1", task=ROOT)
    assert match_answers([inner, outer]) is None
    assert match_answers([inner, outer, gave("x1")]) is None


def test_the_answer_that_a_subgraph_left_behind_may_be_the_one_that_was_saved_late() -> None:
    assert waits(asks("q1", task=CHILD, left_behind=True), asks("q2", task=ROOT, order=6), gave("x1", order=7))


def test_an_answer_by_id_that_its_task_took_ends_the_waiting() -> None:
    assert match_answers([asks("q1"), took("x1")]) is None


def test_an_answer_that_a_task_took_before_it_asked_again_does_not() -> None:
    assert waits(asks("q2", order=4), took("x1", order=3))


def test_a_question_that_an_entrypoint_repeats_is_answered_with_its_tasks() -> None:
    inner, outer = asks("q1", task=CHILD), asks("q1", task=ROOT)
    assert match_answers([inner, outer, took("x1", task=CHILD)]) is None
    assert match_answers([replace(inner, output_order=5), outer]) is None


def test_a_finished_task_asks_no_more_and_the_other_still_does() -> None:
    assert waits(asks("q1", output_order=5), asks("q2", task=OTHER))


@pytest.mark.parametrize(
    "unseen", [{"task": CHILD}, {"task": OTHER, "path": f"{CALL}, ~__pregel_pull, other, 0000000000, 0000000001"}]
)
def test_a_question_that_has_not_reached_the_root_is_asked_again(unseen: dict[str, Any]) -> None:
    assert match_answers([asks("q2", **unseen)]) is None
    assert (
        match_answers([asks("q1"), took("x1"), asks("q2", **unseen)]) is None
    )  # the root still repeats the one before
    assert waits(asks("q1"), asks("q2", **unseen))
    assert waits(asks("q2"), asks("q2", **unseen))


def test_what_the_root_repeats_is_overtaken_once_its_subgraph_has_asked_something_else() -> None:
    below = ("inner:task-1|deeper:task-9", "c2", "task-2")
    assert (
        match_answers([asks("q1", order=1), asks("q2", task=below, order=4), took("x1", task=below, order=4)]) is None
    )
    assert match_answers([asks("q1", order=1), gave("x1", order=2), asks("q2", task=below, order=3)]) is None
    assert waits(asks("q1", order=5), asks("q2", task=below, order=4))
    assert waits(asks("q1", order=1), asks("q1", task=below, order=1), asks("q2", task=(*below[:2], "task-4"), order=4))
    assert waits(asks("q1", order=1), asks("q2", task=("inner:task-8", "c2", "task-2"), order=4))


@pytest.mark.parametrize("caller", [ENTRY, SENT])
@pytest.mark.parametrize(
    "call", ["{}, {}, 0000000000, 0000000001", "{0}, {0}, {1}, 0000000000, 0000000001, 0000000003"]
)
def test_what_the_root_repeats_is_overtaken_once_a_task_that_it_called_has_asked_something_else(
    caller: str, call: str
) -> None:
    """As a subgraph's, but the called task's rows are among the root's: its path holds that of its caller."""
    path = call.format(CALL, caller)
    outer = asks("q1", order=1, path=caller)
    assert match_answers([outer, took("x1", task=OTHER, path=path), asks("q2", task=OTHER, order=3, path=path)]) is None
    assert match_answers([outer, gave("x1"), asks("q2", task=OTHER, order=3, path=path)]) is None
    assert waits(replace(outer, ids=("q2",), order=4), asks("q2", task=OTHER, order=3, path=path))
    assert waits(replace(outer, path=f"{caller}_other"), asks("q2", task=OTHER, order=3, path=path))
    assert waits(replace(outer, order=4), asks("q2", task=OTHER, order=3, path=path))
    assert waits(outer, asks("q2", task=OTHER, order=3, path=path))  # nobody has answered: both ask, side by side


def test_after_a_restore_a_question_that_its_subgraph_does_not_ask_any_more_is_overtaken_too() -> None:
    """All rows have one order, but the rows below hold only what is asked there now."""
    below = ("inner:task-1", "c2", "task-2")
    assert (
        match_answers([asks("q1", order=2), took("x1", task=below, order=2), asks("q2", task=below, order=2)]) is None
    )
    assert waits(asks("q1", order=2), asks("q2", task=below, order=2, output_order=2))  # it has ended: the node asks


@pytest.mark.parametrize("order", [0, 1, 2])
def test_an_answer_that_is_never_loaded_does_not_keep_an_unseen_question_from_being_asked(order: int) -> None:
    """Only one that is open goes with it; an application that resumes with a saver of its own would load any."""
    rows = [asks("q2", task=CHILD, order=1), gave("x1", order=order)]
    assert match_answers(rows) == (OpenAnswer("q2", "x1") if order > 1 else None)
    assert isinstance(match_answers(rows, plainly=True), OpenAnswer if order > 1 else Judgement)


ROWS = st.lists(
    st.builds(
        InterruptRow,
        task=st.sampled_from((ROOT, CHILD, ("", "c1", "task-3"))),
        channel=st.sampled_from((INTERRUPT, RESUME)),
        order=st.integers(0, 6),
        ids=st.lists(st.sampled_from(("q1", "q2", "q3")), min_size=1, max_size=2).map(tuple),
        values=st.lists(st.sampled_from(("x1", "x2", "x3")), min_size=1, max_size=2).map(tuple),
        output_order=st.none() | st.integers(0, 6),
        failed=st.booleans(),
    ),
    max_size=6,
)


@given(ROWS, st.integers(0, 6), st.sampled_from(("x1", "x2", "x9")))
def test_an_answer_is_given_only_once_to_the_only_question_and_only_if_newer_than_everything(
    rows: list[InterruptRow], order: int, value: str
) -> None:
    said = match_answers([*rows, gave(value, order)])
    if isinstance(said, OpenAnswer):
        assert said.value == value
        assert all(row.order < order for row in rows)
        assert any(said.question in row.ids for row in rows if row.channel == INTERRUPT)


@given(ROWS)
def test_without_the_null_row_nothing_is_ever_given(rows: list[InterruptRow]) -> None:
    assert not isinstance(match_answers(rows), OpenAnswer)
