"""Finds where a thread stands: its root graph and each subgraph that runs under its head.

It reads through savers that watch which classes values are loaded as, and knows the graphs; it judges nothing.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.pregel import Pregel

from resumed.judge.pending_writes import EditId
from resumed.judge.verdict import CONTROL_CHANNELS, ERROR_SOURCE, INTERRUPT, NULL_TASK, RESUME, ThreadSnapshot
from resumed.runtime.breakpoints import has_run, has_work, is_below
from resumed.runtime.class_check import watch_classes
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store import checkpoints, interrupts
from resumed.store.checkpoints import Child
from resumed.store.interrupts import StoredWrite
from resumed.workflows.loaded_workflow import Graph


@dataclass(frozen=True, slots=True)
class GraphReader:
    """One thread as preflight reads it: its rows as they were found, and the graph bound to the saver.

    What the rows of the same head say already is not read again. `lost` gathers the classes that are gone, `unfinished`
    the namespaces of inner graphs that have work left.
    """

    snapshot: ThreadSnapshot
    graph: Graph
    saver: FencedSaver
    lost: set[str] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)

    @property
    def thread_id(self) -> str:
        """The id of the thread."""
        return self.snapshot.head.thread_id

    def saver_for(self, namespace: str = "") -> FencedSaver:
        """Return a saver that loads as the graph of this namespace would, and notes which classes are gone."""
        inner = self.graph_of(namespace)
        return watch_classes(self.saver, (self.graph, inner) if inner is not None else (self.graph,), self.lost)

    def graph_of(self, namespace: str) -> Graph | None:
        """Return the subgraph of a namespace, as far as its path shows; of several in one node that is the first."""
        known = subgraphs(self.graph)
        return known.get(path_of(namespace, known))

    async def load(self, namespace: str = "", checkpoint_id: str | None = None) -> CheckpointTuple | None:
        """Load a checkpoint, the newest where none is named, with all that its graph would load of it."""
        saver = self.saver_for(namespace)
        loaded = await saver.aget_tuple(_config(self.thread_id, namespace, checkpoint_id))
        graph = self.graph_of(namespace) if namespace else self.graph
        deltas = (
            [name for name, channel in graph.channels.items() if isinstance(channel, DeltaChannel)] if graph else []
        )
        if loaded is not None and deltas:
            await saver.aget_delta_channel_history(config=loaded.config, channels=deltas)
        return loaded

    async def children(self, head_id: str) -> Mapping[str, Child]:
        """Return the newest checkpoint of each child namespace that saved anything since this head."""
        head = self.snapshot.head
        if head_id == head.checkpoint_id == head.newest_id:
            return {}
        return await checkpoints.children(self.saver.session, self.thread_id, head_id)

    async def stateful(self) -> Mapping[str, str]:
        """Return the newest checkpoint id of each subgraph that keeps its own state between runs, by its namespace."""
        if not self.snapshot.head.has_stateful:
            return {}
        return await checkpoints.stateful(self.saver.session, self.thread_id)

    async def questions(self, head_id: str) -> list[StoredWrite]:
        """Return what was asked and answered on this head and, since it, in its subgraphs."""
        asked = any(row.channel in (INTERRUPT, RESUME) for row in self.snapshot.rows)
        if head_id == self.snapshot.head.checkpoint_id and not asked:
            return []
        return await interrupts.interrupt_rows(self.saver.session, self.thread_id, head_id)


@dataclass(frozen=True, slots=True)
class GraphPosition:
    """Where one graph of the thread stands: the root or a subgraph, its checkpoint, and whether it has moved on since.

    `certain`: the node is itself the subgraph. What a node's code calls may be another graph than the one found.
    """

    graph: Graph
    loaded: CheckpointTuple
    path: str
    moved_on: bool
    certain: bool = True


def path_of(namespace: str, known: Container[str]) -> str:
    """Return a namespace without the ids of its tasks and the numbers of their calls.

    A number is the name of a node where `known` has such a path.
    """
    path = ""
    for part in namespace.split("|"):
        longer = f"{path}|{part.split(':')[0]}" if path else part.split(":")[0]
        path = longer if longer in known or not part.isdigit() else path
    return path


def is_counted(namespace: str, known: Container[str]) -> bool:
    """Return whether the namespace is that of a second or later subgraph which one node has called."""
    numbers = [part for part in namespace.split("|") if part.isdigit()]
    return len(numbers) > sum(part.isdigit() for part in path_of(namespace, known).split("|"))


def subgraphs(graph: Graph) -> Mapping[str, Graph]:
    """Return the subgraphs at any depth by their paths, as in `outer|inner`."""
    return {path: inner for path, inner in graph.get_subgraphs(recurse=True) if isinstance(inner, Pregel)}


async def graph_positions(reader: GraphReader, loaded: CheckpointTuple) -> list[GraphPosition]:
    """Find where the root and each subgraph that runs under this head stand; one with a newer child has moved on.

    A child whose own root checkpoint was lost proves that, and stands nowhere itself; where its task has ended, it has
    moved on too. What no search finds, and what one node calls after its first subgraph, the guard judges when it runs.
    """
    head = loaded.checkpoint["id"]
    children = await reader.children(head)
    found = [GraphPosition(reader.graph, loaded, "", has_run(loaded) or _has_run_below(children, "", head))]
    known = subgraphs(reader.graph)
    newest = {"": head, **{name: child.checkpoint_id for name, child in children.items()}}
    loaded_inner = {name: await reader.load(name, child.checkpoint_id) for name, child in children.items()}
    ended = _ended_tasks(loaded, *loaded_inner.values())
    for namespace, inner_loaded in loaded_inner.items():
        if inner_loaded is None or _is_unreachable(inner_loaded, newest):
            continue
        over = bool(_tasks_of(namespace) & ended)
        if has_work(inner_loaded.checkpoint) and not over:
            reader.unfinished.add(namespace)
        path = path_of(namespace, known)
        if path not in known or is_counted(namespace, known):
            continue
        below = _has_run_below(children, namespace, newest[namespace])
        certain = _is_certain(reader.graph, path, known)
        found.append(GraphPosition(known[path], inner_loaded, path, has_run(inner_loaded) or below or over, certain))
    return found


def _has_run_below(children: Mapping[str, Child], namespace: str, made: str) -> bool:
    return any(is_below(namespace, made, inner, child) for inner, child in children.items())


def _tasks_of(namespace: str) -> set[str]:
    """Return the ids of the tasks that lead to a graph's namespace, its own among them."""
    return {part.partition(":")[2] for part in namespace.split("|")}


