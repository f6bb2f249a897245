"""Checkpointers and the verdicts that applications ask for, on a database that only LangGraph has been in."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

import resumed
from resumed import (
    AsyncCheckpointerManager,
    AsyncPostgresLockManager,
    CheckpointerManager,
    DatabaseUnreachableError,
    PostgresLockManager,
    RunCancelledError,
    WorkflowExecutor,
    aneeds_resume,
    aresume_workflow,
    find_failed_workflows,
    generate_thread_id,
    get_checkpoint_status,
    needs_resume,
    resume_workflow,
)
from resumed.judge.checkpoint_id import first_at
from resumed.library import connection_pools
from resumed.store.connection import Target
from support.tiers import small, whole


class State(TypedDict, total=False):
    steps: list[str]
    said: str


class Fault:
    """A node that fails for as long as it is told to."""

    broken = True

    def __call__(self, state: State) -> State:
        if self.broken:
            raise RuntimeError("the card 4111 1111 1111 1111 was refused, password=hunter2")
        return {"steps": [*state.get("steps", []), "middle"]}


def graph(middle: Any, saver: Any) -> Any:
    built = StateGraph(State)
    built.add_node("one", lambda _: {"steps": ["one"]})
    built.add_node("middle", middle)
    built.add_edge(START, "one")
    built.add_edge("one", "middle")
    built.add_edge("middle", END)
    return built.compile(checkpointer=saver)


def config(thread: str, **metadata: Any) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": metadata}


def failed(app: Any, thread: str, **metadata: Any) -> None:
    with pytest.raises(RuntimeError):
        app.invoke({"steps": []}, config(thread, **metadata))


@pytest.fixture
def manager(bare_database: str) -> Any:
    with CheckpointerManager.get_or_create(bare_database) as made:
        yield made


def test_a_database_that_is_away_at_first_has_its_tables_made_later(
    bare_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Target) -> None:
        raise DatabaseUnreachableError

    with CheckpointerManager.get_or_create(bare_database) as manager:
        with monkeypatch.context() as patch:
            patch.setattr(connection_pools, "set_up", fail)
            with pytest.raises(DatabaseUnreachableError):
                manager.get_checkpointer()
        assert list(manager.get_checkpointer().list(None)) == []


def test_a_thread_that_failed_is_found_resumed_and_finished(bare_database: str, manager: CheckpointerManager) -> None:
    fault = Fault()
    app = graph(fault, manager.get_checkpointer())
    failed(app, "orders-1", workflow="orders")
    status = get_checkpoint_status("orders-1", bare_database)
    assert status is not None
    assert (status.verdict, status.is_complete, status.workflow, status.version) == ("failed", False, "orders", "4")
    assert status.created_at is not None
    assert abs(datetime.now(UTC) - status.created_at) < timedelta(seconds=30)
    assert needs_resume("orders-1", bare_database)
    assert find_failed_workflows(bare_database) == []
    assert [one.thread_id for one in find_failed_workflows(bare_database, min_age_minutes=0)] == ["orders-1"]

    def resume(thread: str) -> Any:
        return app.invoke(None, config(thread))

    said = resume_workflow("orders-1", bare_database, resume)
    assert (said["status"], said["completed"], said["result"]) == ("error", False, None)
    assert "hunter2" not in said["error"]
    assert said["before_checkpoint"] == said["after_checkpoint"] == status.checkpoint_id
    fault.broken = False
    said = resume_workflow("orders-1", bare_database, resume)
    assert (said["status"], said["completed"], said["error"]) == ("success", True, None)
    assert said["result"] == {"steps": ["one", "middle"]}
    assert said["after_checkpoint"] != said["before_checkpoint"]
    assert not needs_resume("orders-1", bare_database)
    done = get_checkpoint_status("orders-1", bare_database)
    assert done is not None
    assert done.is_complete
    again = resume_workflow("orders-1", bare_database, lambda _: pytest.fail("a finished thread was run again"))
    assert (again["status"], again["completed"]) == ("error", True)


def test_success_is_never_said_where_nothing_moved(bare_database: str, manager: CheckpointerManager) -> None:
    failed(graph(Fault(), manager.get_checkpointer()), "orders-1")
    said = resume_workflow("orders-1", bare_database, lambda _: {"all": "well"})
    assert (said["status"], said["result"]) == ("error", {"all": "well"})
    assert resume_workflow("nobody", bare_database, print)["status"] == "not_found"
    assert get_checkpoint_status("nobody", bare_database) is None
    assert not needs_resume("nobody", bare_database)


def test_who_holds_the_lock_is_running(bare_database: str, manager: CheckpointerManager) -> None:
    failed(graph(Fault(), manager.get_checkpointer()), "orders-1")
    with PostgresLockManager(bare_database) as locks, locks.acquire_workflow_lock("resume_orders-1"):
        status = get_checkpoint_status("orders-1", bare_database)
        assert status is not None
        assert status.verdict == "running"
        assert find_failed_workflows(bare_database, min_age_minutes=0) == []
        assert resume_workflow("orders-1", bare_database, print)["status"] == "already_running"
        said = resume_workflow("orders-1", bare_database, lambda _: None, lock_manager=locks)
        assert said["status"] == "error"
        began = time.monotonic()
        said = resume_workflow("orders-1", bare_database, print, blocking=True, timeout_seconds=1)
        assert said["status"] == "already_running"
        assert time.monotonic() - began >= 1


def test_a_persons_question_is_left_alone(bare_database: str, manager: CheckpointerManager) -> None:
    app = graph(lambda _: {"said": interrupt("well?")}, manager.get_checkpointer())
    app.invoke({"steps": []}, config("orders-1"))
    status = get_checkpoint_status("orders-1", bare_database)
    assert status is not None
    assert (status.verdict, status.is_complete) == ("waiting", False)
    assert not needs_resume("orders-1", bare_database)
    assert find_failed_workflows(bare_database, min_age_minutes=0) == []
    said = resume_workflow("orders-1", bare_database, lambda _: pytest.fail("a person was overruled"))
    assert said["status"] == "waiting"
    app.invoke(Command(resume="yes"), config("orders-1"))
    assert app.get_state(config("orders-1")).values["said"] == "yes"


def test_a_resume_that_comes_to_a_question_waits(bare_database: str, manager: CheckpointerManager) -> None:
    class AsksNow(Fault):
        def __call__(self, state: State) -> State:
            super().__call__(state)
            return {"said": interrupt("well?")}

    asks = AsksNow()
    app = graph(asks, manager.get_checkpointer())
    failed(app, "orders-1")
    asks.broken = False
    said = resume_workflow("orders-1", bare_database, lambda thread: app.invoke(None, config(thread)))
    assert (said["status"], said["completed"]) == ("waiting", False)


def test_a_lost_lock_is_no_success(bare_database: str, manager: CheckpointerManager) -> None:
    fault = Fault()
    app = graph(fault, manager.get_checkpointer())
    failed(app, "orders-1")
    fault.broken = False

    def resume(thread: str) -> None:
        with psycopg.connect(bare_database, autocommit=True) as connection:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'resumed locks'"
            assert connection.execute(query).rowcount == 1
        app.invoke(None, config(thread))

    assert resume_workflow("orders-1", bare_database, resume)["status"] == "error"


def test_all_pages_are_searched_and_ages_honoured(bare_database: str, manager: CheckpointerManager) -> None:
    app = graph(Fault(), manager.get_checkpointer())
    failed(app, "orders-model")
    with psycopg.connect(bare_database, autocommit=True) as connection:
        now = datetime.now(UTC)
        for number in range(6000):
            shift = first_at(now - timedelta(minutes=number / 3))[:19] + f"8000-{number:012x}"
            connection.execute(
                "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata) "
                "select %s, '', %s, checkpoint, metadata from checkpoints "
                "where thread_id = 'orders-model' order by checkpoint_id desc limit 1",
                [f"orders-{number}", shift],
            )
    # 5 minutes to 24 hours: three a minute
    found = find_failed_workflows(bare_database)
    assert 3 * (24 * 60 - 5) - 5 <= len(found) <= 3 * (24 * 60 - 5) + 5
    assert found == sorted(found, key=lambda one: (one.created_at, one.thread_id))
    assert len(find_failed_workflows(bare_database, limit=7)) == 7
    assert find_failed_workflows(bare_database, limit=7) == found[:7]
    hour = find_failed_workflows(bare_database, min_age_minutes=30, max_age_hours=1)
    assert 85 <= len(hour) <= 95


async def test_the_asynchronous_twins_say_the_same(bare_database: str) -> None:
    async with (
        AsyncCheckpointerManager.get_or_create(bare_database) as manager,
        AsyncPostgresLockManager(bare_database) as locks,
    ):
        assert AsyncCheckpointerManager.get_or_create(bare_database) is manager
        fault = Fault()
        app = graph(fault, await manager.get_checkpointer())
        with pytest.raises(RuntimeError):
            await app.ainvoke({"steps": []}, config("orders-1"))
        assert await aneeds_resume("orders-1", bare_database)
        assert len(await resumed.afind_failed_workflows(bare_database, min_age_minutes=0)) == 1
        fault.broken = False
        said = await aresume_workflow(
            "orders-1", bare_database, lambda thread: app.ainvoke(None, config(thread)), lock_manager=locks
        )
        assert (said["status"], said["completed"]) == ("success", True)
        status = await resumed.aget_checkpoint_status("orders-1", bare_database)
        assert status is not None
        assert status.is_complete


def test_there_is_one_checkpointer_a_database_until_it_is_closed(bare_database: str) -> None:
    found: list[Any] = []

    def get() -> None:
        manager = CheckpointerManager.get_or_create(bare_database)
        found.append((manager, manager.get_checkpointer()))

    threads = [threading.Thread(target=get) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(manager) for manager, _ in found}) == len({id(saver) for _, saver in found}) == 1
    first = found[0][0]
    first.close()
    second = CheckpointerManager.get_or_create(bare_database)
    assert second is not first
    graph(lambda _: {"said": "yes"}, second.get_checkpointer()).invoke({"steps": []}, config("orders-1"))
    second.close()


SETUP = """
import sys
from resumed import CheckpointerManager
with CheckpointerManager.get_or_create(sys.argv[1]) as manager:
    manager.setup()
    assert list(manager.get_checkpointer().list(None, limit=1)) == []
