"""Agents that were killed, judged and finished one by one: what they must come to, and what they must not do."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Command, Send

from resumed.model import Outcome, Verdict
from resumed.workflows.loaded_workflow import LoadedWorkflow
from support.attempting import Place, place_at, workflow_of
from support.databases import outliving_sessions

GRAPHS = Path(__file__).parent.parent / "graphs"
sys.path.insert(0, str(GRAPHS)) if str(GRAPHS) not in sys.path else None

from agents.effects import Effect, noted  # noqa: E402 - found only once the graphs are on the path
from agents.flows import GO, Flow, approve_each, comparable, compiled  # noqa: E402
from agents.registered import EVERY  # noqa: E402

SHARE = 1 if os.environ.get("RESUMED_TEST_ALL") else 8
RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)
RIGHT = (Outcome.FINISHED, Outcome.WAITING)
HEADS = """
select distinct on (thread_id) thread_id, (metadata ->> 'step')::int as step
from checkpoints where checkpoint_ns = '' and split_part(thread_id, ':', 1) = %(flow)s
order by thread_id, checkpoint_id desc
"""
ANSWERED = """
select distinct thread_id from checkpoint_writes
where channel = '__resume__' and split_part(thread_id, ':', 1) = %(flow)s
"""


@dataclass
class Story:
    """What an agent comes to by itself: its last step, its state, and the questions that it asks on the way."""

    step: int = 0
    state: Any = None
    questions: list[list[Any]] = field(default_factory=list)


async def undisturbed(flow: Flow) -> Story:
    told, config = Story(), {"configurable": {"thread_id": "undisturbed"}}
    async with flow.built() as built:
        graph, given = compiled(built, InMemorySaver()), GO
        for reply in (*flow.replies, None):
            await graph.ainvoke(given, config)
            stands = await graph.aget_state(config)
            told.questions.append(_questions(stands))
            told.step, told.state = stands.metadata["step"], comparable(stands.values)
            given = reply.answer(stands.interrupts) if reply is not None else None
    return told


def _questions(stands: Any) -> list[Any]:
    return sorted((comparable(one.value) for one in stands.interrupts), key=repr)


@dataclass
class Killed:
    """Threads of one agent, each left behind by a process that was killed, with what was noted of its tools."""

    dsn: str
    log: Path
    name: str
    counted: Counter[str] = field(default_factory=Counter)

    @property
    def flow(self) -> Flow:
        return EVERY[self.name]

    def effects(self, thread: str) -> list[Effect]:
        return [one for one in noted(self.log) if one.thread == thread]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(query, {"flow": self.name}).fetchall()


def kill(dsn: str, log: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Kill applications at their points, in processes of their own; return how often, and how many points there are."""
    command = [sys.executable, "-m", "agents.killer", dsn, "2", str(SHARE), *names]
    with outliving_sessions(dsn) as named:
        environment = {**os.environ, **named, "PYTHONPATH": str(GRAPHS), "AGENTS_LOG": str(log)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return {name: tuple(told) for line in done.stdout.splitlines() for name, told in json.loads(line).items()}


async def finish_all(killed: Killed) -> None:
    """Judge and finish every thread as a worker does, a person answering what waits; fails where one goes wrong."""
    told = await undisturbed(killed.flow)
    answered = {thread for (thread,) in killed.rows(ANSWERED)}
    async with (
        place_at(killed.dsn) as place,
        AsyncPostgresSaver.from_conn_string(killed.dsn) as saver,
        killed.flow.built() as built,
    ):
        finisher = Finisher(killed, told, place, saver, workflow_of(killed.name, built))
        for thread, step in killed.rows(HEADS):
            await finisher.finish(thread, step, answer_stored=thread in answered)


@dataclass
class Finisher:
    """Finishes the threads of one agent."""

    killed: Killed
    told: Story
    place: Place
    saver: AsyncPostgresSaver
    workflow: LoadedWorkflow

    async def finish(self, thread: str, step: int, *, answer_stored: bool) -> None:
        run, call = (int(part) for part in thread.split(":")[3:])
        stored = await stored_ids(self.saver, thread)
        if thread.split(":")[2] == "sync":
            unknown = {one.call for one in self.killed.effects(thread)} - stored.asked
            assert unknown == set(), f"{thread}: a tool ran before the id of its call was saved"
        ended = step == self.told.step
        assert (await self.place.judged(self.workflow, thread) is Verdict.FINISHED) is ended, thread
        given = await self._resumed(thread, run)
        if call and run == 1 and answer_stored:  # later ones cannot be told from the first by their rows
            assert given == run, f"{thread}: an answer that was stored is asked for once more"
        self._not_let_through(thread, run)
        while (stands := await self._state(thread)).next:
            await self._answer(thread, stands)
        self._only_what_was_missing(thread, stored.answered)
        await self._came_to_its_end(thread)

    async def _resumed(self, thread: str, run: int) -> int:
        """Try the thread until nothing is left to do but for a person; return how many replies it has taken."""
        if await self.place.judged(self.workflow, thread) in RESUMABLE:
            await self.place.attempt(self.workflow, thread)
        outcomes = [one.outcome for one in await self.place.attempts(thread)]
        if outcomes not in ([], [RIGHT[0]], [RIGHT[1]]):
            raise AssertionError(f"{thread}: {outcomes}, {await self.place.reason(thread)}")
        self.killed.counted[outcomes[0].value if outcomes and outcomes[0] else "left alone"] += 1
        said = await self.place.judged(self.workflow, thread)
        if said is Verdict.FINISHED:
            assert run == len(self.killed.flow.replies), f"{thread}: a person was passed over"
            return run
        refusal = await self.place.inspect(self.workflow, thread) if said in RESUMABLE else None
        assert Verdict.WAITING in (said, refusal and refusal.verdict), f"{thread}: {said}, {refusal}"
        asked = _questions(await self._state(thread))
        before = self.told.questions[run - 1] if run else []
        if run and asked == before:
            return run - 1
        # Of several that ask at once one may have died before it asked, or before its answer was saved.
        assert asked, f"{thread}: {await self.place.reason(thread)}, but nobody is asked"
        assert [one for one in asked if one not in [*before, *self.told.questions[run]]] == [], thread
        return run

    def _not_let_through(self, thread: str, given: int) -> None:
        """Nothing that a person has to approve has run before they did; so many replies had been given."""
        closed = frozenset[str]().union(*(one.lets for one in self.killed.flow.replies[given:]))
        assert closed & {one.call for one in self.killed.effects(thread)} == set(), thread

    def _only_what_was_missing(self, thread: str, answered: set[str]) -> None:
        """Every call has had its effect; twice only where the first one's answer was not saved, never more often."""
        times = Counter(one.call for one in self.killed.effects(thread))
        assert set(times) >= self.killed.flow.calls, f"{thread}: {times}"
        ours = {one.call for one in self.killed.effects(thread) if one.process == os.getpid()}
        assert ours & answered == set(), f"{thread}: what was saved ran once more"
        assert max(times.values(), default=0) <= 2, f"{thread}: {times}"
        self.killed.counted["calls made twice"] += sum(many == 2 for many in times.values())

    async def _answer(self, thread: str, stands: Any) -> None:
        """Answer as a person does, through the application; nothing of ours is in between."""
        asked, questions = _questions(stands), self.told.questions
        replies = self.killed.flow.replies
        answer = replies[questions.index(asked)].answer if asked in questions else approve_each
        graph, config = compiled(self.workflow.graph, self.saver), {"configurable": {"thread_id": thread}}
        await graph.ainvoke(answer(stands.interrupts), config, durability="sync")

    async def _came_to_its_end(self, thread: str) -> None:
        stands = await self._state(thread)
        assert (stands.next, comparable(stands.values)) == ((), self.told.state), thread
        assert await self.place.judged(self.workflow, thread) is Verdict.FINISHED, thread

    async def _state(self, thread: str) -> Any:
        graph = compiled(self.workflow.graph, self.saver)
        return await graph.aget_state({"configurable": {"thread_id": thread}})


@dataclass
class StoredIds:
    """Ids of tool calls that lie in the database: of those that models asked for, and of those that were answered."""

    asked: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)

    def gather(self, value: Any) -> None:
        match value:
            case AIMessage():
                self.asked |= {str(one["id"]) for one in value.tool_calls}
            case ToolMessage():
                self.answered.add(value.tool_call_id)
            case dict():
                self.gather(list(value.values()))
            case list() | tuple() | set():
                for one in value:
                    self.gather(one)
            case Send():
                self.gather(value.arg)
            case Command():
                self.gather([value.update, value.goto])


async def stored_ids(saver: AsyncPostgresSaver, thread: str) -> StoredIds:
    """Look through all that is stored of a thread, in whatever namespace."""
    found = StoredIds()
    async for one in saver.alist({"configurable": {"thread_id": thread}}):
        found.gather(one.checkpoint["channel_values"])
        found.gather([value for _, _, value in one.pending_writes or ()])
    return found
