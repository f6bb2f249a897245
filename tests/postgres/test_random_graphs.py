"""Random graphs, killed at random: judged as an undisturbed run of the same graph says, and finished to its state.

RESUMED_TEST_ALL=1 runs 5000 examples; `-s` prints what they were.
"""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.errors import GraphRecursionError
from psycopg import sql
from psycopg.rows import dict_row

from resumed.model import Outcome, Verdict
from resumed.workflows.loaded_workflow import LoadedWorkflow
from support.attempting import Place, place_at, workflow_of
from support.databases import in_database
from support.tiers import small, whole

GRAPHS = Path(__file__).parent.parent / "graphs"
sys.path.insert(0, str(GRAPHS))

from drawn.graphs import Drawn, Exit, build  # noqa: E402 - found only once the graphs are on the path
from drawn.runner import LIMIT  # noqa: E402

FEW = 200
EXAMPLES = 5000 if os.environ.get("RESUMED_TEST_ALL") else FEW
PARTS = 5
LONGEST = 60
NODES = 8


@st.composite
def drawn_graphs(draw: st.DrawFn) -> Drawn:
    """Draw a graph of up to eight nodes; edges lead onwards, and back only as often as the state allows."""
    count = draw(st.integers(2, NODES))
    exits = tuple(draw(_exit(number, count)) for number in range(count))
    starts = tuple(draw(st.sets(st.integers(0, min(2, count - 1)), min_size=1, max_size=2)))
    joins = tuple(draw(st.lists(_join(count), max_size=2))) if count > 2 else ()
    deferred = tuple(draw(st.sets(st.integers(0, count - 1), max_size=1)))
    failing = tuple(draw(st.lists(_failure(exits), max_size=2, unique_by=lambda one: one[0])))
    return Drawn(exits, tuple(sorted(starts)), joins, deferred, failing)


def _exit(number: int, count: int) -> st.SearchStrategy[Exit]:
    later = list(range(number + 1, count))
    some = st.lists(st.sampled_from(later), max_size=3, unique=True).map(tuple) if later else st.just(())
    ways = [st.builds(Exit, st.sampled_from(["edges", "edges", "goto"]), some)]
    ways.append(st.builds(Exit, st.just("route"), options=st.lists(some, min_size=1, max_size=3).map(tuple)))
    if later:
        one = st.lists(st.sampled_from(later), min_size=1, max_size=2, unique=True).map(tuple)
        ways.append(st.builds(Exit, st.just("sends"), one, copies=st.integers(1, 3)))
    back = st.tuples(st.integers(0, number), some).map(lambda told: (told[0], *told[1]))
    ways.append(st.builds(Exit, st.just("back"), back))
    return st.one_of(ways)


@st.composite
def _join(draw: st.DrawFn, count: int) -> tuple[tuple[int, ...], int]:
    after = draw(st.integers(2, count - 1))
    members = draw(st.sets(st.integers(0, after - 1), min_size=2, max_size=3))
    return tuple(sorted(members)), after


def _failure(exits: tuple[Exit, ...]) -> st.SearchStrategy[tuple[str, int]]:
    names = "abcdefgh"[: len(exits)]
    routers = [f"router {names[number]}" for number, way in enumerate(exits) if way.kind in ("route", "sends", "back")]
    nodes = st.tuples(st.sampled_from(names), st.integers(1, 2))
    return st.one_of(nodes, st.tuples(st.sampled_from(routers), st.just(1))) if routers else nodes


@dataclass(frozen=True)
class Undisturbed:
    """What a graph comes to by itself: its state, the step of its last checkpoint, what its joins held at each."""

    state: Any
    step: int
    joins: dict[int, dict[str, Any]]


def undisturbed(drawn: Drawn) -> Undisturbed | None:
    """Run the graph without failures and kills; None where it does not end within reason."""
    config: Any = {"configurable": {"thread_id": "undisturbed"}, "recursion_limit": LIMIT}
    saver = InMemorySaver()
    graph = build(drawn).compile(checkpointer=saver)
    try:
        graph.invoke({"seen": []}, config, durability="sync")
    except GraphRecursionError:
        return None
    snapshot = graph.get_state(config)
    if len(snapshot.values["seen"]) > LONGEST:
        return None
    joins = {one.metadata["step"]: joins_of(one) for one in saver.list(config)}
    return Undisturbed(snapshot.values, (snapshot.metadata or {})["step"], joins)


def joins_of(stands: CheckpointTuple) -> dict[str, Any]:
    """Give what the joins have counted; a deferred one also says whether it is open."""
    values = stands.checkpoint["channel_values"]
    return {name: value for name, value in values.items() if name.startswith("join:") and value not in (set(), None)}


