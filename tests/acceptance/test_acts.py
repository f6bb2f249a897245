"""What a person orders with the command: two replicas obey within a sweep, and only what was ordered happens."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resumed.judge.checkpoint_id import first_at
from support.bench import Bench
from support.daemon import Daemon
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

CASES = "select thread_id, state, verdict, pinned, cancelled_head, quarantine_reason from resumed.cases"
HEAD = "select max(checkpoint_id) from checkpoints where thread_id = %(thread)s and checkpoint_ns = ''"
MOVE = """
insert into checkpoints
select thread_id, checkpoint_ns, %(id)s, checkpoint_id, type, checkpoint || jsonb_build_object('id', %(id)s::text),
    metadata
from checkpoints where thread_id = %(thread)s and checkpoint_ns = '' order by checkpoint_id desc limit 1
"""
BEGUN_SINCE = """
select count(*) from resumed.attempts a, resumed.audit p
where (p.action, p.workflow) = ('pause', a.workflow) and a.started_at > p.at + interval '1 second'
"""
LINEAR = {"linear_0", "linear_1", "linear_2"}
SECRET = "Mrs Miller, tel. 555"  # noqa: S105 - a reason is for people, and for no log


class Delay:
    """How long a node takes, which a test may change while daemons run."""

    def __init__(self, file: Path, seconds: float) -> None:
        self.file = file
        self.set(seconds)

    def set(self, seconds: float) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.file)  # a node reads the old number or this one


def told(bench: Bench, *arguments: str, code: int = 0, given: str = "", **settings: Any) -> dict[str, Any]:
    """Run an acting command with these lines on stdin, and give its JSON document."""
    done = bench.resumed(*arguments, "--json", given=given, **settings)
    assert done.returncode == code, done.stdout + done.stderr
    assert SECRET not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cases_of(bench: Bench) -> dict[str, dict[str, Any]]:
    return {row["thread_id"]: row for row in bench.rows(CASES)}


def head(bench: Bench, thread: str) -> str:
    return str(bench.one(HEAD, thread=thread))


def moved(bench: Bench, thread: str) -> None:
    """Move the head as an application does that saves once more and dies."""
    bench.execute(MOVE, thread=thread, id=first_at(datetime.now(UTC)))


def inflight(bench: Bench) -> list[str]:
    return [row["thread_id"] for row in bench.rows("select thread_id from resumed.attempts where finished_at is null")]


def some_sweeps(*daemons: Daemon) -> None:
    for one in daemons:
        seen = one.sweeps()
        eventually(lambda one=one, seen=seen: one.sweeps() > seen + 3)  # type: ignore[misc]


def paused(daemon: Daemon) -> dict[str, float]:
    return {labels["workflow"]: value for labels, value in daemon.samples("resumed_paused")}


def test_a_pause_stops_both_replicas_and_drains_what_runs_and_an_end_of_it_goes_on(bench: Bench) -> None:
    assert told(bench, "--actor", "ada", "pause", "--reason", SECRET) == {
        "workflow": None, "done": True, "paused": True, "said": "everything is paused",
    }  # fmt: skip
    bench.crashed_application(3, "alinear", "linear", ends=6, ZOO_DELAY="0.3")
    delay = Delay(bench.folder / "delay", 2)
    settings = {"workflows": ["alinear", "linear"], "ZOO_DELAY": str(delay.file), "RESUMED_CONCURRENCY": "2"}
    daemons = [bench.daemon(**settings) for _ in range(2)]
    some_sweeps(*[one.until_ready() for one in daemons])
    assert [paused(one) for one in daemons] == [{"": 1, "alinear": 1, "linear": 1}] * 2
    assert {row["state"] for row in bench.rows(CASES)} == {"due"}
    _it_is_told_where_one_looks(bench)
    assert bench.rows("select from resumed.attempts") == []
    assert told(bench, "unpause")["paused"] is False
    eventually(lambda: len(inflight(bench)) == 4)
    assert told(bench, "pause", "alinear", "--reason", "everything burns")["paused"] is True
    eventually(lambda: {*inflight(bench)} <= LINEAR)
    delay.set(0.1)
    eventually(lambda: {name for name, row in cases_of(bench).items() if row["state"] == "closed"} >= LINEAR)
    some_sweeps(*daemons)
    assert [paused(one) for one in daemons] == [{"": 0, "alinear": 1, "linear": 0}] * 2
    assert inflight(bench) == []
    query = "select workflow, outcome, charged from resumed.attempts"
    ended = [(one["workflow"], one["outcome"]) for one in bench.rows(query) if not one["charged"]]
    # One that was in its last node when the pause came has come to its end instead.
    assert {*ended} - {("alinear", "finished")} == {("alinear", "drained"), ("linear", "finished")}
    assert len(ended) == bench.one("select count(*) from resumed.attempts") < 7
    assert bench.one(BEGUN_SINCE) == 0
    assert bench.rows("select from resumed.cases where consecutive > 0") == []
    assert told(bench, "unpause", "alinear")["paused"] is False
    eventually(lambda: bench.all_closed(6))
    for name in cases_of(bench):
        assert final_state(bench.dsn, name) == undisturbed(name.partition("_")[0])
    assert [(one["action"], one["workflow"]) for one in bench.rows("select * from resumed.audit order by id")] == [
        ("pause", None), ("unpause", None), ("pause", "alinear"), ("unpause", "alinear"),
    ]  # fmt: skip
    assert [one.terminate() for one in daemons] == [0, 0]
    assert all(SECRET not in one.log.read_text() and "burns" not in one.log.read_text() for one in daemons)
    assert all(len(one.lines("workflow.paused")) == len(one.lines("workflow.unpaused")) == 2 for one in daemons)


def _it_is_told_where_one_looks(bench: Bench) -> None:
    """What is paused is never said to be resumed, and a person's own try is refused as well."""
    refused = bench.resumed("resume", "alinear_0", "--force")
    assert refused.returncode == 1
    assert "paused: everything is paused since" in refused.stdout
    assert f"by ada: {SECRET}" in refused.stdout
    assert {one["action"] for one in bench.ask("scan")["threads"]} == {"wait"}
    assert f"by ada: {SECRET}; no attempt starts before" in bench.resumed("threads").stderr
    assert SECRET in bench.resumed("show", "alinear_0").stdout
    found = json.loads(bench.resumed("doctor", "--json").stdout)["findings"]
    [pause] = [one for one in found if one["check"] == "pauses"]
    assert (pause["level"], pause["remedy"]) == ("warning", "run `resumed unpause` when its reason is gone")


