"""Questions: nobody but a person answers them, an answer goes to its question, an answered thread is finished once."""

import asyncio
import json
from typing import Any

import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Command

from resumed.judge.verdict import CALLED_TASK, INTERRUPT, NULL_TASK
from support.bench import Bench, everything
from support.daemon import Daemon
from support.tiers import small, whole
from support.undisturbed import final_state
from support.waiting import eventually

ROWS = "select thread_id, checkpoint_ns, checkpoint_id from checkpoints order by 1, 2, 3"
WRITES = "select thread_id, checkpoint_id, task_id, idx, blob from checkpoint_writes order by 1, 2, 3, 4"
ASKING = ["asking", "asking_twice", "asking_inside", "asking_beside", "asking_function"]


def asked(bench: Bench, *workflows: str) -> None:
    assert bench.application(1, *workflows, ZOO_DELAY="0.01").wait(30) == 0


def answer_and_die(bench: Bench, workflow: str, value: Any, starts: int = 1) -> None:
    """A person answers through the application, which is killed once the answer is stored and a node has begun."""
    before = len(bench.effects("start")) + starts
    application = bench.application(1, workflow, ZOO_ANSWER=json.dumps(value), ZOO_DELAY="1.5")
    stored = f"select from checkpoint_writes where channel = '__resume__' and task_id = '{NULL_TASK}'"
    eventually(lambda: len(bench.effects("start")) >= before and bench.rows(stored))
    application.kill()
    application.wait()


def answered(bench: Bench, workflow: str, value: Any) -> Any:
    """A person answers in this process; gives the questions that are asked next."""
    everything()
    from zoo.app import compiled  # noqa: PLC0415 - the zoo is found only now

    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        result = compiled(workflow, saver).invoke(
            Command(resume=value), {"configurable": {"thread_id": f"{workflow}_0"}, "metadata": {"workflow": workflow}}
        )
        return [one.value for one in result.get("__interrupt__", ())] if isinstance(result, dict) else []


def assert_held(bench: Bench, daemon: Daemon, threads: int) -> None:
    before = bench.rows(ROWS), bench.rows(WRITES)
    held = "select from resumed.cases where verdict = 'waiting' and state = 'held'"
    eventually(lambda: len(bench.rows(held)) == threads)
    sweeps = daemon.sweeps()
    eventually(lambda: daemon.sweeps() >= sweeps + 10)
    assert (bench.rows(ROWS), bench.rows(WRITES)) == before
    assert bench.rows("select from resumed.attempts") == []


@pytest.mark.parametrize("forced", [small(ASKING[:1], id="one"), whole(ASKING, id="every kind")])
def test_no_question_of_any_kind_is_answered_by_us(bench: Bench, forced: list[str]) -> None:
    asked(bench, *ASKING)
    daemon = bench.daemon().until_ready()
    assert_held(bench, daemon, len(ASKING))
    for workflow in forced:
        assert bench.resumed("resume", f"{workflow}_0", "--force").returncode == 1
    assert_held(bench, daemon, len(ASKING))
    assert daemon.terminate() == 0


@pytest.mark.parametrize("workflow", ["asking_twice", pytest.param("asking_inside", marks=pytest.mark.thorough)])
def test_the_answer_to_one_question_never_reaches_the_next(bench: Bench, workflow: str) -> None:
    asked(bench, workflow)
    assert answered(bench, workflow, "x1")
    daemon = bench.daemon(RESUMED_MIN_AGE="3s").until_ready()
    assert_held(bench, daemon, 1)
    assert answered(bench, workflow, "x2") == []
    eventually(lambda: bench.all_closed(1))
    assert bench.rows("select from resumed.attempts") == []
    assert [one.split()[-1] for one in final_state(bench.dsn, f"{workflow}_0")["seen"] if " x" in one] == ["x1", "x2"]
    assert daemon.terminate() == 0


@pytest.mark.parametrize(
    "workflow",
    ["asking", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("asking_inside", "asking_twice"))],
)
def test_an_answer_whose_process_died_reaches_its_question_and_no_other(bench: Bench, workflow: str) -> None:
    asked(bench, workflow)
    answer_and_die(bench, workflow, "yes")
    done = bench.resumed("once", "--wait")
    assert done.returncode == 0, done.stderr
    attempts = bench.rows("select outcome from resumed.attempts")
    if workflow == "asking":
        assert attempts == [{"outcome": "finished"}]
        assert final_state(bench.dsn, "asking_0")["seen"] == ["ask yes", "first", "last"]
        return
    assert attempts == [{"outcome": "waiting"}]
    assert bench.ask("show", f"{workflow}_0")["verdict"] == "waiting"
    before = bench.rows(ROWS), bench.rows(WRITES)
    assert bench.resumed("once", "--wait").returncode == 0
    assert (bench.rows(ROWS), bench.rows(WRITES)) == before
    assert answered(bench, workflow, "no") == []
    assert sorted(
        one.split()[-1] for one in final_state(bench.dsn, f"{workflow}_0")["seen"] if len(one.split()) > 1
    ) == [
        "no",
        "yes",
    ]


