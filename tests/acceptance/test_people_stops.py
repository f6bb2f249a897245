"""Breakpoints, edits, forks and commands: what a person did is gone on with, and nobody else's step is taken."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver

from support.bench import GRAPHS, Bench
from support.tiers import small, whole
from support.waiting import eventually

if str(GRAPHS) not in sys.path:
    sys.path.insert(0, str(GRAPHS))

from people import evidence
from people.breakpoints import GATED, SCENES, Scene, act, compiled, completed
from people.stage import begin, config_of

ENTRIES = [f"{name}=people.registered:gate_{name}" for name in GATED]
PERSONS = ("breakpoint", "edited", "waiting")


def expected(name: str, scene: Scene) -> Any:
    """Play a scene in memory, where nobody dies, and let the person finish it."""
    graph, config = compiled(scene.flow, InMemorySaver()), config_of(name, scene.flow)
    begin(graph, name, scene.flow)
    for done in scene.acts[:-1] if scene.lost else scene.acts:
        act(graph, config, scene.flow, done)
    return completed(graph, config)


def ends(log: Path) -> dict[str, int]:
    """Count how often each thread's nodes have come to their end."""
    counts: dict[str, int] = {}
    for one in evidence.effects(log):
        counts[one["thread"]] = counts.get(one["thread"], 0) + 1
    return counts


@pytest.mark.parametrize("forced", [small(PERSONS[:1], id="one"), whole(PERSONS, id="each kind")])
def test_what_a_person_has_to_decide_stays_theirs_and_what_they_decided_is_gone_on_with(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, forced: tuple[str, ...]
) -> None:
    settings: Any = {"workflows": ENTRIES, "PEOPLE_LOG": str(bench.effects_file)}
    log = bench.folder / "stage.log"
    assert bench.module("people.stage", bench.dsn, log=log, **settings).wait(120) == 0, log.read_text()
    scanned = {one["thread_id"]: one for one in bench.ask("scan", **settings)["threads"]}
    said = {name: scanned[name]["verdict"] if name in scanned else None for name in SCENES}
    assert {name: said[name] for name, scene in SCENES.items() if said[name] != scene.verdict} == {}
    before, ran = evidence.fingerprints(bench.dsn), ends(bench.effects_file)
    assert bench.resumed("once", "--wait", **settings).returncode == 0
    after = evidence.fingerprints(bench.dsn)
    going_on = {name for name, scene in SCENES.items() if scene.verdict == "stopped"}
    assert {name for name in SCENES if before[name] != after[name]} == going_on
    assert {row["thread_id"] for row in bench.rows("select thread_id from resumed.attempts")} == going_on
    daemon = bench.daemon(**settings).until_ready()
    sweeps = daemon.sweeps()
    eventually(lambda: daemon.sweeps() >= sweeps + 10)
    assert daemon.terminate() == 0
    for verdict in forced:
        name = next(name for name, scene in SCENES.items() if scene.verdict == verdict and scene.dies)
        done = bench.resumed("resume", name, "--force", **settings)
        assert (done.returncode, "that is for a person to decide" in done.stdout) == (1, True), done
    assert evidence.fingerprints(bench.dsn) == after
    held = [name for name, scene in SCENES.items() if scene.verdict in PERSONS]
    assert {name: ends(bench.effects_file).get(name) for name in held} == {name: ran.get(name) for name in held}
    monkeypatch.setenv("PEOPLE_LOG", os.devnull)
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        states = {name: completed(compiled(one.flow, saver), config_of(name, one.flow)) for name, one in SCENES.items()}
    wrong = {name: (states[name], expected(name, scene)) for name, scene in SCENES.items()}
    assert {name: pair for name, pair in wrong.items() if pair[0] != pair[1]} == {}
