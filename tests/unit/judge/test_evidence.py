"""The lines that let a person check a verdict: channels, tasks and rows with their order."""

from dataclasses import replace

import pytest

from resumed.judge.evidence import evidence
from resumed.judge.verdict import ERROR, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict
from unit.judge.builders import HEAD, NOW, OTHER_TASK, QUIET_AT, SECOND, TASK, answer, id_at, question, row, snapshot

STOPPED = Judgement(Verdict.STOPPED, "a reason")
NO_ROW = "no row of the head, or of a subgraph since, holds an error, a question or an answer"


def test_a_stopped_thread_shows_its_head_the_channel_with_work_and_that_no_row_tells_more() -> None:
    assert evidence(snapshot(), STOPPED) == (
        f"the head is {HEAD}, written by loop",
        "work waits in branch:to:pay: node pay",
        NO_ROW,
    )


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ("__start__", "work waits in __start__: the input"),
        ("__pregel_tasks", "work waits in __pregel_tasks: what was sent to nodes"),
        ("join:left+right:last", "work waits in join:left+right:last: node last"),
        ("tick", "work waits in tick: a trigger of the workflow's own"),
    ],
)
def test_every_kind_of_trigger_is_named(channel: str, said: str) -> None:
    assert said in evidence(snapshot(updated_channels=("other", channel)), STOPPED, ["tick"])


def test_work_that_only_a_row_of_the_null_task_holds_is_told_with_that_row() -> None:
    given = row(task_id=NULL_TASK, channel="branch:to:pay", task_path="")
    lines = evidence(snapshot(given, updated_channels=(), null_channels=("branch:to:pay",)), STOPPED)
    assert "work waits in branch:to:pay: node pay, by a row of the null task" in lines
    assert lines[-1] == f"order 1: branch:to:pay of the null task, in the root, on {HEAD}"


def test_a_finished_thread_shows_which_channels_start_nothing() -> None:
    finished = Judgement(Verdict.FINISHED, "a reason")
    assert "none of the head's updated channels starts a node: messages, seen" in evidence(
        snapshot(updated_channels=("messages", "seen")), finished
    )
    assert "none of the head's updated channels starts a node: there are none" in evidence(
        snapshot(updated_channels=()), finished
    )


def test_a_null_in_updated_channels_is_not_taken_for_an_answer() -> None:
    lines = evidence(snapshot(updated_channels=None, source="update"), STOPPED)
    assert lines[0] == f"the head is {HEAD}, written by update"
    assert lines[1] == "updated_channels of the head is null: only the graph can tell what is left"


def test_a_thread_that_may_still_run_shows_until_when_and_the_youngest_checkpoint() -> None:
    newest = id_at(QUIET_AT + SECOND)
    lines = evidence(snapshot(newest_id=newest), Judgement(Verdict.RUNNING, "a reason", NOW))
    assert f"the newest checkpoint is {newest}, of a subgraph" in lines
    assert f"it has been quiet for long enough at {NOW.isoformat()}" in lines


def test_rows_stand_in_the_order_of_their_transactions_and_share_a_rank_within_one() -> None:
    child = id_at(QUIET_AT + SECOND)
    asked = question(order=-90, output_order=-20, task_path="~__pregel_pull, ask")
    inner = question(
        order=-95, checkpoint_ns="inner:1", checkpoint_id=child, task_id=OTHER_TASK, task_path="~__pregel_pull, x"
    )
    taken = row(channel=RESUME, order=-20, task_path="~__pregel_pull, ask")
    assert evidence(snapshot(answer(order=-40), taken, asked, inner), STOPPED)[2:] == (
        f"order 1: __interrupt__ of task {OTHER_TASK} (node x), in namespace inner:1, on {child}",
        f"order 2: __interrupt__ of task {TASK} (node ask), in the root, on {HEAD}; the task's own writes: order 4",
        f"order 3: __resume__ of the null task, in the root, on {HEAD}",
        f"order 4: __resume__ of task {TASK} (node ask), in the root, on {HEAD}",
    )


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("~__pregel_pull, pay", " (node pay)"),
        ("~__pregel_push, 0000000012, 0000000003", " (sent, number 12)"),
        ("~__pregel_push, 0000000000, 0000000003", " (sent, number 0)"),
        ("~__pregel_push, ~__pregel_pull, flow, 0000000000, 0000000001", " (called by flow)"),
        ("", ""),
        ("something else", ""),
    ],
)
def test_a_task_is_named_as_far_as_its_path_knows(path: str, said: str) -> None:
    assert f"of task {TASK}{said}, in the root" in evidence(snapshot(row(task_path=path)), STOPPED)[-1]


def test_a_bare_cancelling_is_told_apart_from_an_error() -> None:
    assert evidence(snapshot(row(cancelled=True)), STOPPED)[-1].endswith(", a bare CancelledError")
    assert "Cancelled" not in evidence(snapshot(row(channel=ERROR)), STOPPED)[-1]


def test_names_without_end_and_rows_without_number_are_cut() -> None:
    long = "branch:to:" + "x" * 10_000
    rows = [row(order=number, task_id=f"{number:036}", task_path=f"~__pregel_pull, {long}") for number in range(1000)]
    lines = evidence(
        replace(snapshot(*rows, updated_channels=(long, *(f"branch:to:{number}" for number in range(1000))))), STOPPED
    )
    assert len(lines) < 70
    assert max(map(len, lines)) < 600
    assert "and 991 more channels with work" in lines
    assert lines[-1] == "and 950 more rows"
    assert "and 990 more" in evidence(snapshot(updated_channels=tuple(map(str, range(1000)))), STOPPED)[1]
