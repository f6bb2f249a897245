"""A thread's life: what its application and a person do to it in turn, and what an undisturbed one comes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Command

from nested.graphs import Died, Level, World, compiled

MOST_STOPS = 30


@dataclass(frozen=True)
class Stop:
    """Where a run comes to rest: at a breakpoint, at a question or at its end, and what has been done by then."""

    kind: str
    done: frozenset[str]
    log: Sequence[str] = ()


async def undisturbed(level: Level) -> list[Stop]:
    """Run the graph with a person who approves and answers at once."""
    world = World()
    graph, config = compiled(level, world, checkpointer=InMemorySaver()), configured("undisturbed")
    found, given = [], {"log": []}
    while len(found) < MOST_STOPS:
        said = await graph.ainvoke(given, config, durability="async" if unsaved(level) else "sync")
        state = await graph.aget_state(config)
        if not state.next:
            return [*found, Stop("finished", frozenset(world.done), state.values["log"])]
        found.append(Stop("waiting" if said.get("__interrupt__") else "breakpoint", frozenset(world.done)))
        given = answer(said)
    raise AssertionError


def answer(said: Any) -> Any:
    """Answer the question that is asked, by its id; approve where none is."""
    asked = (said or {}).get("__interrupt__") or ()
    return Command(resume={one.id: "yes" for one in asked}) if asked else None


def unsaved(level: Level) -> bool:
    return level.saves is False or any(unsaved(inner) for step in level.steps for inner in step.inner)


def configured(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}, "metadata": {"workflow": "nested"}}


class Mortal(AsyncPostgresSaver):
    """An application's saver, whose process dies before the given one of its calls."""

    def mortal(self, world: World, dies: int) -> "Mortal":
        self.world, self.left = world, dies
        return self

    async def aput(self, *given: Any) -> Any:
        self._live()
        return await super().aput(*given)

    async def aput_writes(self, *given: Any) -> None:  # type: ignore[override]
        self._live()
        await super().aput_writes(*given)

    def _live(self) -> None:
        self.left -= 1
        self.world.dead = self.world.dead or not self.left
        if self.world.dead:
            raise Died


async def live(dsn: str, level: Level, world: World, thread: str, **how: Any) -> bool:
    """Have the application run the thread on, and die before the given call; False where it has come to rest.

    A person answers what was asked, and approves a breakpoint, by the same act.
    """
    config = configured(thread)
    world.dead = False
    async with Mortal.from_conn_string(dsn) as saver:
        mortal = saver.mortal(world, how["dies"])
        graph = compiled(level, world, checkpointer=mortal)
        asked = await _asked(graph, config)
        durability = "async" if unsaved(level) and how["durability"] == "sync" else how["durability"]
        try:
            await graph.ainvoke(asked if how["begun"] else {"log": []}, config, durability=durability)
        except (Died, ValueError):
            return True
        finally:
            world.dead = False
    return False


async def _asked(graph: Any, config: Any) -> Any:
    state = await graph.aget_state(config)
    return answer({"__interrupt__": [one for task in state.tasks for one in task.interrupts]})
