"""What LangGraph is shown of a head's pending writes: everything, apart from two documented changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.pending_writes import PendingWrite, sanitise_writes
from resumed.judge.verdict import ERROR, ERROR_SOURCE, INTERRUPT, NULL_TASK, RESUME
from unit.judge.builders import OTHER_TASK, TASK

CHANNELS = (ERROR, ERROR_SOURCE, INTERRUPT, RESUME, "__scheduled__", "__no_writes__", "branch:to:pay", "messages")
CONTROL = (ERROR, ERROR_SOURCE, INTERRUPT, RESUME, "__scheduled__")
THIRD_TASK = "0a1b2c3d-0b1d-5a43-9c7e-000000000003"
WRITES = st.lists(
    st.tuples(st.sampled_from((NULL_TASK, TASK, OTHER_TASK, THIRD_TASK)), st.sampled_from(CHANNELS), st.integers()).map(
        lambda write: (write[0], write[1], [write[2]])
    )
)


def failed(writes: list[PendingWrite]) -> set[str]:
    """Name the tasks that raised and whose error no handler took."""
    raised = {task for task, channel, _ in writes if channel == ERROR}
    return {task for task in raised if (task, ERROR_SOURCE) not in {(one[0], one[1]) for one in writes}}


def shown(writes: list[PendingWrite]) -> list[PendingWrite]:
    """Leave out the one kind of row that may be left out."""
    return [one for one in writes if (one[0], one[1]) != (NULL_TASK, RESUME)]


def test_the_answer_on_the_null_task_is_left_out() -> None:
    writes = [(NULL_TASK, RESUME, "yes"), (TASK, INTERRUPT, "sure?")]
    assert sanitise_writes(writes) == [(TASK, INTERRUPT, "sure?")]


def test_an_answer_that_a_task_holds_itself_stays() -> None:
    writes = [(TASK, INTERRUPT, "sure?"), (TASK, RESUME, ["yes"])]
    assert sanitise_writes(writes) == writes


@pytest.mark.parametrize("channel", ["branch:to:pay", "messages", "__pregel_tasks"])
def test_other_rows_of_the_null_task_stay(channel: str) -> None:
    writes = [(NULL_TASK, channel, None), (NULL_TASK, RESUME, "yes")]
    assert sanitise_writes(writes) == [(NULL_TASK, channel, None)]


def test_a_task_whose_router_raised_keeps_no_row_by_which_it_would_be_taken_for_done() -> None:
    writes = [(TASK, "messages", "hello"), (TASK, ERROR, "boom"), (OTHER_TASK, "messages", "there")]
    (task, channel, value), error, sibling = sanitise_writes(writes)
    assert task not in {TASK, OTHER_TASK, NULL_TASK}
    assert (channel, value) == ("messages", "hello")
    assert [error, sibling] == writes[1:]


def test_the_order_in_which_error_and_writes_were_saved_does_not_matter() -> None:
    writes = [(TASK, ERROR, "boom"), (TASK, "messages", "hello")]
    assert [task == TASK for task, _, _ in sanitise_writes(writes)] == [True, False]


def test_rows_of_two_failed_tasks_are_not_mixed_up() -> None:
    writes = [(task, channel, 1) for task in (TASK, OTHER_TASK) for channel in (ERROR, "messages")]
    rekeyed = {task for task, channel, _ in sanitise_writes(writes) if channel == "messages"}
    assert len(rekeyed) == 2


def test_a_task_whose_error_was_handled_is_done() -> None:
    writes = [(TASK, "messages", "hello"), (TASK, ERROR, "boom"), (TASK, ERROR_SOURCE, "pay")]
    assert sanitise_writes(writes) == writes


def test_an_error_that_one_task_handled_does_not_excuse_another() -> None:
    writes = [(TASK, ERROR_SOURCE, "pay"), (OTHER_TASK, ERROR, "boom"), (OTHER_TASK, "messages", "hello")]
    assert sanitise_writes(writes)[2][0] != OTHER_TASK


@pytest.mark.parametrize("channel", CONTROL)
def test_a_control_row_stays_with_its_failed_task(channel: str) -> None:
    writes = [(TASK, ERROR, "boom"), (TASK, channel, "value")]
    assert sanitise_writes(writes) == writes


def test_nothing_makes_nothing() -> None:
    assert sanitise_writes([]) == []


@given(WRITES)
def test_no_row_is_lost_changed_or_moved_but_the_null_answer(writes: list[PendingWrite]) -> None:
    before = shown(writes)
    after = sanitise_writes(writes)
    assert [channel for _, channel, _ in after] == [channel for _, channel, _ in before]
    assert all(one[2] is other[2] for one, other in zip(after, before, strict=True))


@given(WRITES)
def test_a_row_gets_another_task_exactly_when_its_own_failed_and_it_is_ordinary(writes: list[PendingWrite]) -> None:
    broken = failed(writes)
    for (task, channel, _), (was, _, _) in zip(sanitise_writes(writes), shown(writes), strict=True):
        assert (task != was) == (was in broken and channel not in CONTROL)
        assert task == was or (task not in {NULL_TASK, TASK, OTHER_TASK, THIRD_TASK} and len(task) == len(was))


@given(WRITES)
def test_the_rows_that_were_given_stay_as_they_are(writes: list[PendingWrite]) -> None:
    copy = list(writes)
    sanitise_writes(writes)
    assert writes == copy