def test_an_answer_that_was_taken_before_the_process_died_is_kept(bench: Bench) -> None:
    asked(bench, "asking")
    answer_and_die(bench, "asking", "yes", starts=2)
    assert bench.resumed("once", "--wait").returncode == 0
    assert final_state(bench.dsn, "asking_0")["seen"] == ["ask yes", "first", "last"]
    assert [line["node"] for line in bench.effects("end")].count("last") == 1


@pytest.mark.thorough
def test_one_answer_for_two_parallel_questions_is_a_persons_matter(bench: Bench) -> None:
    asked(bench, "asking_beside")
    everything()
    from zoo.app import compiled  # noqa: PLC0415

    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        state = compiled("asking_beside", saver).get_state({"configurable": {"thread_id": "asking_beside_0"}})
    left = next(one.id for one in state.interrupts if one.value.startswith("left"))
    answered(bench, "asking_beside", {left: "yes"})
    daemon = bench.daemon().until_ready()
    assert_held(bench, daemon, 1)
    answered(bench, "asking_beside", "no")
    eventually(lambda: bench.all_closed(1))
    assert final_state(bench.dsn, "asking_beside_0")["seen"] == ["left yes", "right no"]
    assert daemon.terminate() == 0


@pytest.mark.thorough
def test_an_answer_must_have_been_quiet_for_min_age(bench: Bench) -> None:
    asked(bench, "asking")
    assert bench.resumed("once").returncode == 0
    answer_and_die(bench, "asking", "yes")
    assert bench.resumed("once", "--wait", RESUMED_MIN_AGE="1h").returncode == 0
    assert bench.rows("select from resumed.attempts") == []
    assert bench.one("select verdict from resumed.cases") == "running"


class OvertakenSaver(AsyncPostgresSaver):
    """A saver whose process dies when its entrypoint repeats a question, with what one task saved still on its way."""

    late: str | None = None

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if self.late is not None and writes[0][0] == INTERRUPT and not task_path.startswith(CALLED_TASK):
            raise Died
        if task_id != self.late:
            await super().aput_writes(config, writes, task_id, task_path)


class Died(BaseException):
    """The process is gone: nothing catches it."""


BESIDE: Any = {"configurable": {"thread_id": "beside"}, "metadata": {"workflow": "function_beside"}}
CALLED = "select task_id from checkpoint_writes where channel = '__interrupt__' and task_path like '~__pregel_push%%'"


async def overtaken(bench: Bench) -> None:
    """Two questions beside each other are answered; what the second answer led to is lost, and the third is stored."""
    from people.flows import answer_to, compiled  # noqa: PLC0415 - found only now

    async with OvertakenSaver.from_conn_string(bench.dsn) as saver:
        graph = compiled("function_beside", saver)
        await graph.ainvoke({"seen": []}, BESIDE, durability="sync")
        (one,) = (await graph.aget_state(BESIDE)).interrupts
        await graph.ainvoke(Command(resume={one.id: answer_to(one.value)}), BESIDE, durability="sync")
        (two,) = (await graph.aget_state(BESIDE)).interrupts
        found = await saver.aget_tuple(BESIDE)
        assert found is not None
        asking = {task for task, channel, said in found.pending_writes or () if channel == INTERRUPT and two in said}
        (task,) = asking & {row["task_id"] for row in bench.rows(CALLED)}
        saver.late = task  # type: ignore[attr-defined]  # it is of the class that was asked
        with pytest.raises(Died):
            await graph.ainvoke(Command(resume=answer_to(two.value)), BESIDE, durability="sync")


def test_an_answer_whose_record_the_next_question_overtook_is_not_called_missing(bench: Bench) -> None:
    everything()
    asyncio.run(overtaken(bench))
    entries = ["function_beside=people.registered:function_beside"]
    (seen,) = bench.ask("scan", workflows=entries)["threads"]
    doubt = "there is an answer, but its order is unknown: answer again"
    assert (seen["verdict"], seen["reason"]) == ("waiting", doubt)
    assert bench.resumed("once", "--wait", workflows=entries).returncode == 0
    assert bench.rows("select from resumed.attempts") == []
