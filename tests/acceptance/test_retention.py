"""Retention under fire: threads of every kind are pruned by two daemons and by commands while applications write."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from support.bench import GRAPHS, Bench
from support.waiting import DEADLINE, eventually

sys.path.insert(0, str(GRAPHS))
from kept import graphs, threads

ALL = bool(os.environ.get("RESUMED_TEST_ALL"))
COUNT = 67 if ALL else 2  # of each kind and strategy: 2010 threads, or 60
FIRE = timedelta(seconds=240 if ALL else 4)
PATIENCE = 1200 if ALL else DEADLINE
LOOK = timedelta(seconds=5 if ALL else 0)  # how long a look stands at its end before the next one begins
TABLES = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")
WORKFLOWS = [f"{name}=kept.graphs:{name}" for name in graphs.ALL]


def rows_of(bench: Bench, kinds: tuple[str, ...]) -> list[Any]:
    """Every row of the threads of these kinds."""
    pattern = f"^(kept|gone)_({'|'.join(kinds)})_"
    query = "select to_jsonb(t) as row from {} t where thread_id ~ %(pattern)s order by to_jsonb(t)"
    return [[row["row"] for row in bench.rows(query.format(one), pattern=pattern)] for one in TABLES]


class Fire:
    """The processes of the test, and what they wrote."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.rounds = bench.folder / "rounds"
        self.writers: list[subprocess.Popen[str]] = []
        self.begun: list[Path] = []
        self.pruners: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def write(self, how: str, names: list[str]) -> None:
        self.begun.append(self.bench.folder / f"begun-{how}")
        command = [sys.executable, "-m", "kept.writer", self.bench.dsn, how, str(self.begun[-1]), *names]
        process = subprocess.Popen(
            command, env=self.bench.environment(WORKFLOWS), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.writers.append(process)
        self.bench.processes.append(process)

    def prune(self) -> subprocess.Popen[bytes]:
        log = self.bench.folder / f"pruner-{len(self.logs)}.log"
        self.logs.append(log)
        environment = self.bench.environment(WORKFLOWS)
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "kept.pruner", str(self.rounds)], env=environment, stderr=stderr
            )
        self.pruners.append(process)
        self.bench.processes.append(process)
        return process

    def end(self) -> list[str]:
        """End everything, the writers first; returns what each of them said last."""
        for process in self.writers:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=DEADLINE)[0] for process in self.writers]
        for pruner in self.pruners:
            if pruner.poll() is None:
                pruner.send_signal(signal.SIGTERM)
                pruner.wait(DEADLINE)
        assert [process.returncode for process in self.writers] == [0] * len(self.writers), said
        return said

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for log in self.logs for line in log.read_text().splitlines() if line.startswith("{")]
        return [told for line in lines if (told := json.loads(line))["event"] == name]

    def has_begun(self, pruner: "subprocess.Popen[bytes]") -> bool:
        """Return whether a pruner has made a round yet."""
        return self.rounds.exists() and f"begin {pruner.pid} " in self.rounds.read_text()

    def overlaps(self) -> list[tuple[str, str]]:
        """Rounds that began before that of another process had ended; a killed one ended before the next began."""
        found, holder = [], ""
        lines = [line.split() for line in self.rounds.read_text().splitlines()]
        killed = {str(one.pid) for one in self.pruners if one.returncode == -signal.SIGKILL}
        for what, pid, _ in sorted(lines, key=lambda line: float(line[2])):
            if what == "begin" and holder not in ("", pid) and holder not in killed:
                found.append((holder, pid))
            holder = pid if what == "begin" else ""
        return found


def pass_time(bench: Bench, ended: list[str] | None = None) -> None:
    """Let the hour pass for what is marked, but where an application saves without the lock: there it is needed.

    A day passes for the look as well, or for those that have `ended`, which then begin again.
    """
    bench.execute(
        "update resumed.prune_positions set cycle_at = cycle_at - interval '1 day'"
        " where %(all)s or policies = any(%(ended)s)",
        all=ended is None,
        ended=ended or [],
    )
    bench.execute(
        "update resumed.prune_marks set marked_at = marked_at - interval '3 hours'"
        " where deleted_at is null and thread_id !~ '_(unlocked|vanishing)_'"
    )


def ended_looks(bench: Bench, reached: dict[str, Any]) -> list[str]:
    """Name the looks that have come to their end, since they do not move on from where they were `reached`."""
    now, ended = time.monotonic(), []
    for row in bench.rows("select policies, checkpoint_id, thread_id from resumed.prune_positions"):
        position, since = reached.get(row["policies"], (None, now))
        if position != row:
            reached[row["policies"]] = row, now
        elif now - since >= LOOK.total_seconds():
            ended.append(reached.pop(row["policies"])[0]["policies"])
    return ended


def all_pruned(bench: Bench) -> bool:
    finished = "|".join(threads.FINISHED)
    kept = bench.one(
        "select count(*) from (select from checkpoints where thread_id ~ %(kinds)s group by thread_id, checkpoint_ns"
        " having count(*) > 1) x",
        kinds=f"^kept_({finished.replace('|delta', '')})_",
    )
    gone = bench.one("select count(*) from checkpoints where thread_id ~ %(kinds)s", kinds=f"^gone_({finished})_")
    return not kept and not gone


