"""A person asked and answering, the process killed before any call of its saver: no answer forged, lost or asked twice.

A fixed sample of the points; RESUMED_TEST_ALL=1 runs all of them.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from support.bench import GRAPHS, Bench
from support.command import Done, run_here
from support.databases import outliving_sessions
from support.tiers import small, whole
from support.waiting import eventually

if str(GRAPHS) not in sys.path:
    sys.path.insert(0, str(GRAPHS))

from people import evidence
from people.flows import FLOWS, UNKNOWABLE

from resumed.demo.postgres import find_binaries

ALL = bool(os.environ.get("RESUMED_TEST_ALL"))
PATIENCE = 3000.0 if ALL else 150.0
RESUMABLE = ("failed", "stopped")
ENTRIES = [f"{name}=people.registered:{name}" for name in FLOWS]
BOTH = [("sync", "sync"), ("async", "async")]
CROSSED = [("sync", "async"), ("async", "sync")]


def whole_talk(thread: str) -> str:
    """Name the thread whose conversation this one is up to the kill."""
    return f"{':'.join(thread.split(':')[:5])}:end:0"


@dataclass
class Truth:
    """What the driver knows and the tables hold, by thread, before the daemon has seen any of it."""

    points: dict[str, dict[str, Any]]
    texts: dict[str, bytes] = field(default_factory=dict)
    asked: dict[str, set[str]] = field(default_factory=dict)
    ahead: set[str] = field(default_factory=set)
    heads: dict[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def threads(self) -> list[str]:
        """All that have left anything behind."""
        return sorted(self.texts)

    @property
    def talking(self) -> list[str]:
        """All whose conversation can be brought to its end."""
        return sorted(set(self.texts) - self.ahead)

    def questions(self, thread: str) -> list[str]:
        """All questions of the thread's conversation, as it went to its end."""
        return list(self.points[whole_talk(thread)]["given"])

    def open_questions(self, thread: str) -> set[str]:
        """What is asked of a person and has no answer anywhere among the thread's rows."""
        asked = self.asked.get(thread, set())
        return {one for one in asked if not evidence.stored(self.texts[thread], one)}

    def died(self, thread: str) -> bool:
        """The process died before the thread's last checkpoint: calls in threads beside it may come after that."""
        return bool(self.points[thread]["killed"]) and self.heads.get(thread) != self.heads[whole_talk(thread)]

    def finished(self, thread: str) -> bool:
        return not self.died(thread) and not self.open_questions(thread)

    def resumable(self, thread: str) -> bool:
        """The process died and no question that a person can see lacks its answer."""
        return self.died(thread) and thread not in self.ahead and not self.open_questions(thread)

    def complete(self, thread: str) -> bool:
        """Every question of the whole conversation has its answer."""
        return all(evidence.stored(self.texts[thread], one) for one in self.questions(thread))


