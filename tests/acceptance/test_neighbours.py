"""Others are about: somebody moves a head, clocks disagree, replicas have different workflows."""

from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from resumed.judge.checkpoint_id import made_at
from support.bench import Bench, everything
from support.clocks import shifted
from support.daemon import Daemon
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

ROWS = "select checkpoint_id, checkpoint, metadata from checkpoints where thread_id = %(thread)s order by 1"


def run_again(bench: Bench, thread: str) -> list[dict[str, Any]]:
    """Give a thread a new input behind the daemon's back, as an application would; gives the rows that it saved."""
    everything()
    from zoo.app import compiled  # noqa: PLC0415 - the zoo is found only now

    before = {row["checkpoint_id"] for row in bench.rows(ROWS, thread=thread)}
    config: Any = {"configurable": {"thread_id": thread}, "metadata": {"workflow": "linear"}}
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        compiled("linear", saver).invoke({"seen": ["again"]}, config)
    return [row for row in bench.rows(ROWS, thread=thread) if row["checkpoint_id"] not in before]


def test_a_head_that_moves_under_an_attempt_is_superseded_and_the_others_rows_stay(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="3").until_ready()
    eventually(bench.open_attempts)
    others = run_again(bench, "linear_0")
    eventually(lambda: bench.all_closed(1))
    attempts = bench.rows("select outcome, charged, before, after from resumed.attempts order by attempt")
    assert [attempt["outcome"] for attempt in attempts] == ["superseded"]
    assert not attempts[0]["charged"]
    assert attempts[0]["after"] == others[-1]["checkpoint_id"]
    assert bench.rows(ROWS, thread="linear_0")[-len(others) :] == others
    assert "again" in final_state(bench.dsn, "linear_0")["seen"]
    assert [line["outcome"] for line in daemon.lines("attempt.finished")] == ["superseded"]
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_a_superseded_thread_that_is_left_unfinished_is_gone_on_with_and_not_for_ever(bench: Bench) -> None:
    bench.crashed_application(1, "linear", ends=1, ZOO_DELAY="0.3")
    daemon = bench.daemon(ZOO_DELAY="2").until_ready()
    eventually(bench.open_attempts)
    bench.crashed_application(1, "linear", ends=len(bench.effects("end")) + 2, ZOO_DELAY="0.1")
    eventually(lambda: bench.all_closed(1), deadline=90)
    outcomes = [row["outcome"] for row in bench.rows("select outcome from resumed.attempts order by attempt")]
    assert outcomes[0] == "superseded"
    assert outcomes[-1] == "finished"
    assert len(outcomes) <= 3
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_an_application_whose_clock_is_ahead_is_resumed_once_its_time_has_come(bench: Bench) -> None:
    bench.crashed_application(1, "linear", "alinear", ends=3, ZOO_DELAY="0.3", **shifted(3))
    ahead = made_at(bench.one("select max(checkpoint_id) from checkpoints"))
    assert ahead is not None
    assert ahead - bench.one("select clock_timestamp()") > timedelta(seconds=1)
    daemon = bench.daemon()
    eventually(lambda: bench.all_closed(2))
    for thread in ("linear_0", "alinear_0"):
        assert final_state(bench.dsn, thread) == undisturbed(thread.removesuffix("_0"))
        runs = [line["node"] for line in bench.effects("start") if line["thread"] == thread]
        assert all(runs.count(node) <= 2 for node in runs)
        assert {*runs} == {"a", "b", "c", "d"}
    assert {row["outcome"] for row in bench.rows("select outcome from resumed.attempts")} == {"finished"}
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_replicas_with_disjoint_registries_each_finish_their_own_and_condemn_nothing(bench: Bench) -> None:
    bench.crashed_application(5, "linear", "alinear", "fan", ends=12, ZOO_DELAY="0.3")
    first, second = bench.daemon(["linear"]), bench.daemon(["alinear"])
    eventually(lambda: bench.one("select count(*) from resumed.cases where state = 'closed'") >= 8)
    # A sweep that meets the lock of an attempt which has just closed its case opens it again, until its next look.
    left = "select distinct verdict, state, workflow, attempts from resumed.cases where state <> 'closed'"
    unclaimed = {"verdict": "unclaimed", "state": "held", "workflow": None, "attempts": 0}
    eventually(lambda: bench.rows(left) == [unclaimed])
    for daemon, workflow in ((first, "linear"), (second, "alinear")):
        assert {line["workflow"] for line in daemon.lines("attempt.started")} == {workflow}
    third = bench.daemon(["fan"])
    eventually(lambda: bench.all_closed(1))
    assert {line["workflow"] for line in third.lines("attempt.started")} == {"fan"}
    assert final_state(bench.dsn, "fan_0") == undisturbed("fan")
    assert [daemon.terminate() for daemon in (first, second, third)] == [0, 0, 0]


@pytest.mark.thorough
def test_a_thread_that_waits_for_a_person_is_never_touched(bench: Bench) -> None:
    waiting = bench.application(3, "asking", ZOO_DELAY="0.01")
    assert waiting.wait(30) == 0
    daemon = bench.daemon().until_ready()
    assert_held(bench, daemon, "waiting", 3)
    assert daemon.terminate() == 0


@pytest.mark.parametrize(
    "workflow",
    ["gated", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("gated_after", "gated_inside"))],
)
def test_a_breakpoint_of_a_graph_or_its_subgraph_is_never_passed(bench: Bench, workflow: str) -> None:
    waiting = bench.application(2, workflow, ZOO_DELAY="0.01")
    assert waiting.wait(30) == 0
    # The approved run takes no lock: on a busy machine it must not look dead.
    daemon = bench.daemon(RESUMED_MIN_AGE="10s").until_ready()
    assert_held(bench, daemon, "breakpoint", 2)
    approved = bench.application(2, workflow, ZOO_DELAY="0.01", ZOO_APPROVE="1")
    assert approved.wait(30) == 0
    eventually(lambda: bench.all_closed(2))
    assert not bench.rows("select from resumed.attempts")
    assert daemon.terminate() == 0


def test_a_breakpoint_that_the_daemon_itself_reaches_is_left_to_a_person(bench: Bench) -> None:
    bench.crashed_application(2, "gated", ends=2, ZOO_DELAY="0.3")
    daemon = bench.daemon().until_ready()
    eventually(lambda: len(bench.rows("select from resumed.cases where verdict = 'breakpoint'")) == 2)
    assert {row["outcome"] for row in bench.rows("select outcome from resumed.attempts")} == {"waiting"}
    assert {line["node"] for line in bench.effects("start")} == {"a", "b"}
    assert daemon.terminate() == 0


def assert_held(bench: Bench, daemon: Daemon, verdict: str, threads: int) -> None:
    """Ten sweeps leave every row of these threads as it was."""
    query = "select * from checkpoints order by thread_id, checkpoint_ns, checkpoint_id"
    rows, seen = bench.rows(query), f"select from resumed.cases where verdict = '{verdict}' and state = 'held'"
    eventually(lambda: len(bench.rows(seen)) == threads)
    before = daemon.sweeps()
    eventually(lambda: daemon.sweeps() >= before + 10)
    assert bench.rows(query) == rows
    assert not bench.rows("select from resumed.attempts")