@pytest.mark.timeout(1800 if ALL else 240)
def test_no_thread_loses_anything_that_it_may_keep_while_applications_write(bench: Bench) -> None:
    names = threads.make_all(bench.dsn, COUNT)
    quarantined = [one for one in names if "_quarantined_" in one]
    done = bench.resumed("quarantine", *quarantined, "--reason", "x", workflows=WORKFLOWS)
    assert done.returncode == 0, done.stderr
    others = tuple(kind for kind in graphs.KINDS if kind not in (*threads.FINISHED, *threads.FOREIGN))
    kept = [one for one in names if one.startswith("kept_") and one.split("_")[1] in threads.FINISHED]
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        before = {thread: threads.seen(saver, thread) for thread in kept}
        untouched, delta = rows_of(bench, others), rows_of(bench, ("delta",))
        fire = Fire(bench)
        for how in threads.FOREIGN:
            fire.write(how, [one for one in names if f"_{how}_" in one])
        first, _ = fire.prune(), fire.prune()
        eventually(lambda: fire.events("threads.pruned") and all(one.exists() for one in fire.begun))
        burns_until = time.monotonic() + FIRE.total_seconds()
        reached: dict[str, Any] = {}
        while time.monotonic() < burns_until or not all_pruned(bench):
            pass_time(bench, ended_looks(bench, reached))
            time.sleep(random.uniform(0, 0.5))
            if fire.has_begun(first) and (ALL or len(fire.pruners) == 2):
                first.kill()
                first.wait()
                first = fire.prune()
            if time.monotonic() > burns_until + PATIENCE:
                pytest.fail("not everything was pruned")
        said = fire.end()
        assert all(re.search(r"^done [1-9]", one, re.MULTILINE) for one in said), said
        assert {thread: threads.seen(saver, thread) for thread in kept} == before
    assert rows_of(bench, others) == untouched
    assert [one for one in delta[0] if one["thread_id"].startswith("kept")] == rows_of(bench, ("delta",))[0]
    assert bench.rows(threads.MISSING) == []
    assert [row for row in bench.rows(threads.ORPHANS) if row["thread_id"].startswith("gone")] == []
    assert rows_of(bench, ("gone",)) == [[], [], []]
    assert fire.overlaps() == []
    assert fire.events("prune.raced") == []
    assert fire.events("round.failed") == []
    refused = {line["reason"] for line in fire.events("prune.refused")}
    assert {"unfinished", "open_case", "delta_channel"} <= refused


DEATHS = [
    ("delete", "updated"),
    *(pytest.param(*one, marks=pytest.mark.thorough) for one in (("keep_latest", "chat"), ("mark", "stateful"))),
]
MORE_DEATHS = [(step, kind) for step in ("keep_latest", "mark", "delete") for kind in threads.FINISHED[:-1]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("step", "kind"), MORE_DEATHS if ALL else DEATHS)
def test_a_death_at_any_statement_leaves_the_thread_whole_or_pruned(bench: Bench, step: str, kind: str) -> None:
    thread = f"{'kept' if step == 'keep_latest' else 'gone'}_{kind}_0"
    with PostgresSaver.from_conn_string(bench.dsn) as saver, psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute(threads.AGE)
        threads.make(saver, thread)
        connection.execute("select make_older(%s, '2 days')", [thread])
        before = threads.seen(saver, thread)
        command = [sys.executable, "-m", "kept.killed", bench.dsn, thread, step]
        environment = bench.environment(WORKFLOWS)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["deaths"] > 20
        assert (told["states"], told["code"]) == (2, 0)
        if step != "delete":
            assert threads.seen(saver, thread) == before
            assert bench.rows(threads.MISSING) == []
        else:
            assert [bench.one(f"select count(*) from {table}") for table in TABLES] == [0, 0, 0]


# The command


@pytest.fixture
def old_threads(bench: Bench) -> list[str]:
    """Two chats and one thread that waits, of either strategy, two days old."""
    made = [f"{one}_{kind}_{n}" for one in ("kept", "gone") for kind, n in (("chat", 0), ("chat", 1), ("waiting", 0))]
    with PostgresSaver.from_conn_string(bench.dsn) as saver, psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute(threads.AGE)
        for thread in made:
            threads.make(saver, thread)
            connection.execute("select make_older(%s, '2 days')", [thread])
    return made


FEW = [f"{name}=kept.graphs:{name}" for name in ("kept_chat", "gone_chat", "kept_waiting", "gone_waiting")]


