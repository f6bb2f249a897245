"""Retention under fire: threads of every kind are pruned by two daemons and by commands while applications write."""

import json
import os
import random
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

from acceptance.conftest import DEADLINE, GRAPHS, Bench, eventually

sys.path.insert(0, str(GRAPHS))
from kept import graphs, threads

ALL = bool(os.environ.get("RESUMED_TEST_ALL"))
COUNT = 67 if ALL else 2  # of each kind and strategy: 2010 threads, or 60
FIRE = timedelta(seconds=240 if ALL else 4)
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
        self.pruners: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def write(self, how: str, names: list[str]) -> None:
        command = [sys.executable, "-m", "kept.writer", self.bench.dsn, how, *names]
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


def age_marks(bench: Bench) -> None:
    """Let the hour pass for what is marked, but where an application saves without the lock: there it is needed."""
    bench.execute(
        "update resumed.prune_marks set marked_at = marked_at - interval '3 hours'"
        " where deleted_at is null and thread_id !~ '_(unlocked|vanishing)_'"
    )


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
        eventually(lambda: fire.events("threads.pruned"))
        burns_until = time.monotonic() + FIRE.total_seconds()
        while time.monotonic() < burns_until or not all_pruned(bench):
            age_marks(bench)
            time.sleep(random.uniform(0, 0.5))
            if first.poll() is None and random.random() < 0.3:
                first.kill()
                first.wait()
                first = fire.prune()
            if time.monotonic() > burns_until + DEADLINE:
                pytest.fail("not everything was pruned")
        said = fire.end()
        assert all(int(one.split()[-1]) > 0 for one in said), said
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


@pytest.mark.parametrize("step", ["keep_latest", "mark", "delete"])
@pytest.mark.parametrize("kind", ["chat", "stateful", "updated"])
def test_a_death_at_any_statement_leaves_the_thread_whole_or_pruned(bench: Bench, step: str, kind: str) -> None:
    thread = f"{'kept' if step == 'keep_latest' else 'gone'}_{kind}_0"
    with PostgresSaver.from_conn_string(bench.dsn) as saver, psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute(threads.AGE)
        threads.make(saver, thread)
        connection.execute("select make_older(%s, '2 days')", [thread])
        before = threads.seen(saver, thread)
        strategy = "keep_latest" if step == "keep_latest" else "delete"
        if step == "delete":
            assert killed(bench, thread, strategy)["code"] == 0
        told = killed(bench, thread, strategy, *(["marked"] if step == "delete" else []))
        assert told["deaths"] > 20
        assert (told["changed"], told["code"]) == (1, 0)
        if step != "delete":
            assert threads.seen(saver, thread) == before
            assert bench.rows(threads.MISSING) == []
        else:
            assert [bench.one(f"select count(*) from {table}") for table in TABLES] == [0, 0, 0]


def killed(bench: Bench, thread: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "kept.killed", bench.dsn, thread, *options]
    done = subprocess.run(
        command, env=bench.environment(WORKFLOWS), capture_output=True, text=True, timeout=DEADLINE * 2, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told
