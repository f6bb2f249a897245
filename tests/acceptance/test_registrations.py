"""Registrations that break, beside one that does not: each is named with its error, and nobody else is harmed."""

import contextlib
import json
from typing import Any

import psutil
import pytest

from support.bench import Bench
from support.daemon import Daemon
from support.tiers import small, whole
from support.waiting import eventually

LONG = 400.0
BAD = {
    "raising": "KeyError at",
    "patching": "it replaces _thread.start_new_thread",
    "sleepless": "it replaces time.sleep",
    "socketless": "it replaces socket.socket",
    "hanging": "did not end within 8 s",
    "dying": "ended the worker process (exit 3)",
    "dying_later": "s after it was loaded",
    "flaky": "its context ended by itself: ConnectionError at",
    "late": "ConnectionRefusedError at",
    "silent": "it closes standard output",
    "forking": "it forks the process",
    "signalling": "signal only works in main thread",
}
HARMLESS = ("lasting", "looping", "elsewhere", "wrapping")
SETTINGS: Any = {
    "MISCHIEF": "1",
    "ZOO_DELAY": "0.05",
    "RESUMED_MAX_ATTEMPTS": "2",
    "RESUMED_TEST_TIMINGS": "entry_deadline=8s,first_answers=10s,trial_dwell=15s,retry_load=4s,closing=2s",
}
SECRET = "hunter2"  # noqa: S105 - the very thing that must not be seen


def leave(bench: Bench, *wanted: tuple[str, int]) -> None:
    """Leave threads of `healthy` that failed in their second node, under these names."""
    counts = [f"{workflow}={count}" for workflow, count in wanted]
    assert bench.module("loading.leave", bench.dsn, *counts, workflows=[], ZOO_DELAY="0").wait(60) == 0


def entries(*names: str) -> list[str]:
    return [f"{name} = loading.{name}:seen" for name in names]


def loaded(daemon: Daemon) -> dict[str, float]:
    return {labels["workflow"]: value for labels, value in daemon.samples("resumed_workflow_loaded")}


def reasons(daemon: Daemon) -> dict[str, str]:
    """The newest reason that the log gives for each workflow that failed."""
    return {line["workflow"]: line["reason"] for line in daemon.lines("workflow.failed")}


def closed(bench: Bench, workflow: str) -> int:
    return int(
        bench.one("select count(*) from resumed.cases where workflow = %(name)s and state = 'closed'", name=workflow)
    )


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_bad_registrations_harm_nobody_and_are_named_with_their_errors(bench: Bench) -> None:
    leave(bench, ("healthy", 100), ("flaky", 3), ("late", 3))
    server = bench.folder / "server-is-up"
    names = ["healthy = faults.mischief:healthy", *entries(*BAD, *HARMLESS)]
    daemon = bench.daemon(names, **SETTINGS, LATE_SERVER=str(server))
    eventually(lambda: closed(bench, "healthy") == 100, LONG)
    eventually(lambda: {name for name, value in loaded(daemon).items() if not value} >= BAD.keys() - {"flaky"}, LONG)
    eventually(lambda: set(reasons(daemon)) >= BAD.keys(), LONG)
    told = reasons(daemon)
    assert {name: said for name, said in BAD.items() if said not in told[name]} == {}, told
    assert set(told) == set(BAD)
    assert loaded(daemon)["healthy"] == 1
    assert bench.rows("select from resumed.attempts where charged") == []
    server.touch()  # it is tried again with back-off, and needs no restart
    eventually(lambda: loaded(daemon)["late"] == 1 and closed(bench, "late") == 3, LONG)
    assert bench.rows("select from resumed.attempts where charged") == []
    assert bench.rows("select from resumed.cases where state = 'quarantined'") == []
    assert daemon.terminate() == 0
    assert [line["workflow"] for line in daemon.lines("workflow.unclosed")][-1] == "lasting"
    assert SECRET not in daemon.log.read_text()


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_a_registration_is_not_blamed_for_what_others_kill(bench: Bench) -> None:
    leave(bench, ("healthy", 3))
    daemon = bench.daemon(["healthy = faults.mischief:healthy"], **SETTINGS, RESUMED_MIN_AGE="1h").until_ready()
    killed: set[int] = set()

    def three_died() -> bool:
        for one in psutil.Process(daemon.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # one may end by itself in between
                one.kill()
                killed.add(one.pid)
        return len(killed) >= 3  # the worker, and two processes that were to find out why it died

    eventually(three_died)
    eventually(lambda: len(daemon.lines("worker.registered")) == 2)
    assert daemon.lines("workflow.failed") == []
    assert daemon.terminate() == 0


QUICK = [name for name in BAD if name not in ("dying_later", "flaky", "hanging")]  # those take their time


@pytest.mark.parametrize(
    "bad",
    [
        small(["raising", "dying", "silent"], id="three"),
        whole(QUICK, id="all that fail at once"),
    ],
)
def test_the_command_names_every_bad_registration(bench: Bench, bad: list[str]) -> None:
    names, nowhere = entries(*bad, "lasting", "good"), str(bench.folder / "nowhere")
    done = bench.resumed("workflows", "--json", workflows=names, LATE_SERVER=nowhere)
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["workflows"]}
    assert {name for name, one in found.items() if one["loaded"]} == {"good", "lasting"}
    assert {name: BAD[name] for name in bad if BAD[name] not in found[name]["reason"]} == {}, found
    assert "did not close" in found["lasting"]["reason"]
    assert "raising.py:5" in found["raising"]["reason"]
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.thorough
def test_the_isolation_worker_loads_only_what_it_tries(bench: Bench) -> None:
    leave(bench, ("killing", 2), ("healthy", 3), ("flaky", 2))
    names = ["killing = faults.mischief:killing", "healthy = faults.mischief:isolated", *entries("flaky")]
    daemon = bench.daemon(names, **SETTINGS, FLAKY_AFTER="1")
    eventually(lambda: closed(bench, "healthy") == 3, LONG)
    eventually(lambda: len(bench.rows("select from resumed.cases where state = 'quarantined'")) == 2, LONG)
    greeted = [one for one in daemon.lines("worker.registered") if one["worker"].endswith("-isolation")]
    assert {tuple(one["workflows"]) for one in greeted} >= {("killing",), ("healthy",)}
    assert all(len(one["workflows"]) == 1 for one in greeted)
    charged = bench.rows("select distinct workflow, outcome from resumed.attempts where charged")
    assert charged == [{"workflow": "killing", "outcome": "crashed"}]
    assert daemon.terminate() == 0


def test_a_database_that_an_import_points_at_is_not_ours(bench: Bench) -> None:
    leave(bench, ("healthy", 5))
    done = bench.resumed(
        "once", "--wait", workflows=["healthy = faults.mischief:healthy", *entries("elsewhere")], **SETTINGS
    )
    assert (done.returncode, closed(bench, "healthy")) == (0, 5), done.stderr


def test_a_child_that_a_node_forks_never_goes_on_as_the_worker(bench: Bench) -> None:
    leave(bench, ("children", 3))
    done = bench.resumed("once", "--wait", workflows=entries("children"), **SETTINGS)
    assert (done.returncode, closed(bench, "children")) == (0, 3), done.stderr
    assert sorted(one["thread"] for one in bench.effects("end")) == [f"children_{number}" for number in range(3)]
    assert bench.rows("select distinct outcome from resumed.attempts") == [{"outcome": "finished"}]