def test_the_command_counts_first_then_keeps_the_newest_and_says_what_it_did(
    bench: Bench, old_threads: list[str]
) -> None:
    before = rows_of(bench, ("chat", "waiting"))
    command = ["prune", "--older-than", "1d", "--json"]
    counted = json.loads(bench.resumed(*command, "--dry-run", workflows=FEW).stdout)
    assert rows_of(bench, ("chat", "waiting")) == before
    assert bench.one("select count(*) from resumed.audit") == 0
    refused = bench.resumed(*command, workflows=FEW)
    assert refused.returncode == 2
    assert "say --yes" in refused.stderr
    done = bench.resumed("--actor", "ann", *command, "--yes", workflows=FEW)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {**counted, "dry_run": False}
    assert (told["pruned"], told["marked"], told["deleted"]) == (4, 0, 0)
    of_one = next(one for one in told["workflows"] if one["workflow"] == "kept_chat")
    assert (of_one["strategy"], of_one["older_than"], of_one["pruned"]) == ("keep_latest", "1d", 2)
    left = sum(len(one) for one in rows_of(bench, ("chat", "waiting")))
    assert sum(len(one) for one in before) - left == told["rows"]
    audit = bench.rows("select actor, action, workflow, reason from resumed.audit order by workflow")
    assert [(one["actor"], one["action"], one["workflow"]) for one in audit] == [
        ("ann", "prune", "gone_chat"),
        ("ann", "prune", "kept_chat"),
    ]
    assert audit[0]["reason"].startswith("keep_latest: 2 pruned; ")
    again = json.loads(bench.resumed(*command, "--yes", workflows=FEW).stdout)
    assert (again["pruned"], again["rows"], again["bytes"]) == (0, 0, 0)
    assert [bench.one("select count(*) from checkpoints where thread_id ~ 'waiting'")] == [
        sum("waiting" in row["thread_id"] for row in before[0])
    ]


@pytest.mark.thorough
def test_the_command_deletes_what_it_has_marked_an_hour_before(bench: Bench, old_threads: list[str]) -> None:
    command = ["prune", "--delete", "--yes", "--json"]
    first = json.loads(bench.resumed(*command, workflows=FEW).stdout)
    assert (first["marked"], first["deleted"]) == (2, 0)
    assert [one["workflow"] for one in first["workflows"]] == ["gone_chat", "gone_waiting"]  # not what asks to be kept
    second = json.loads(bench.resumed(*command, workflows=FEW).stdout)
    assert (second["marked"], second["deleted"]) == (0, 0)
    pass_time(bench)
    third = json.loads(bench.resumed(*command, workflows=FEW).stdout)
    assert (third["marked"], third["deleted"]) == (0, 2)
    left = {row["thread_id"] for row in bench.rows("select thread_id from checkpoints")}
    assert left == {one for one in old_threads if not one.startswith("gone_chat")}
    named = json.loads(bench.resumed(*command, "--workflow", "kept_chat", workflows=FEW).stdout)
    assert named["marked"] == 2


@pytest.mark.thorough
def test_the_command_says_what_is_missing(bench: Bench, old_threads: list[str]) -> None:
    plain = ["kept_chat=kept.graphs:built_chat"]
    for command, code, said in (
        (["--keep-latest", "--delete", "--dry-run"], 2, "exclude each other"),
        (["--older-than", "0s", "--dry-run"], 2, "longer than 0s"),
        (["--workflow", "nobody", "--dry-run"], 1, "no worker here has the workflow 'nobody'"),
        (["--dry-run"], 1, "say it with --older-than"),
    ):
        done = bench.resumed("prune", *command, workflows=plain)
        assert (done.returncode, said in done.stderr) == (code, True), (command, done.stderr)
    bench.execute("drop index resumed_checkpoint_id_idx")
    done = bench.resumed("prune", "--older-than", "1d", "--dry-run", workflows=plain)
    assert (done.returncode, "run `resumed migrate`" in done.stderr) == (3, True), done.stderr


# The daemon


@pytest.mark.thorough
def test_the_daemon_prunes_by_its_settings_and_by_what_workflows_say(bench: Bench, old_threads: list[str]) -> None:
    workflows = [*FEW[:2], "gone_waiting=kept.graphs:built_waiting"]
    daemon = bench.daemon(workflows, RESUMED_PRUNE_OLDER_THAN="1d")
    eventually(lambda: len(daemon.lines("threads.pruned")) >= 2)
    counts = bench.rows("select thread_id, count(*)::int as n from checkpoints group by thread_id")
    assert {row["thread_id"]: row["n"] == 1 for row in counts} == {one: "chat" in one for one in old_threads}
    assert {row["thread_id"] for row in bench.rows("select thread_id from resumed.prune_marks")} == {
        "gone_chat_0",
        "gone_chat_1",
    }
    pruned = {labels["workflow"]: n for labels, n in daemon.samples("resumed_pruned_threads_total") if n}
    assert pruned == {"kept_chat": 2, "gone_chat": 2}
    pass_time(bench)
    eventually(lambda: sum(line["deleted"] for line in daemon.lines("threads.pruned")) == 2)  # one after the other
    assert bench.one("select count(*) from checkpoints where thread_id ~ 'gone_chat'") == 0
    announced = bench.rows("select name, retention, retain from resumed.workflows order by name")
    assert [tuple(one.values()) for one in announced] == [
        ("gone_chat", "delete", timedelta(hours=1)),
        ("gone_waiting", None, None),
        ("kept_chat", "keep_latest", timedelta(hours=1)),
    ]
    assert daemon.terminate() == 0
