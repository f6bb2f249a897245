"""Watches what really runs in one attempt: every loop under its saver, seen as it loads its checkpoint.

Inner graphs that no search finds (called through a dict, a helper, a tool, made on the spot) show themselves here
before a node of theirs runs. At a breakpoint a loop is stopped as LangGraph itself would stop it. Where work would be
lost the whole attempt ends: the refusal cannot be caught as an `Exception`, and nothing is saved after it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.errors import GraphInterrupt
from langgraph.pregel._loop import PregelLoop
from langgraph.types import Command

from resumed.judge.verdict import ERROR, INTERRUPT, RESUME
from resumed.model import Judgement, Verdict
from resumed.runtime.breakpoints import Load, breakpoint_at, has_run, has_work, is_below, stops
from resumed.runtime.langgraph_loops import (
    LoopSteps,
    namespace_of,
    parents_of,
    resumes,
    steps_of,
    stopped_at,
    task_of,
    when_over,
)
from resumed.runtime.pending_work import repaired_joins, unknown_nodes
from resumed.store.checkpoints import Child

_SEEN = "__interrupt__"
_NO_OUTPUT = frozenset({ERROR, INTERRUPT})


class WorkRefusedError(BaseException):
    """The attempt has ended: going on would lose work. No `Exception`, so that neither nodes nor retries catch it."""


class _Closed(dict[str, Any]):
    """What a checkpoint has seen of breakpoints, which a loop that resumes cannot change.

    It is by marking all channels as seen here that a resumed loop passes the breakpoint at which it stands.
    """

    def __setitem__(self, _: str, __: Any) -> None:
        """Leave it as it was loaded."""


@dataclass(frozen=True, slots=True)
class GuardReads:
    """How the guard reads more: a checkpoint of the same namespace by its id, and what inner graphs saved after one."""

    load: Load
    children: Callable[[str], Awaitable[Mapping[str, Child]]]


@dataclass(frozen=True, slots=True)
class _Stop:
    """A breakpoint at which a loop has stopped, and the tasks that led to it."""

    said: str
    namespace: str
    tasks: frozenset[str | None]


class RunGuard:
    """Judges each loop of one attempt as it loads; knows afterwards what was stopped and what was refused."""

    def __init__(self, head: str, unfinished: Collection[str] = (), *, commanded: bool = False) -> None:
        """`unfinished` are the namespaces under the head that had work left when the attempt began.

        `commanded` says that it begins a run with the `Command` that its application gave: a person's word.
        """
        self.refusal: Judgement | None = None
        self._head = head
        self._commanded = commanded
        self._unfinished = frozenset(unfinished)
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._late: set[str] = set()
        self._met: set[str] = set()
        self._finished: set[str] = set()
        self._stops: list[_Stop] = []

    @property
    def reached(self) -> Judgement | None:
        """The breakpoint that a loop has reached, unless its node went on all the same; None where none was."""
        for stop in self._stops:
            if not stop.tasks & self._finished:
                where = f"in {stop.namespace}" if stop.namespace else "in the root graph"
                return Judgement(Verdict.BREAKPOINT, f"it has reached the breakpoint {stop.said}, {where}")
        return None

    def asks(self, loop: PregelLoop) -> None:
        """Note that a loop is about to load its checkpoint, and whether that can be its own.

        A node's calls are counted. Where one has come to its end only now, what is there for a later one can only have
        come of a retry or a fallback: the graph that the node calls next would take it for its own.
        """
        namespace = namespace_of(loop)
        caller, _, number = namespace.rpartition("|")
        if number.isdigit() and ":" in caller.rpartition("|")[2] and namespace not in self._met:
            before = {caller, *(f"{caller}|{earlier}" for earlier in range(1, int(number)))}
            if before & self._unfinished & self._ended:
                self._late.add(namespace)

    async def admit(self, loop: PregelLoop, loaded: CheckpointTuple | None, reads: GuardReads) -> None:
        """Let a loop begin with what it has loaded, or raise what stops it."""
        namespace = namespace_of(loop)
        when_over(loop, lambda: self._stopped(loop, stopped_at(loop)))
        self._begun.add(namespace)
        if loaded is None:
            return
        if namespace in self._late and namespace not in self._met:
            raise self.refuse(f"a node would take what {namespace} has left for the work of another call")
        if said := self._out_of_step(loop, loaded):
            raise self.refuse(said)
        if not resumes(loop, loaded):
            return
        self._met.add(namespace)
        steps = steps_of(loop)
        if said := _spoilt(steps, loaded):
            raise self.refuse(said)
        if not stops(steps) or self._lets_pass(loop) or has_run(loaded) or await _below(namespace, loaded, reads):
            _open(loaded)
        elif stands_at := await breakpoint_at(steps, loaded, reads.load):
            self._stopped(loop, stands_at.removeprefix("it stands at the breakpoint "))
            raise GraphInterrupt
        if unknown := unknown_nodes(steps, loaded):
            where = f" of {namespace}" if namespace else ""
            said = f"pending work{where} names what the graph does not have: {', '.join(sorted(unknown))}"
            raise self.refuse(said)

    def close(self, loaded: CheckpointTuple) -> None:
        """Keep whoever loads this from passing a breakpoint by the mere fact that it resumes."""
        seen = loaded.checkpoint["versions_seen"]
        seen[_SEEN] = _Closed(seen.get(_SEEN, {}))

    def require(self) -> None:
        """Raise what the attempt ended with, where it has ended."""
        if self.refusal is not None:
            raise WorkRefusedError(self.refusal.reason)

    def settles(self, writes: Sequence[tuple[str, Any]], task_id: str) -> None:
        """Note that a task has finished. Raises WorkRefusedError where it went past what its inner graphs had left.

        One that has gone on with some of that has left the rest with reason: each retry and each fallback had a
        namespace of its own, and the first of them may have succeeded now.
        """
        channels = {channel for channel, _ in writes}
        if channels & _NO_OUTPUT or channels <= {RESUME}:
            return
        passed = {name for name in self._unfinished if f":{task_id}" in name}
        if passed and passed.isdisjoint(self._begun):
            raise self.refuse(f"a node did not go on with the work that its inner graph had left in {min(passed)}")
        self._finished.add(task_id)

    def saves(self, config: RunnableConfig) -> None:
        """Note in which namespace this attempt itself saves a checkpoint."""
        self._met.add(config["configurable"].get("checkpoint_ns") or "")

    def saved(self, config: RunnableConfig, checkpoint: Checkpoint) -> None:
        """Note whether a graph has come to its end with this checkpoint."""
        if not has_work(checkpoint):
            self._ended.add(config["configurable"].get("checkpoint_ns") or "")

    def refuse(self, said: str) -> WorkRefusedError:
        """End the attempt: what comes after this is not saved. The first word stands."""
        self.refusal = self.refusal or Judgement(Verdict.INCOMPATIBLE, said)
        return WorkRefusedError(self.refusal.reason)

    def _stopped(self, loop: PregelLoop, said: str | None) -> None:
        """Keep where a loop has stopped, and not the loop: it holds the whole state of its graph."""
        namespace = namespace_of(loop)
        above = (part.rpartition(":")[2] for part in namespace.split("|"))
        if said is not None:
            self._stops.append(_Stop(said, namespace, frozenset({task_of(loop), *above})))

    def _lets_pass(self, loop: PregelLoop) -> bool:
        """Return whether a person has told the root to go on: held here, the loop would not even save the command."""
        return self._commanded and not namespace_of(loop) and isinstance(loop.input, Command)

    def _out_of_step(self, loop: PregelLoop, loaded: CheckpointTuple) -> str | None:
        """Say that a graph which keeps its own state stands elsewhere than its parents take it to stand."""
        parents, namespace = parents_of(loop), namespace_of(loop)
        if not parents or namespace in self._met:
            return None
        # A graph that saves nothing loads nothing: it is where it is only in this run.
        above = max((at for name, at in parents.items() if name in self._begun), default="")
        made = loaded.checkpoint["id"]
        if resumes(loop, loaded) and made < above:
            return f"the stateful subgraph {namespace} is behind its parent"
        elsewhere = (loaded.metadata.get("parents") or {}).get("", self._head) != self._head
        if made > self._head and elsewhere:
            return f"the stateful subgraph {namespace} is ahead of its parent"
        return None


def _open(loaded: CheckpointTuple) -> None:
    seen = loaded.checkpoint["versions_seen"]
    seen[_SEEN] = dict(seen.get(_SEEN, {}))


def _spoilt(steps: LoopSteps, loaded: CheckpointTuple) -> str | None:
    """Count each join as it was at this checkpoint; name those of which that cannot be told."""
    known = repaired_joins(steps, loaded)
    values = loaded.checkpoint["channel_values"]
    values.update({name: set(members) for name, members in known.items() if members is not None})
    lost = sorted(name for name, members in known.items() if members is None)
    return f"a join has counted what was never saved: {', '.join(lost)}" if lost else None


async def _below(namespace: str, loaded: CheckpointTuple, reads: GuardReads) -> bool:
    """Whether an inner graph of this one has saved since: then a task of it has run.

    A namespace that goes on with a mere number may be the next graph that the same node has called.
    """
    made = loaded.checkpoint["id"]
    children = await reads.children(made)
    return any(is_below(namespace, made, inner, child) for inner, child in children.items())