@dataclass
class Rig:
    """The database, the process that runs and kills, and a worker's place on the loop of this test."""

    dsn: str
    application: subprocess.Popen[str]
    loop: asyncio.Runner
    place: Place
    met: Counter[str] = field(default_factory=Counter)

    def killed(self, drawn: Drawn, thread: str, how: dict[str, Any]) -> str:
        assert self.application.stdin is not None
        assert self.application.stdout is not None
        self.application.stdin.write(json.dumps({"graph": asdict(drawn), "thread": thread, **how}) + "\n")
        self.application.stdin.flush()
        return self.application.stdout.readline().strip()

    def step(self, thread: str) -> int | None:
        """Read where the thread stands: the step of its newest root checkpoint, None where it has none."""
        query = (
            "select (metadata ->> 'step')::int as step, metadata ->> 'source' as source from checkpoints"
            " where thread_id = %s and checkpoint_ns = '' order by checkpoint_id desc limit 1"
        )
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            row = connection.execute(query, [thread]).fetchone()
        return None if row is None or (row["step"], row["source"]) == (-2, None) else row["step"]

    def judged(self, workflow: LoadedWorkflow, thread: str) -> Verdict | None:
        return self.loop.run(self.place.judged(workflow, thread))

    def attempted(self, workflow: LoadedWorkflow, thread: str) -> Outcome | None:
        """Make one attempt; gives its outcome, None where a look was all that came of it."""
        said = self.loop.run(self.place.attempt(workflow, thread))
        assert said in ("tried", "looked")
        return self.loop.run(self.place.attempts(thread))[-1].outcome if said == "tried" else None

    def state(self, workflow: LoadedWorkflow, thread: str) -> Any:
        return self.loop.run(self._state(workflow, thread))

    async def _state(self, workflow: LoadedWorkflow, thread: str) -> Any:
        async with AsyncPostgresSaver.from_conn_string(self.dsn) as saver:
            return (await workflow.bind(saver).aget_state({"configurable": {"thread_id": thread}})).values

    def spoilt(self, thread: str, expected: Undisturbed) -> bool:
        """Say whether a join of the head has counted more than it had at this step: LangGraph's fault, not ours."""
        with PostgresSaver.from_conn_string(self.dsn) as saver:
            stands = saver.get_tuple({"configurable": {"thread_id": thread}})
        return stands is not None and joins_of(stands) != expected.joins[stands.metadata["step"]]


@pytest.fixture
def rig(server_dsn: str, templates: dict[str, str]) -> Iterator[Rig]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection, asyncio.Runner() as loop:
        both = (sql.Identifier(name), sql.Identifier(templates["ready"]))
        connection.execute(sql.SQL("create database {} template {}").format(*both))
        dsn = in_database(server_dsn, name)
        place = place_at(dsn)
        application = subprocess.Popen(
            [sys.executable, "-m", "drawn.runner", dsn],
            env={**os.environ, "PYTHONPATH": str(GRAPHS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with application:
            yield Rig(dsn, application, loop, loop.run(place.__aenter__()))
            application.terminate()
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def look(rig: Rig, drawn: Drawn, how: dict[str, Any]) -> None:
    """Run one example: kill, judge, resume until nothing is left, judge again."""
    expected = undisturbed(drawn)
    assume(expected is not None)
    assert expected is not None
    thread = f"drawn:{uuid.uuid4().hex}"
    ended = rig.killed(drawn, thread, how)
    assert ended in ("killed", "raised", "ended")
    workflow = workflow_of("drawn", build(drawn, Counter()))
    stands, said = rig.step(thread), rig.judged(workflow, thread)
    rig.met[f"{ended}: {said.value if said else 'no row'}"] += 1
    if stands is None:
        assert said is None
        return
    assert (said is Verdict.FINISHED) == (stands == expected.step)
    assert said in (Verdict.FINISHED, Verdict.STOPPED) or (said is Verdict.FAILED and drawn.failing)
    assert ended != "raised" or said is Verdict.FAILED
    follow(rig, workflow, (drawn, thread), expected)


def follow(rig: Rig, workflow: LoadedWorkflow, whose: tuple[Drawn, str], expected: Undisturbed) -> None:
    """Have attempts made until the thread is finished: each of its failures costs one at most."""
    drawn, thread = whose
    failures = sum(times for _, times in drawn.failing)
    rig.met["joins counted anew"] += rig.spoilt(thread, expected)
    while rig.step(thread) != expected.step:
        outcome = rig.attempted(workflow, thread)
        rig.met[f"attempt: {outcome.value if outcome else 'refused'}"] += 1
        assert outcome is not None
        assert (outcome is Outcome.FINISHED) == (rig.step(thread) == expected.step)
        assert outcome is Outcome.FINISHED or (outcome is Outcome.FAILED and failures > 0)
        failures -= 1
    assert rig.judged(workflow, thread) is Verdict.FINISHED
    assert rig.attempted(workflow, thread) is None
    assert rig.state(workflow, thread) == expected.state


@pytest.mark.timeout(170 if EXAMPLES == FEW else 7200)
@pytest.mark.parametrize(
    ("part", "examples"),
    [small(0, FEW // PARTS // 3, id="some"), *(whole(one, EXAMPLES // PARTS, id=str(one)) for one in range(PARTS))],
)
def test_a_random_graph_killed_anywhere_is_judged_and_finished_as_if_nothing_had_happened(
    rig: Rig, part: int, examples: int
) -> None:
    @seed(part)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        drawn=drawn_graphs(),
        before=st.integers(2, 25),
        saver=st.sampled_from(["sync", "async"]),
        durability=st.sampled_from(["sync", "sync", "async", "async", "exit"]),
    )
    def check(drawn: Drawn, before: int, saver: str, durability: str) -> None:
        look(rig, drawn, {"before": before, "saver": saver, "durability": durability})

    check()
    print(f"\n{examples} random graphs: {dict(sorted(rig.met.items()))}")
    assert rig.met["killed: stopped"] > examples / 8
