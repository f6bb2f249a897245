"""Single threads, resumed or refused by the very code of a worker, over rows that real runs have left."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from resumed.model import Outcome, Verdict
from support.attempting import Place, workflow_of

sys.path.insert(0, str(Path(__file__).parent.parent / "graphs"))

from points import shapes
from points.shapes import Built, Seen, graph_of, nested


class Late(AsyncPostgresSaver):
    """A saver whose database is slow with one checkpoint and gone at the next."""

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if metadata["step"] == 1:
            await asyncio.sleep(0.1)
        if metadata["step"] == 2:
            raise ConnectionError
        return await super().aput(config, checkpoint, metadata, new_versions)


def config(name: str) -> Any:
    return {"configurable": {"thread_id": f"{name}:1"}, "metadata": {"workflow": name}}


async def run_twice(dsn: str, name: str, graph: Built) -> None:
    async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
        for word in ("first", "second"):
            await graph.compile(checkpointer=saver).ainvoke({"seen": [word]}, config(name), durability="sync")


def forget(dsn: str, namespace: str, step: int) -> None:
    """Take back every checkpoint of a namespace from this step on, as if it had been lost on its way."""
    statement = "delete from checkpoints where checkpoint_ns = %s and (metadata ->> 'step')::int >= %s"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement, [namespace, step])


async def test_tasks_that_fail_together_leave_the_attempt_its_session(database: str, place: Place) -> None:
    """Each saves its error; the run does not wait for the last of them, and closing must not meet it."""

    def fail(_: Any) -> None:
        raise ValueError("always")

    graph = graph_of(Seen, dict.fromkeys("abcd", fail), ">a >b >c >d")
    workflow = workflow_of("failing", graph)
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        stopped = graph.compile(checkpointer=saver, interrupt_before="*")
        await stopped.ainvoke({"seen": []}, config("failing"))
    said = Counter([await place.attempt(workflow, "failing:1") for _ in range(25)])
    assert said == {"tried": 25}
    assert {one.outcome for one in await place.attempts("failing:1")} == {Outcome.FAILED}


async def test_a_stateful_subgraph_that_is_behind_its_parent_is_refused(database: str, place: Place) -> None:
    workflow = workflow_of("nested", nested(checkpointer=True))
    await run_twice(database, "nested", nested(checkpointer=True))
    forget(database, "", 7)
    assert await place.inspect(workflow, "nested:1") is None
    forget(database, "inner", 3)
    said = await place.inspect(workflow, "nested:1")
    assert said is not None
    assert (said.verdict, said.reason) == (Verdict.INCOMPATIBLE, "the stateful subgraph inner is behind its parent")


async def test_a_stateful_subgraph_that_is_ahead_of_its_parent_is_refused(database: str, place: Place) -> None:
    workflow = workflow_of("nested", nested(checkpointer=True))
    await run_twice(database, "nested", nested(checkpointer=True))
    forget(database, "", 6)
    said = await place.inspect(workflow, "nested:1")
    assert said is not None
    assert (said.verdict, said.reason) == (Verdict.INCOMPATIBLE, "the stateful subgraph inner is ahead of its parent")
    assert await place.attempt(workflow, "nested:1") == "looked"


async def test_a_stateful_subgraph_that_only_a_finished_task_asks_for_is_no_hindrance(
    database: str, place: Place
) -> None:
    """The node before it has saved its writes and no checkpoint followed: a resume starts the subgraph anew."""
    workflow = workflow_of("nested", nested(checkpointer=True))
    await run_twice(database, "nested", nested(checkpointer=True))
    forget(database, "", 6)
    forget(database, "inner", 3)
    assert await place.inspect(workflow, "nested:1") is None
    assert await place.attempt(workflow, "nested:1") == "tried"
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        await run_twice(database, "undisturbed", nested(checkpointer=True))
        graph = nested(checkpointer=True).compile(checkpointer=saver)
        resumed, undisturbed = [(await graph.aget_state(config(one))).values for one in ("nested", "undisturbed")]
    assert resumed == undisturbed


async def test_a_join_that_has_counted_what_was_never_saved_counts_anew(database: str, place: Place) -> None:
    """LangGraph saves the very set in which it goes on counting; here the save is late, and the next one fails."""
    workflow = workflow_of("uneven", shapes.uneven())
    for name in ("theirs", "uneven"):
        async with Late.from_conn_string(database) as saver:
            graph = shapes.uneven().compile(checkpointer=saver)
            with pytest.raises(ConnectionError):
                await graph.ainvoke({"seen": []}, config(name), durability="async")
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        graph = shapes.uneven().compile(checkpointer=saver)
        assert (await graph.ainvoke(None, config("theirs")))["seen"] == [
            "a",
            "b",
            "c",
        ]  # d never ran: why we count anew
        assert await place.inspect(workflow, "uneven:1") is None
        assert await place.attempt(workflow, "uneven:1") == "tried"
        assert (await graph.aget_state(config("uneven"))).values == {"seen": ["a", "b", "c", "d"]}


async def test_a_join_whose_members_finish_one_after_the_other_is_resumed_between_them(
    database: str, place: Place
) -> None:
    workflow = workflow_of("uneven", shapes.uneven())
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        graph = shapes.uneven().compile(checkpointer=saver)
        await graph.ainvoke({"seen": []}, config("uneven"), durability="sync")
        for step in (3, 2, 1):
            forget(database, "", step)
            assert await place.attempt(workflow, "uneven:1") == "tried"
            assert (await graph.aget_state(config("uneven"))).values == {"seen": ["a", "b", "c", "d"]}
