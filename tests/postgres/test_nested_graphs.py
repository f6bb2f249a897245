"""Graphs that call graphs in nine ways, no search could find them all: stopped, held and finished as if undisturbed.

RESUMED_TEST_ALL=1 runs 1000 examples; `-s` prints what they were.
"""

import asyncio
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import sql

from resumed.model import Outcome
from resumed.store import cases
from resumed.store.connection import Target, open_session
from support.attempting import Place, place_at, workflow_of
from support.databases import in_database
from support.tiers import small, usual, whole

sys.path.insert(0, str(Path(__file__).parent.parent / "graphs"))

from nested.graphs import WAYS, Level, Step, World, compiled, name_of
from nested.life import Stop, configured, live, undisturbed

FEW = 40
EXAMPLES = 1000 if os.environ.get("RESUMED_TEST_ALL") else FEW
NEVER = 10_000
USUAL = ("method", "tool")
MOST_ATTEMPTS = 12


@dataclass
class Rig:
    """The database and a worker's place on the loop of this test."""

    dsn: str
    loop: asyncio.Runner
    place: Place
    met: Counter[str] = field(default_factory=Counter)

    async def rows(self, thread: str) -> list[Any]:
        """Say how much has been saved."""
        async with open_session(Target(self.dsn)) as session:
            counts = (
                "select (select count(*) from checkpoints where thread_id = %(t)s) as checkpoints,"
                " (select count(*) from checkpoint_writes where thread_id = %(t)s) as writes"
            )
            return [*(await (await session.execute(counts, {"t": thread})).fetchall())]

    async def verdict(self, level: Level, thread: str) -> str | None:
        """Return the verdict on record; of a thread that was never tried, which has no case, what `scan` says."""
        async with open_session(Target(self.dsn)) as session:
            known = (await cases.of_threads(session, [thread])).get(thread)
        if known is not None:
            return known.verdict.value
        workflow = workflow_of("nested", compiled(level, World()))
        said = await self.place.inspect(workflow, thread)
        verdict = said.verdict if said is not None else await self.place.judged(workflow, thread)
        return verdict.value if verdict is not None else None

    async def log(self, level: Level, thread: str) -> Any:
        async with AsyncPostgresSaver.from_conn_string(self.dsn) as saver:
            graph = compiled(level, World(), checkpointer=saver)
            return (await graph.aget_state(configured(thread))).values["log"]

    async def settled(self, level: Level, world: World, thread: str) -> list[Outcome | None]:
        """Have attempts made until a look is all that comes of one; give the outcomes."""
        workflow, found = workflow_of("nested", compiled(level, world)), []
        while len(found) < MOST_ATTEMPTS:
            if await self.place.attempt(workflow, thread) == "looked":
                return found
            last = (await self.place.attempts(thread))[-1]
            found.append(last.outcome)
            if last.outcome in (Outcome.FINISHED, Outcome.WAITING):
                assert await self.place.attempt(workflow, thread) == "looked"
                return found
        raise AssertionError(found)


@pytest.fixture
def rig(server_dsn: str, templates: dict[str, str]) -> Iterator[Rig]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection, asyncio.Runner() as loop:
        both = (sql.Identifier(name), sql.Identifier(templates["ready"]))
        connection.execute(sql.SQL("create database {} template {}").format(*both))
        dsn = in_database(server_dsn, name)
        place = place_at(dsn)
        yield Rig(dsn, loop, loop.run(place.__aenter__()))
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Fate:
    """How the application runs a thread between two stops: it dies before this call of its saver."""

    dies: int
    durability: str = "sync"


async def look(rig: Rig, level: Level, fates: list[Fate], failing: dict[str, int] | None = None) -> None:
    """Let a thread live from stop to stop, killed on the way to each, and compare it with one that never was."""
    stops = await undisturbed(level)
    assert stops is not None
    thread, world = f"nested:{uuid.uuid4().hex}", World(failing=Counter(failing or {}))
    for number, stop in enumerate(stops):
        never = not fates or (number and hides_a_step(level))
        fate = Fate(NEVER) if never else fates[number % len(fates)]
        while not await _reached(rig, level, world, (thread, number, fate), stops):
            fate = Fate(NEVER)
        if stop.kind == "finished":
            assert await rig.log(level, thread) == stop.log


async def _reached(rig: Rig, level: Level, world: World, whose: tuple[str, int, Fate], stops: list[Stop]) -> bool:
    """Run the thread on to its next stop, at last by attempts; False where nothing was saved on the way."""
    thread, number, fate = whose
    before = await rig.rows(thread)
    begun = before[0]["checkpoints"] > 0
    died = await live(rig.dsn, level, world, thread, dies=fate.dies, durability=fate.durability, begun=begun)
    moved = await rig.rows(thread) != before
    if not moved and not begun:
        return False
    done = len(world.done)
    outcomes = await rig.settled(level, world, thread)
    for one in outcomes:
        rig.met[f"attempt: {one.value if one else one}"] += 1
    assert set(outcomes) <= {Outcome.FINISHED, Outcome.WAITING, Outcome.FAILED}
    at = stops[number] if moved else stops[number - 1]
    rig.met[f"{'died' if died else 'ended'}: {at.kind}"] += 1
    assert await rig.verdict(level, thread) == at.kind
    assert set(world.done[done:]) <= at.done
    # What the application did with a person's word, and could not save, is neither ours to do again nor to take back.
    assert set(world.done) == at.done if moved else set(world.done) >= at.done
    return moved


def hides_a_step(level: Level) -> bool:
    """Say whether one node calls a graph that stops, and then another one.

    What the second one saves does not tell that a person has let the first one pass, for a node may call both at once:
    one who has died on the way is asked once more.
    """
    several = any(stops(one) for step in level.steps for one in step.inner[:-1])
    return several or any(hides_a_step(one) for step in level.steps for one in step.inner)


