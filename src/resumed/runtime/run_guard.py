"""Watches what really runs in one attempt: every loop under its saver, as it loads its checkpoint.

Inner graphs that no search finds (called through a dict, a helper, a tool, or built in a node) are seen here before a
node of theirs runs. At a breakpoint a loop is stopped as LangGraph itself would stop it. Where work would be
lost the whole attempt ends: the refusal cannot be caught as an `Exception`, and nothing is saved after it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.errors import GraphInterrupt
from langgraph.types import Command

from resumed.judge.verdict import ERROR, INTERRUPT, RESUME
from resumed.model import Judgement, Verdict
from resumed.runtime.breakpoints import Load, breakpoint_at, has_breakpoints, has_run, has_work, is_below
from resumed.runtime.langgraph_internals import (
    LoopGraph,
    PregelLoop,
    graph_of_loop,
    namespace_of,
    on_loop_end,
    parents_of,
    resumes,
    stopped_at,
    task_of,
)
from resumed.runtime.pending_work import repaired_joins, unknown_nodes
from resumed.store.checkpoints import Child

_NO_OUTPUT = frozenset({ERROR, INTERRUPT})


class WorkRefusedError(BaseException):
    """The attempt has ended: it would lose work. No `Exception`, so that neither nodes nor retries catch it."""


class _ReadOnlyDict(dict[str, Any]):
    """What a checkpoint has seen of breakpoints, closed to the loop that resumes from it.

    A resumed loop passes the breakpoint at which it stands by marking all channels as seen here.
    """

    def __setitem__(self, _: str, __: Any) -> None:
        """Change nothing."""


@dataclass(frozen=True, slots=True)
class GuardReads:
    """How the guard reads a checkpoint of the loop's namespace by its id, and what inner graphs saved after one."""

    load: Load
    children: Callable[[str], Awaitable[Mapping[str, Child]]]


@dataclass(frozen=True, slots=True)
class _Stop:
    """A breakpoint at which a loop has stopped, and the tasks that led to it."""

    breakpoint: str
    namespace: str
    tasks: frozenset[str | None]