@dataclass
class People:
    """One database full of conversations, and the daemon that is let loose on it."""

    bench: Bench
    serde: str = "plain"

    def settings(self) -> dict[str, str]:
        return {"PEOPLE_SERDE": self.serde, "PEOPLE_LOG": str(self.bench.effects_file)}

    def ran(self, command: Sequence[str]) -> Any:
        with outliving_sessions(self.bench.dsn) as named:
            return subprocess.run(
                command, env=self.bench.environment(ENTRIES, **named, **self.settings()), cwd=self.bench.folder,
                capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip

    def command(self, *arguments: str) -> Done:
        return run_here(arguments, self.bench.environment(ENTRIES, **self.settings()), self.bench.folder)

    def held_talks(self, *plans: dict[str, Any]) -> Truth:
        made = [{"flows": list(FLOWS), **plan} for plan in plans]
        done = self.ran([sys.executable, "-m", "people.driver", self.bench.dsn, json.dumps(made)])
        assert done.returncode == 0, done.stderr
        return self.seen(Truth({point["thread"]: point for point in json.loads(done.stdout)}))

    def seen(self, truth: Truth) -> Truth:
        """Read what the tables hold now."""
        dsn = self.bench.dsn
        return Truth(truth.points, evidence.texts(dsn), evidence.asked(dsn), evidence.ahead(dsn), evidence.heads(dsn))

    def scanned(self) -> dict[str, Any]:
        done = self.command("scan", "--json")
        assert done.returncode == 0, done.stderr
        return {one["thread_id"]: one for one in json.loads(done.stdout)["threads"]}

    def forced(self, threads: Sequence[str]) -> None:
        """Nobody's decision is taken, not even when somebody insists."""
        for thread in threads:
            done = self.command("resume", thread, "--force")
            assert (done.returncode, "that is for a person to decide" in done.stdout) == (1, True), done

    def swept(self, sweeps: int) -> None:
        daemon = self.bench.daemon(ENTRIES, **self.settings()).until_ready()
        before = daemon.sweeps()
        eventually(lambda: daemon.sweeps() >= before + sweeps, PATIENCE)
        assert daemon.terminate() == 0

    def resumed(self) -> None:
        done = self.command("once", "--wait")
        assert done.returncode == 0, done.stderr

    def forged(self, threads: Sequence[str]) -> dict[str, Any]:
        states = evidence.states(self.bench.dsn, list(threads))
        found = {thread: evidence.forged(state) for thread, state in states.items()}
        return {thread: one for thread, one in found.items() if one} | dict.fromkeys(evidence.misplaced(self.bench.dsn))

    def ends(self) -> Counter[tuple[str, str]]:
        """Count what each node of each thread has done; the undisturbed talks in memory are nobody's."""
        effects = evidence.effects(self.bench.effects_file)
        return Counter(
            (one["thread"], one["node"])
            for one in effects
            if one["edge"] == "end" and not one["thread"].endswith(":memory")
        )


@cache
def undisturbed() -> dict[str, Any]:
    return asyncio.run(evidence.undisturbed())


def told(**figures: Any) -> None:
    """Say how much was tried, for whoever runs all of it."""
    print(json.dumps(figures))


def judged_right(truth: Truth, scanned: dict[str, Any]) -> set[str]:
    """Hold every verdict against the truth; gives the threads that wait only because their order is unknown."""
    unknown = {one for one, row in scanned.items() if truth.resumable(one) and "order is unknown" in row["reason"]}
    expected = {
        one: "resume" if truth.resumable(one) and one not in unknown else "waiting"
        for one in truth.threads
        if not truth.finished(one)
    } | dict.fromkeys(truth.ahead, "incompatible")
    said = {one: "resume" if row["verdict"] in RESUMABLE else row["verdict"] for one, row in scanned.items()}
    wrong = {
        one: (expected.get(one), said.get(one), scanned.get(one, {}).get("reason"))
        for one in {*expected, *said}
        if expected.get(one) != said.get(one)
    }
    assert wrong == {}, json.dumps(wrong, indent=1)
    return unknown


def finished_right(people: People, truth: Truth, held: set[str]) -> None:
    """The daemon finishes what has all its answers, takes the rest to its next question, and touches nothing else."""
    before, ends = evidence.fingerprints(people.bench.dsn), people.ends()
    saved = evidence.found_again(people.bench.dsn)
    people.resumed()
    assert people.forged(truth.threads) == {}
    after = evidence.fingerprints(people.bench.dsn)
    going_on = {one for one in truth.threads if truth.resumable(one)} - held
    assert {one for one in truth.threads if before[one] != after[one]} == going_on
    attempts = people.bench.rows("select thread_id, outcome from resumed.attempts")
    assert sorted((row["thread_id"], row["outcome"]) for row in attempts) == sorted(
        (one, "finished" if truth.complete(one) else "waiting") for one in going_on
    )
    states = evidence.states(people.bench.dsn, truth.threads)
    complete = {one for one in truth.threads if truth.finished(one) or (one in going_on and truth.complete(one))}
    assert {one: states[one] for one in complete if states[one] != undisturbed()[evidence.flow_of(one)]} == {}
    again = people.ends() - ends
    done = {(thread, node) for thread, node in again if f"did {node}".encode() in saved[thread]}
    assert done == set()
    assert {one: count for one, count in again.items() if count > 1} == {}
    assert people.forged(truth.threads) == {}


def left_alone(people: People, waiting: list[str], forced: int) -> None:
    """Ten sweeps and a person who insists change nothing of what waits."""
    before, ran = evidence.fingerprints(people.bench.dsn), len(evidence.effects(people.bench.effects_file))
    people.swept(10 * (1 + len(waiting) // 1000))  # a sweep looks at a thousand held ones
    people.forced(waiting[:: max(len(waiting) // forced, 1)][:forced])
    assert evidence.fingerprints(people.bench.dsn) == before
    assert len(evidence.effects(people.bench.effects_file)) == ran


def answered_at_last(people: People, truth: Truth, unknown: set[str]) -> int:
    """The person comes back: is asked only what has no answer yet, and each thread ends undisturbed."""
    started = people.ends()
    known = {
        one: {question for question in truth.questions(one) if evidence.stored(truth.texts[one], question)}
        for one in truth.talking
        if one not in unknown
    }
    ended = asyncio.run(evidence.answer_all(people.bench.dsn, truth.talking, known))
    assert people.forged(truth.talking) == {}
    exposed = {one for one, end in ended.items() if end == "exposed"}
    assert {
        one: end for one, end in ended.items() if end != ("exposed" if ":null:" in one and one in exposed else "done")
    } == {}
    states = evidence.states(people.bench.dsn, truth.talking)
    assert {
        one: states[one] for one in {*truth.talking} - exposed if states[one] != undisturbed()[evidence.flow_of(one)]
    } == {}
    again = people.ends() - started
    assert {one for one in again if f"did {one[1]}".encode() in truth.texts[one[0]]} == set()
    return len(exposed)


@pytest.fixture(autouse=True)
def _log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEOPLE_LOG", str(bench.effects_file))


def taken_through(people: People, truth: Truth, forced: int = 40 if ALL else 3) -> set[str]:
    """Judge, resume, leave alone, answer: gives the threads that were held because their order is unknown."""
    unknown = judged_right(truth, people.scanned())
    finished_right(people, truth, unknown)
    after = people.seen(truth)
    waiting = [one for one in truth.threads if after.open_questions(one) or one in unknown]
    left_alone(people, waiting, forced)
    exposed = answered_at_last(people, after, unknown)
    resumed = sum(map(truth.resumable, truth.threads))
    told(points=len(truth.points), resumed=resumed, waiting=len(waiting), unknown=len(unknown), exposed=exposed)
    return unknown


def knowable(thread: str) -> bool:
    """Say whether the order of a thread's rows can be known: by id always, and but for a few flows by a null answer."""
    return ":null:" not in thread or evidence.flow_of(thread) not in UNKNOWABLE


FEW = sorted({*UNKNOWABLE, "inside", "beside_inside", "function_beside"})


def plans(half: int | None) -> list[dict[str, Any]]:
    """Give what is tried: all of it, or a sample that has each flow, saver, style and variant in it; None for a few."""
    if half is None:
        return [
            {"flows": sorted(FLOWS)[::2], "lanes": BOTH[:1], "styles": ["null"], "every": 8},
            {"flows": sorted(FLOWS)[1::2], "lanes": BOTH[1:], "styles": ["map"], "every": 12},
        ]
    if ALL:
        styles = ["null", "map", "all"]
        exhaustive: list[dict[str, Any]] = [
            {"styles": styles, "lanes": [*BOTH, *CROSSED]},
            {"serde": "slow", "styles": styles, "lanes": BOTH, "at_once": 8},
            {"serde": "late", "styles": ["null", "map"], "lanes": BOTH, "at_once": 8},
            {"one_transaction": True, "lanes": BOTH, "styles": styles},
        ]
        return exhaustive[half::2]
    sample: list[dict[str, Any]] = [
        {"lanes": BOTH[:1], "styles": ["null"], "every": 4},
        {"lanes": BOTH[1:], "styles": ["map"], "every": 6},
        {"flows": FEW, "serde": "slow", "lanes": BOTH[1:], "styles": ["null"], "every": 4, "at_once": 6},
        {"flows": FEW, "serde": "late", "lanes": BOTH[1:], "styles": ["null"], "every": 2, "at_once": 6},
        {"flows": FEW, "one_transaction": True, "lanes": BOTH[:1], "styles": ["null"], "every": 4},
    ]
    return sample[:2] if half == 0 else sample[2:]


@pytest.mark.timeout(PATIENCE * 2)
@pytest.mark.parametrize("half", [small(None, id="a few"), whole(0, id="first half"), whole(1, id="second half")])
def test_killed_at_any_call_no_answer_is_forged_or_lost_and_every_talk_comes_to_its_end(
    bench: Bench, half: int | None
) -> None:
    people = People(bench, "slow")
    truth = people.held_talks(*plans(half))
    unknown = taken_through(people, truth) if half is not None else taken_through(people, truth, forced=1)
    assert {one for one in unknown if ":null:" not in one} == set()
    assert {one for one in unknown if one.split(":")[1] == "plain" and knowable(one)} == set()
    assert [one for one in truth.threads if one.split(":")[1] == "transaction" and truth.resumable(one)] == []


@pytest.mark.thorough
@pytest.mark.timeout(PATIENCE * 2)
def test_after_dump_and_restore_no_answer_is_forged_and_what_needs_none_goes_on(bench: Bench) -> None:
    people = People(bench)
    truth = people.held_talks(
        {"styles": ["null", "map"]} if ALL else {"lanes": BOTH[:1], "styles": ["null"], "every": 4}
    )
    dumped_and_restored(bench)
    unknown = taken_through(people, truth)
    assert {one for one in unknown if ":null:" not in one} == set()


def dumped_and_restored(bench: Bench) -> None:
    """As an operator would: from now on the rows of a table all have one transaction, and no order."""
    binaries, dump = find_binaries(), bench.folder / "threads.sql"
    tables = [f"--table={table}" for table in evidence.TABLES]
    dumping = [binaries / "pg_dump", bench.dsn, "--data-only", *tables, "--file", dump]
    subprocess.run(dumping, check=True, capture_output=True)
    before = bench.one("select count(*) from checkpoint_writes")
    bench.execute(f"truncate {', '.join(evidence.TABLES)}")
    subprocess.run([binaries / "psql", bench.dsn, "-v", "ON_ERROR_STOP=1", "-f", dump], check=True, capture_output=True)
    assert bench.one("select count(*) from checkpoint_writes") == before
    assert bench.one("select count(distinct xmin::text) from checkpoint_writes") == 1