"""
FORK = """
import os, sys
from resumed import CheckpointerManager
manager = CheckpointerManager.get_or_create(sys.argv[1])
assert list(manager.get_checkpointer().list(None, limit=1)) == []
child = os.fork()
own = CheckpointerManager.get_or_create(sys.argv[1])
assert (own is manager) is bool(child)
assert list(own.get_checkpointer().list(None, limit=1)) == []
own.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.parametrize("count", [small(4, id="four"), whole(20, id="twenty")])
def test_processes_at_once_make_the_tables_of_an_empty_database(bare_database: str, count: int) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", SETUP, bare_database], stderr=subprocess.PIPE, env={**os.environ})
        for _ in range(count)
    ]
    told = [process.communicate(timeout=120)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(told)[-3000:]


def test_a_forked_child_has_a_pool_of_its_own(bare_database: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, bare_database], timeout=60, check=False, env={**os.environ})
    assert done.returncode == 0


def test_the_synchronous_executor_runs_streams_submits_and_cancels(database: str) -> None:
    with WorkflowExecutor(database) as executor:
        app = graph(lambda state: {"steps": [*state["steps"], "middle"]}, executor.checkpointer)
        assert executor.run("orders", app, {"steps": []}, thread_id="orders-1") == {"steps": ["one", "middle"]}
        assert app.get_state(config("orders-1")).values == {"steps": ["one", "middle"]}
        parts = list(executor.stream("orders", app, {"steps": []}, stream_mode="updates"))
        assert [next(iter(part)) for part in parts] == ["one", "middle"]
        assert executor.submit("orders", {"steps": []}, thread_id="orders-3") == "orders-3"
        assert executor.cancel("orders-3", "a mistake")
        assert not executor.cancel("orders-1")
        slow = graph(lambda _: time.sleep(2), executor.checkpointer)
        raised: list[BaseException] = []

        def run() -> None:
            try:
                executor.run("orders", slow, {"steps": []}, thread_id="orders-4")
            except RunCancelledError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.7)
        assert executor.cancel("orders-4")
        thread.join()
        assert raised
    with psycopg.connect(database) as connection:
        rows = connection.execute("select thread_id, state from resumed.runs order by begun_at").fetchall()
    assert [state for _, state in rows] == ["finished", "finished", "cancelled", "cancelled"]


def test_a_thread_is_named_after_its_workflow() -> None:
    made = generate_thread_id("data pipeline", user_id="user123")
    assert made.startswith("data-pipeline_user123_2")
    assert len({generate_thread_id("orders") for _ in range(1000)}) == 1000
    assert generate_thread_id("orders").startswith(f"orders_{datetime.now(UTC):%Y%m%d}")
    with pytest.raises(ValueError, match="empty"):
        generate_thread_id(" ")


def test_what_is_exported_is_there_documented_and_loads_nothing_of_the_daemon() -> None:
    for name in resumed.__all__:
        assert getattr(resumed, name).__doc__, name
    with pytest.raises(AttributeError):
        resumed.nothing  # noqa: B018
    script = (
        "import sys, resumed; [getattr(resumed, name) for name in resumed.__all__]; "
        "print([one for one in ('apscheduler', 'uvicorn', 'starlette', 'typer', 'prometheus_client', 'structlog', "
        "'pydantic_settings') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_loop_in_the_way_is_no_obstacle(bare_database: str) -> None:
    async def within() -> bool:
        return needs_resume("nobody", bare_database)

    with CheckpointerManager.get_or_create(bare_database) as manager:
        manager.setup()
        assert asyncio.run(within()) is False
