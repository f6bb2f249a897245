"""One registered run as it is carried out: the graph with the run's checkpointer, and the calls that run it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl

from resumed.library.runs.run_handle import RunHandle
from resumed.runtime.call_mode import is_mode_refused, repeatable_input
from resumed.workflows.loaded_workflow import Graph


@dataclass(slots=True)
class RegisteredRun:
    """A run whose thread is locked; `given` is what the graph is to be given, `options` are those of its calls."""

    graph: Graph
    hold: RunHandle
    given: Any
    config: RunnableConfig
    options: Mapping[str, Any]
    head_before: str

    def call_async(self, name: str) -> Any:
        """Call `ainvoke` or `astream` of the graph."""
        return getattr(self.graph, name)(self.given, self.config, **self.options)

    def call(self, name: str) -> Any:
        """Call `invoke` or `stream` of the graph in this thread; it is drained where the run is over.

        Nothing else ends it: a synchronous node cannot be cancelled.
        """
        control = self.hold.control = self.options.get("control") or RunControl()
        self.hold.require()
        return getattr(self.graph, name)(self.given, self.config, **{**self.options, "control": control})

    def refused(self, error: BaseException) -> bool:
        """Return whether the graph refused the way it was called, and can be called the other way from where it stands.

        Then it is to be given what goes on from there.
        """
        moved = self.hold.head != self.head_before
        again, given = repeatable_input(self.given, moved=moved)
        # Without saves on the way, the other way would begin again.
        unsaved = self.options.get("durability") == "exit" and not moved
        if unsaved or not again or self.hold.error is not None or not is_mode_refused(error):
            return False
        self.given, self.head_before = given, self.hold.head
        return True


async def drain_run(run: RegisteredRun, thread: "asyncio.Future[Any]") -> Any:
    """Wait for a call in a thread; where that is cancelled, have the thread stop at its next superstep."""
    try:
        return await thread
    except asyncio.CancelledError:
        if run.hold.control is not None:
            run.hold.control.request_drain()
        raise
