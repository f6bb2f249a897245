"""The durability suite of docs/library.md: run it with pytest, or as a script that says what it does.

`python tests/test_durability.py` starts a Postgres of its own, or uses the one that RESUMED_TEST_DATABASE_URL names.
"""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from resumed import CheckpointerManager, PostgresLockManager, get_checkpoint_status, needs_resume, resume_workflow
from resumed.demo.postgres import PrivateServer

WIDTH = 70


class State(TypedDict):
    counter: int
    message: str


class SimulatedError(Exception):
    """What the second step raises the first time."""


def build(dsn: str, *, fails: bool) -> Any:
    """Compile three steps, of which the second fails the first time it is run."""
    left = [SimulatedError()] if fails else []

    def step(number: int) -> Callable[[State], State]:
        def run(state: State) -> State:
            if number == 2 and left:
                raise left.pop()
            return {"counter": state["counter"] + 1, "message": f"step{number} done"}

        return run

    graph = StateGraph(State)
    before = START
    for number in (1, 2, 3):
        graph.add_node(f"step{number}", step(number))
        graph.add_edge(before, f"step{number}")
        before = f"step{number}"
    graph.add_edge(before, END)
    return graph.compile(checkpointer=CheckpointerManager.get_or_create(dsn).get_checkpointer())


def basic_failure_and_resume(dsn: str) -> str:
    """Fail at the second step, resume, and come to the end with every step done once."""
    thread = f"durability_{uuid.uuid4().hex}"
    config: Any = {"configurable": {"thread_id": thread}}
    app = build(dsn, fails=True)
    try:
        app.invoke({"counter": 0, "message": ""}, config)
    except SimulatedError:
        pass
    else:
        raise AssertionError("the second step should have failed")
    assert needs_resume(thread, dsn)
    said = resume_workflow(thread, dsn, lambda _: app.invoke(None, config))
    assert said["status"] == "success", said
    assert said["completed"]
    assert said["result"] == {"counter": 3, "message": "step3 done"}
    status = get_checkpoint_status(thread, dsn)
    assert status is not None
    assert status.is_complete
    return "Workflow failed, resumed, and completed!"


def lock_protection(dsn: str) -> str:
    """Hold a thread's lock in one manager; nobody else resumes the thread meanwhile."""
    thread = f"durability_{uuid.uuid4().hex}"
    config: Any = {"configurable": {"thread_id": thread}}
    app = build(dsn, fails=True)
    with suppress(SimulatedError):
        app.invoke({"counter": 0, "message": ""}, config)
    said: list[dict[str, Any]] = []
    with PostgresLockManager(dsn) as locks:
        with locks.acquire_workflow_lock(f"resume_{thread}") as got:
            assert got
            other = threading.Thread(
                target=lambda: said.append(resume_workflow(thread, dsn, lambda _: app.invoke(None, config)))
            )
            other.start()
            other.join()
        assert said[0]["status"] == "already_running"
        assert not locks.is_locked(f"resume_{thread}")
        assert locks.get_active_locks_count() == 0
    assert resume_workflow(thread, dsn, lambda _: app.invoke(None, config))["status"] == "success"
    return "Lock protection working"


TESTS = {"Basic Failure and Resume": basic_failure_and_resume, "Lock Protection": lock_protection}


def test_basic_failure_and_resume(bare_database: str) -> None:
    with CheckpointerManager.get_or_create(bare_database):
        basic_failure_and_resume(bare_database)


def test_lock_protection(bare_database: str) -> None:
    with CheckpointerManager.get_or_create(bare_database):
        lock_protection(bare_database)


def test_as_a_script_it_says_that_both_passed(bare_database: str) -> None:
    command, environment = [sys.executable, __file__], {**os.environ, "RESUMED_TEST_DATABASE_URL": bare_database}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "2/2 tests passed" in done.stdout


@contextmanager
def database() -> Iterator[str]:
    """Give the database that is named, or one of our own."""
    if given := os.environ.get("RESUMED_TEST_DATABASE_URL"):
        yield given
    else:
        with PrivateServer() as server:
            yield server.dsn()


def main() -> int:
    """Run the suite and say how it went; gives the exit code."""
    passed: dict[str, bool] = {}
    print(f"╔{'=' * (WIDTH - 2)}╗\n║{'RESUMED DURABILITY TEST SUITE':^{WIDTH - 2}}║\n╚{'=' * (WIDTH - 2)}╝\n")
    with database() as dsn, CheckpointerManager.get_or_create(dsn):
        for number, (name, run) in enumerate(TESTS.items(), 1):
            print(f"Running Test {number}: {name}")
            try:
                print(f"TEST PASSED: {run(dsn)}\n")
                passed[name] = True
            except Exception as error:  # noqa: BLE001 - the other test is run all the same
                print(f"TEST FAILED: {type(error).__name__}: {error}\n")
                passed[name] = False
    print(f"{'=' * WIDTH}\nTEST SUMMARY\n{'=' * WIDTH}\n")
    for name, good in passed.items():
        print(f"{'PASSED' if good else 'FAILED'}: {name}")
    print(f"\n{sum(passed.values())}/{len(passed)} tests passed")
    if not all(passed.values()):
        return 1
    print("\nALL TESTS PASSED!\nDurability verified.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