INNER = Level((Step(), Step(), Step()))


def wrap(inner: Level | tuple[Level, ...], way: str, *, asynchronous: bool = True) -> Level:
    levels = inner if isinstance(inner, tuple) else (inner,)
    return Level((Step(), Step("call", levels, way, asynchronous), Step()))


STOPPING = {
    "before": Level(INNER.steps, before=("b",)),
    "after": Level(INNER.steps, after=("b",)),
    "after the last": Level(INNER.steps, after=("c",)),
    "before each": Level(INNER.steps, before="*"),
    "after each": Level(INNER.steps, after="*"),
    "asking": Level((Step(), Step("ask"), Step())),
}


@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.thorough)], ids=["async", "sync"])
@pytest.mark.parametrize("way", usual(WAYS, *USUAL))
def test_whatever_way_an_inner_graph_is_called_it_stops_where_it_would_have(
    rig: Rig, way: str, asynchronous: bool
) -> None:
    for dies in (3, 6, 9, NEVER):
        for inner in STOPPING.values():
            rig.loop.run(look(rig, wrap(inner, way, asynchronous=asynchronous), [Fate(dies)] * 8))
    print(f"\n{way}: {dict(sorted(rig.met.items()))}")


@pytest.mark.parametrize("way", WAYS[1:])
def test_of_two_graphs_that_a_node_calls_the_second_does_not_prove_that_the_first_was_let_pass(
    rig: Rig, way: str
) -> None:
    async def check() -> None:
        first, second = Level((Step(),), after="*"), Level((Step(),))
        level, thread, world = wrap((first, second), way), "nested:two", World()
        await live(rig.dsn, level, world, thread, dies=NEVER, durability="sync", begun=False)
        for dies in (2, NEVER):
            assert set(await rig.settled(level, world, thread)) <= {Outcome.WAITING}
            assert await rig.verdict(level, thread) == "breakpoint"
            await live(rig.dsn, level, world, thread, dies=dies, durability="sync", begun=True)
        assert world.done == ["a", "b0a", "b1a", "c"]

    rig.loop.run(check())


def stops_of(count: int) -> st.SearchStrategy[Any]:
    some = st.sets(st.sampled_from([name_of(number) for number in range(count)]), min_size=1, max_size=2)
    return st.one_of(st.just(()), st.just(()), st.just("*"), some.map(lambda names: tuple(sorted(names))))


def stops(level: Level) -> bool:
    deeper = any(step.kind == "ask" or any(map(stops, step.inner)) for step in level.steps)
    return bool(level.before or level.after or deeper)


def keeps_state(level: Level) -> bool:
    return any(inner.saves is True or keeps_state(inner) for step in level.steps for inner in step.inner)


@st.composite
def steps_drawn(draw: st.DrawFn, depth: int, *, free: bool) -> Step:
    alone = ["work"] if free else ["work", "work", "ask"]
    kind = draw(st.sampled_from(["work", *alone, "call", "call", "call"] if depth else alone))
    if kind != "call":
        return Step(kind)  # type: ignore[arg-type]
    way = draw(st.sampled_from(WAYS))
    inner = draw(st.lists(levels_drawn(depth - 1, free=free), min_size=1, max_size=1 if way == "itself" else 2))
    return Step("call", tuple(inner), way, draw(st.booleans()))


@st.composite
def levels_drawn(draw: st.DrawFn, depth: int, *, free: bool, root: bool = False) -> Level:
    """Draw a graph with up to `depth` more below it; `free` ones never stop, and what saves nothing cannot."""
    steps = tuple(draw(st.lists(steps_drawn(depth, free=free), min_size=1, max_size=3)))
    level = Level(steps) if free else Level(steps, draw(stops_of(len(steps))), draw(stops_of(len(steps))))
    saves = None if root else draw(st.sampled_from([None, None, None, True, False]))
    # Begun anew, a graph that saves nothing gives its input once more to one in it that keeps its state.
    if saves is None or (saves is False and (stops(level) or keeps_state(level))):
        return level
    return replace(level, saves=saves)


ROOTS = st.booleans().flatmap(lambda free: levels_drawn(2, free=free, root=True))
FATES = st.builds(Fate, st.integers(2, 9) | st.just(NEVER), st.sampled_from(["sync", "sync", "async"]))


@pytest.mark.timeout(300 if EXAMPLES == FEW else 7200)
@pytest.mark.parametrize("examples", [small(FEW // 4, id="some"), whole(EXAMPLES, id="all")])
def test_random_nestings_killed_anywhere_stop_where_a_person_decides_and_finish_otherwise(
    rig: Rig, examples: int
) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(level=ROOTS, fates=st.lists(FATES, min_size=1, max_size=4), failing=st.booleans())
    def check(level: Level, fates: list[Fate], *, failing: bool) -> None:
        assume(any(step.kind == "call" for step in level.steps))
        rig.loop.run(drawn(rig, level, fates, failing=failing))

    check()
    print(f"\n{examples} random nestings: {dict(sorted(rig.met.items()))}")
    assert rig.met["died: finished"] > examples / 8
    assert rig.met["died: breakpoint"] > examples / 16


async def drawn(rig: Rig, level: Level, fates: list[Fate], *, failing: bool) -> None:
    found = await undisturbed(level)
    assume(found is not None)
    assert found is not None
    last = sorted(found[-1].done)
    # An error stays on record when its task has ended well, and then the task is run again; so nobody dies beside one.
    failing = failing and not hides_a_step(level)
    await look(rig, level, [] if failing else fates, {last[len(last) // 2]: 1} if failing else None)
