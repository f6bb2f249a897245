"""Lends an application's graph to a run: its copy with the run's checkpointer, and what has to be known of it first."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel
from langgraph.types import Durability

from resumed.judge.verdict import is_trigger
from resumed.library.runs.lock_session import LockSession
from resumed.library.runs.run_handle import RunHandle
from resumed.library.runs.run_saver import RunSaver
from resumed.library.runs.same_database import require_same_database
from resumed.runtime.graph_run import durability
from resumed.workflows.loaded_workflow import Graph, with_changes


class GraphBinder:
    """Lends graphs; what it has found out about one is not asked again."""

    def __init__(self, serde: SerializerProtocol) -> None:
        """`serde` is for graphs that bring none."""
        self._serde = serde
        self._durable: WeakKeyDictionary[Graph, Durability] = WeakKeyDictionary()
        self._at_home: WeakSet[Any] = WeakSet()

    def serde_of(self, graph: Graph | None) -> SerializerProtocol:
        """Give the serializer of a graph's own checkpointer, else the executor's."""
        own = getattr(getattr(graph, "checkpointer", None), "serde", None)
        return own if own is not None else self._serde

    def durability(self, graph: Graph) -> Durability:
        """Say when a run of the graph may save: before the next superstep, where its subgraphs let it."""
        if graph not in self._durable:
            self._durable[graph] = durability(graph)
        return self._durable[graph]

    def options(self, graph: Graph, options: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the options of a call of the graph by when it saves, where they do not say that."""
        said = {name: value for name, value in options.items() if name != "durability" or value is not None}
        known = "durability" in said or "checkpoint_during" in said
        return said if known else {"durability": self.durability(graph), **said}

    async def require_home(self, graph: Graph, line: LockSession) -> None:
        """Make sure that the graph's own checkpointer is of the executor's database. Raises WrongDatabaseError."""
        saver = graph.checkpointer
        if saver is None or isinstance(saver, bool) or saver in self._at_home:
            return
        session = await line.session()
        async with line.turn:
            await require_same_database(saver, session)
        self._at_home.add(saver)

    def lend(self, graph: Graph, line: LockSession, hold: RunHandle) -> Graph:
        """Copy the graph for a run, to save through the session that holds the thread's lock."""
        return with_changes(graph, {"checkpointer": RunSaver(line, hold, self.serde_of(graph))})


def outlives_run(graph: Pregel[Any, Any, Any, Any], hold: RunHandle) -> bool:
    """Return whether a run that returned has left work: at a question or a breakpoint.

    One that asks again, or comes to the next breakpoint of a subgraph, saves no checkpoint at the root: what waited in
    the head that it began with waits still. The head of an edit or a fork does not say that, a saved question does.
    """
    if hold.asked:
        return True
    own = [name for name in graph.trigger_to_nodes if not is_trigger(name)]
    return any(is_trigger(channel, own) for channel in hold.left or ())