def _ended_tasks(*checkpoints: CheckpointTuple | None) -> set[str]:
    """Return the ids of the tasks that have saved their output, or whose error is another node's to handle.

    No graph that ran in one of them is called again.
    """
    writes = [write for loaded in checkpoints if loaded is not None for write in loaded.pending_writes or ()]
    over = {
        task
        for task, channel, _ in writes
        if (channel == ERROR_SOURCE or channel not in CONTROL_CHANNELS) and not isinstance(task, EditId)
    }
    return over - {NULL_TASK}


async def due_tasks(root: Graph, config: RunnableConfig) -> tuple[str, ...]:
    """Name the nodes that were due at a checkpoint, whether or not their writes have been saved since.

    The state's own `next` would apply pending writes and so call crashed threads finished.
    """
    async for snapshot in root.aget_state_history(config, limit=1):
        return snapshot.next
    return ()


def _is_unreachable(loaded: CheckpointTuple, newest: Mapping[str, str]) -> bool:
    """Return whether a graph above stands at another checkpoint than the one below which this one ran.

    What ran below a checkpoint that was lost since, or below a graph that saves nothing, will not be found by a resume:
    its tasks are others. A graph that keeps its own state may have saved before the head, and has no task in its name,
    whatever number of a call follows it.
    """
    began_at: Mapping[str, str] = loaded.metadata.get("parents") or {}
    return any(
        newest.get(namespace, "" if ":" in _without_call_number(namespace).rpartition("|")[2] else made) != made
        for namespace, made in began_at.items()
    )


def _without_call_number(namespace: str) -> str:
    above, _, last = namespace.rpartition("|")
    return _without_call_number(above) if above and last.isdigit() else namespace


def _is_certain(root: Graph, path: str, known: Mapping[str, Graph]) -> bool:
    """Return whether each node on the path is itself the subgraph that runs there."""
    above, _, name = path.rpartition("|")
    parent = known.get(above) if above else root
    if parent is None or name not in parent.nodes or parent.nodes[name].bound is not known[path]:
        return False
    return not above or _is_certain(root, above, known)


def _config(thread_id: str, namespace: str, checkpoint_id: str | None) -> RunnableConfig:
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id is not None else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, **named}}
