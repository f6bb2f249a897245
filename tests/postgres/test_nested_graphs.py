"""Graphs that call graphs in nine ways, no search could find them all: stopped, held and finished as if undisturbed.

RESUMED_TEST_ALL=1 runs 2000 examples; `-s` prints what they were.
"""

import asyncio
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import sql

from conftest import in_database
from postgres.attempting import Place, place_at, workflow_of
from resumed.model import Outcome
from resumed.store import cases
from resumed.store.connect import Target, opened

sys.path.insert(0, str(Path(__file__).parent.parent / "graphs"))

from nested.graphs import WAYS, Level, Step, World, compiled
from nested.life import Stop, configured, live, undisturbed

FEW = 200
EXAMPLES = 2000 if os.environ.get("RESUMED_TEST_ALL") else FEW
NEVER = 10_000
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
        async with opened(Target(self.dsn)) as session:
            counts = (
                "select (select count(*) from checkpoints where thread_id = %(t)s) as checkpoints,"
                " (select count(*) from checkpoint_writes where thread_id = %(t)s) as writes"
            )
            return [*(await (await session.execute(counts, {"t": thread})).fetchall())]

    async def verdict(self, thread: str) -> str:
        async with opened(Target(self.dsn)) as session:
            return (await cases.of_threads(session, [thread]))[thread].verdict.value

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
    thread, world = f"nested:{uuid.uuid4().hex}", World(failing=Counter(failing or {}))
    for number, stop in enumerate(stops):
        fate = fates[number] if number < len(fates) else Fate(NEVER)
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
    outcomes = await rig.settled(level, world, thread)
    for one in outcomes:
        rig.met[f"attempt: {one.value if one else one}"] += 1
    assert set(outcomes) <= {Outcome.FINISHED, Outcome.WAITING, Outcome.FAILED}
    at = stops[number] if moved else stops[number - 1]
    rig.met[f"{'died' if died else 'ended'}: {at.kind}"] += 1
    assert await rig.verdict(thread) == at.kind
    assert set(world.done) == at.done
    return moved


INNER = Level((Step(), Step(), Step()))


def around(inner: Level | tuple[Level, ...], way: str, *, asynchronous: bool = True) -> Level:
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


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_an_inner_graph_is_called_it_stops_where_it_would_have(
    rig: Rig, way: str, asynchronous: bool
) -> None:
    for dies in (3, 6, 9, NEVER):
        for inner in STOPPING.values():
            rig.loop.run(look(rig, around(inner, way, asynchronous=asynchronous), [Fate(dies)] * 8))
    print(f"\n{way}: {dict(sorted(rig.met.items()))}")