def test_what_is_cancelled_or_quarantined_stays_so_on_every_replica_running_or_not(bench: Bench) -> None:
    bench.application(1, "asking", "linear", ZOO_DELAY="0.01").wait(30)
    before = len(bench.effects("end"))
    bench.crashed_application(3, "alinear", "fragile", ends=before + 6, ZOO_DELAY="0.3", ZOO_VERSION="1")
    common = ["alinear", "asking", "linear"]
    old, new = ([*common, f"fragile=zoo.versions:{which}"] for which in ("first", "second"))
    assert bench.resumed("once", workflows=old, RESUMED_DRY_RUN="true").returncode == 0
    _said_of_each(bench)
    delay = Delay(bench.folder / "delay", 3)
    settings = {"ZOO_DELAY": str(delay.file), "RESUMED_CONCURRENCY": "1", "RESUMED_SHUTDOWN_GRACE": "1s"}
    bench.execute("update resumed.cases set due_at = due_at - interval '1 hour' where workflow = 'alinear'")
    bench.execute("insert into resumed.pauses values ('', true, 'us', 'until both are ready', now())")
    daemons = [bench.daemon(workflows=one, **settings) for one in (old, new)]
    some_sweeps(*[one.until_ready() for one in daemons])
    bench.execute("delete from resumed.pauses")
    eventually(lambda: len(inflight(bench)) == 2)
    one, two = inflight(bench)
    told(bench, "cancel", one, "--reason", SECRET)
    told(bench, "quarantine", two, "--reason", SECRET)
    eventually(lambda: not {one, two} & set(inflight(bench)))
    _stopped(bench, one, two)
    delay.set(0.1)
    eventually(lambda: not bench.rows("select from resumed.cases where state in ('due', 'running', 'backoff')"))
    some_sweeps(*daemons)
    found = cases_of(bench)
    finished = {name for name, row in found.items() if row["state"] == "closed"}
    assert (found[one]["verdict"], found[one]["state"]) == ("cancelled", "held")
    assert (found[two]["state"], found[two]["quarantine_reason"]) == ("quarantined", SECRET)
    assert {"alinear_0", "fragile_1", "asking_0"} & finished == set()
    assert bench.rows("select from resumed.attempts where charged") == []
    refused = bench.resumed("resume", "alinear_0", "--force", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["outcome"]) == (1, "cancelled")
    moved(bench, "alinear_0")
    moved(bench, "fragile_1")
    moved(bench, two)
    eventually(lambda: cases_of(bench)["alinear_0"]["state"] == "closed")
    assert final_state(bench.dsn, "alinear_0") == undisturbed("alinear")
    some_sweeps(*daemons)
    assert {cases_of(bench)[name]["state"] for name in (two, "fragile_1")} == {"quarantined"}
    assert told(bench, "release", two, "fragile_1", "asking_0")["released"] == 2
    eventually(lambda: {cases_of(bench)[name]["state"] for name in (two, "fragile_1")} == {"closed"})
    assert final_state(bench.dsn, two) == undisturbed(two.partition("_")[0])
    assert cases_of(bench)["asking_0"]["verdict"] == "cancelled"
    assert [one.terminate() for one in daemons] == [0, 0]
    assert all(SECRET not in one.log.read_text() for one in daemons)
    assert [line["cancelled"] for one in daemons for line in one.lines("stop.requested")].count(True) == 1