class RunGuard:
    """Judges each loop of one attempt as it loads, and keeps what it stopped and what it refused."""

    def __init__(self, head: str, unfinished: Collection[str] = (), *, commanded: bool = False) -> None:
        """Guard an attempt on this head; `unfinished` are the namespaces under it that had work left at the beginning.

        `commanded`: it begins a run with the `Command` of its application, which is a person's decision.
        """
        self.refusal: Judgement | None = None
        self._head = head
        self._commanded = commanded
        self._unfinished = frozenset(unfinished)
        self._begun_namespaces: set[str] = set()
        self._ended_namespaces: set[str] = set()
        self._leftover_namespaces: set[str] = set()
        self._own_namespaces: set[str] = set()
        self._finished_tasks: set[str] = set()
        self._stops: list[_Stop] = []

    @property
    def reached(self) -> Judgement | None:
        """The breakpoint that a loop has reached, unless its node continued all the same; None where there is none."""
        for stop in self._stops:
            if not stop.tasks & self._finished_tasks:
                where = f"in {stop.namespace}" if stop.namespace else "in the root graph"
                return Judgement(Verdict.BREAKPOINT, f"it has reached the breakpoint {stop.breakpoint}, {where}")
        return None

    def on_load(self, loop: PregelLoop) -> None:
        """Note that a loop is about to load its checkpoint, and whether that can be its own.

        A node's calls are numbered. Where one has ended only in this attempt, what is stored for a later one can only
        come from a retry or a fallback: the graph that the node calls next would take it for its own.
        """
        namespace = namespace_of(loop)
        caller, _, number = namespace.rpartition("|")
        if number.isdigit() and ":" in caller.rpartition("|")[2] and namespace not in self._own_namespaces:
            before = {caller, *(f"{caller}|{earlier}" for earlier in range(1, int(number)))}
            if before & self._unfinished & self._ended_namespaces:
                self._leftover_namespaces.add(namespace)

    async def admit(self, loop: PregelLoop, loaded: CheckpointTuple | None, reads: GuardReads) -> None:
        """Let a loop begin with what it has loaded; raises GraphInterrupt at a breakpoint, WorkRefusedError."""
        namespace = namespace_of(loop)
        on_loop_end(loop, lambda: self._record_stop(loop, stopped_at(loop)))
        self._begun_namespaces.add(namespace)
        if loaded is None:
            return
        if namespace in self._leftover_namespaces and namespace not in self._own_namespaces:
            raise self.refuse(f"a node would take what {namespace} has left for the work of another call")
        if reason := self._find_out_of_step(loop, loaded):
            raise self.refuse(reason)
        if not resumes(loop, loaded):
            return
        self._own_namespaces.add(namespace)
        graph = graph_of_loop(loop)
        if reason := _repair_joins(graph, loaded):
            raise self.refuse(reason)
        passed = not has_breakpoints(graph) or self._is_commanded_root(loop) or has_run(loaded)
        if passed or await _has_run_below(namespace, loaded, reads):
            seen = loaded.checkpoint["versions_seen"]
            seen[INTERRUPT] = dict(seen.get(INTERRUPT, {}))
        elif stands_at := await breakpoint_at(graph, loaded, reads.load):
            self._record_stop(loop, stands_at.removeprefix("it stands at the breakpoint "))
            raise GraphInterrupt
        if unknown := unknown_nodes(graph, loaded):
            where = f" of {namespace}" if namespace else ""
            reason = f"pending work{where} names what the graph does not have: {', '.join(sorted(unknown))}"
            raise self.refuse(reason)

    def close(self, loaded: CheckpointTuple) -> None:
        """Keep a loop that loads this from passing a breakpoint only because it resumes."""
        seen = loaded.checkpoint["versions_seen"]
        seen[INTERRUPT] = _ReadOnlyDict(seen.get(INTERRUPT, {}))

    def require_open(self) -> None:
        """Raise WorkRefusedError where the attempt has ended."""
        if self.refusal is not None:
            raise WorkRefusedError(self.refusal.reason)

    def on_task_writes(self, writes: Sequence[tuple[str, Any]], task_id: str) -> None:
        """Note that a task has finished; raises WorkRefusedError where it skipped all that its inner graphs had left.

        A task that resumed some of that may leave the rest: each retry and each fallback had a namespace of its own,
        and the first of them may have succeeded now.
        """
        channels = {channel for channel, _ in writes}
        if channels & _NO_OUTPUT or channels <= {RESUME}:
            return
        passed = {name for name in self._unfinished if f":{task_id}" in name}
        if passed and passed.isdisjoint(self._begun_namespaces):
            raise self.refuse(f"a node did not go on with the work that its inner graph had left in {min(passed)}")
        self._finished_tasks.add(task_id)

    def on_save(self, config: RunnableConfig) -> None:
        """Note in which namespace this attempt is about to save a checkpoint."""
        self._own_namespaces.add(config["configurable"].get("checkpoint_ns") or "")

    def on_saved(self, config: RunnableConfig, checkpoint: Checkpoint) -> None:
        """Note whether a graph has ended with this checkpoint."""
        if not has_work(checkpoint):
            self._ended_namespaces.add(config["configurable"].get("checkpoint_ns") or "")

    def refuse(self, reason: str) -> WorkRefusedError:
        """End the attempt: nothing is saved after this. The first reason stands."""
        self.refusal = self.refusal or Judgement(Verdict.INCOMPATIBLE, reason)
        return WorkRefusedError(self.refusal.reason)

    def _record_stop(self, loop: PregelLoop, at: str | None) -> None:
        """Keep where a loop has stopped, and not the loop: it holds the whole state of its graph."""
        namespace = namespace_of(loop)
        above = (part.rpartition(":")[2] for part in namespace.split("|"))
        if at is not None:
            self._stops.append(_Stop(at, namespace, frozenset({task_of(loop), *above})))

    def _is_commanded_root(self, loop: PregelLoop) -> bool:
        """Return whether a person commands the root: stopped here, the loop would not even save the command."""
        return self._commanded and not namespace_of(loop) and isinstance(loop.input, Command)

    def _find_out_of_step(self, loop: PregelLoop, loaded: CheckpointTuple) -> str | None:
        """Return the reason where a graph with its own state does not stand where its parents expect it."""
        parents, namespace = parents_of(loop), namespace_of(loop)
        if not parents or namespace in self._own_namespaces:
            return None
        # A graph that saves nothing loads nothing: it is where it is only in this run.
        above = max((at for name, at in parents.items() if name in self._begun_namespaces), default="")
        made = loaded.checkpoint["id"]
        if resumes(loop, loaded) and made < above:
            return f"the stateful subgraph {namespace} is behind its parent"
        elsewhere = (loaded.metadata.get("parents") or {}).get("", self._head) != self._head
        if made > self._head and elsewhere:
            return f"the stateful subgraph {namespace} is ahead of its parent"
        return None


def _repair_joins(graph: LoopGraph, loaded: CheckpointTuple) -> str | None:
    """Set each join to what it was at this checkpoint; return the reason where that is unknown for some."""
    known = repaired_joins(graph, loaded)
    values = loaded.checkpoint["channel_values"]
    values.update({name: set(members) for name, members in known.items() if members is not None})
    lost = sorted(name for name, members in known.items() if members is None)
    return f"a join has counted what was never saved: {', '.join(lost)}" if lost else None


async def _has_run_below(namespace: str, loaded: CheckpointTuple, reads: GuardReads) -> bool:
    """Return whether an inner graph of this one has saved since: then a task of it has run.

    A namespace that ends with a mere number may be the next graph that the same node has called.
    """
    made = loaded.checkpoint["id"]
    children = await reads.children(made)
    return any(is_below(namespace, made, inner, child) for inner, child in children.items())