def _said_of_each(bench: Bench) -> None:
    """Due, waiting, finished and unknown threads, before anything runs."""
    done = told(bench, "--actor", "ada", "cancel", "-", "--reason", SECRET, given="alinear_0\n\nasking_0\nalinear_0\n")
    assert [(one["thread_id"], one["done"]) for one in done["threads"]] == [("alinear_0", True), ("asking_0", True)]
    done = told(bench, "quarantine", "linear_0", "nobody", "fragile_1", "--reason", "odd\x1b[31m one", code=1)
    assert [one["done"] for one in done["threads"]] == [False, False, True]
    assert "finished" in done["threads"][0]["said"]
    assert "no thread" in done["threads"][1]["said"]
    assert {name: cases_of(bench)[name]["state"] for name in ("alinear_0", "asking_0", "fragile_1")} == {
        "alinear_0": "held", "asking_0": "held", "fragile_1": "quarantined",
    }  # fmt: skip
    shown = bench.ask("show", "asking_0")
    assert shown["verdict"] == "cancelled"
    [asked] = shown["audit"]
    assert (asked["actor"], asked["action"], asked["reason"]) == ("ada", "cancel", SECRET)
    text = bench.resumed("show", "fragile_1").stdout
    assert "quarantine by " in text
    assert "@" in text
    assert r"odd\x1b[31m one" in text
    assert "\x1b" not in text


def _stopped(bench: Bench, cancelled: str, quarantined: str) -> None:
    """The cancelled one was stopped in its node, the other at the end of it; neither was charged."""
    query = "select thread_id, outcome, charged, after from resumed.attempts where thread_id = any(%(threads)s)"
    ended = {row["thread_id"]: row for row in bench.rows(query, threads=[cancelled, quarantined])}
    assert ended[cancelled]["outcome"] == "drained"
    assert ended[quarantined]["outcome"] in ("drained", "finished")  # the latter where it was in its last node
    assert not any(row["charged"] for row in ended.values())
    assert ended[cancelled]["after"] == cases_of(bench)[cancelled]["cancelled_head"] == head(bench, cancelled)
    inside = [line["edge"] for line in bench.effects() if line["thread"] == quarantined and line["attempt"] == 1]
    assert inside.count("start") == inside.count("end")


def test_what_was_given_up_is_released_by_name_by_workflow_and_as_a_whole(bench: Bench) -> None:
    bench.crashed_application(6, "fragile", ends=0, starts=6, ZOO_DELAY="0.5")
    broken = bench.folder / "broken"
    broken.touch()
    failing = {"ZOO_BREAK": str(broken), "RESUMED_MAX_ATTEMPTS": "1", "ZOO_DELAY": "0.01"}
    assert bench.resumed("once", **failing).returncode == 1
    assert {row["state"] for row in bench.rows(CASES)} == {"quarantined"}
    many = bench.resumed("release", "--all")
    assert (many.returncode, many.stdout) == (2, "")
    assert "6 threads" in many.stderr
    assert "--yes" in many.stderr
    assert told(bench, "release", "fragile_0", "nobody")["released"] == 1
    again = bench.resumed("release", "fragile_0")
    assert again.returncode == 1
    assert "not in quarantine" in again.stdout
    assert told(bench, "release", "-", given="fragile_1\nfragile_2\n")["released"] == 2
    assert told(bench, "release", "--workflow", "another", "--yes", code=1)["released"] == 0
    assert {row["state"] for row in bench.rows(CASES)} == {"quarantined", "due"}
    assert told(bench, "release", "--workflow", "fragile", "--yes")["released"] == 3
    assert bench.resumed("release", "--all").returncode == 1
    assert bench.resumed("once", **failing).returncode == 1
    forced = bench.resumed("--actor", "ben", "resume", "fragile_0", "--force", **failing)
    assert forced.returncode == 1
    assert "failed" in forced.stdout
    broken.unlink()
    done = bench.resumed("release", "--all", "--yes")
    assert (done.returncode, done.stdout) == (0, "6 released\n")
    assert bench.resumed("once", "--wait", **failing).returncode == 0
    assert all(final_state(bench.dsn, f"fragile_{number}") == undisturbed("fragile") for number in range(6))
    written = [(one["action"], one["actor"]) for one in bench.ask("show", "fragile_0")["audit"]]
    assert [action for action, _ in written] == ["release", "resume", "release"]
    assert written[1] == ("resume", "ben")


def test_what_cannot_be_done_is_said_in_a_sentence(bench: Bench) -> None:
    for code, *arguments in ((2, "pause"), (1, "cancel", "", "--reason", "x"), (1, "unpause", "alinear")):
        done = bench.resumed(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), arguments
        assert done.stdout + done.stderr
    doubted = bench.resumed("pause", "ordres", "--reason", "x" * 5000)
    assert doubted.returncode == 0
    assert "check the name" in doubted.stderr
    assert bench.one("select length(reason) from resumed.pauses") == 1000
    bench.execute("drop schema resumed cascade")
    for arguments in (["pause", "--reason", "x"], ["release", "--all", "--yes"]):
        done = bench.resumed(*arguments)
        assert done.returncode == 3
        assert "run `resumed migrate`" in done.stderr
