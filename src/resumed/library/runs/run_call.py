"""What a run is called with, put together: its config with our stamps, its input as it is stored. No effects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.library.thread_ids import generate_thread_id
from resumed.runtime.call_mode import CallMode
from resumed.runtime.call_restore import CallOptions, options_of, stored_configurable
from resumed.store.runs import OPTIONS
from resumed.workflows.loaded_workflow import Graph, breakpoints, unwrap_graph
from resumed.workflows.workflow import Breakpoints

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class RunCall:
    """One call of a workflow, as its application asked for it.

    `options` are those of the graph's own `invoke` or `stream`; `graph` is None where the daemon is to begin the run.
    """

    workflow: str
    thread_id: str
    config: Mapping[str, Any]
    input: Any = None
    graph: Graph | None = None
    face: CallMode | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def stored(self) -> dict[str, Any]:
        """Return what the daemon needs of the call: the scalars that a checkpoint would keep, and how it is called."""
        bound = (self.graph.config if self.graph is not None else None) or {}
        given = {
            **(bound.get("configurable") or {}),
            **(self.config.get("configurable") or {}),
            **(bound.get("metadata") or {}),
            **(self.config.get("metadata") or {}),
        }
        scalars = {name: value for name, value in stored_configurable(given).items() if "\0" not in f"{name}{value}"}
        return {**scalars, OPTIONS: self._options().to_json()}

    def _options(self) -> CallOptions:
        bound = (self.graph.config if self.graph is not None else None) or {}
        return options_of(
            {
                "face": self.face,
                "interrupt_before": self._breakpoints("interrupt_before"),
                "interrupt_after": self._breakpoints("interrupt_after"),
                "recursion_limit": self.config.get("recursion_limit") or bound.get("recursion_limit"),
            }
        )

    def _breakpoints(self, name: str) -> Breakpoints:
        return breakpoints(self.graph, self.options.get(name)) if self.graph is not None else ()

    @property
    def version(self) -> str | None:
        """The version of the application's code, where its metadata, or the graph's, names one."""
        bound = (self.graph.config if self.graph is not None else None) or {}
        known = {**(bound.get("metadata") or {}), **(self.config.get("metadata") or {})}
        version = known.get("version")
        return str(version) if version is not None else None

    def stamped(self, run_id: str) -> RunnableConfig:
        """Return the config under which the graph runs: the thread's id, and by which run of which workflow."""
        stamps = {"workflow": self.workflow, "resumed_run": run_id}
        config: dict[str, Any] = {
            **self.config,
            "configurable": {**(self.config.get("configurable") or {}), "thread_id": self.thread_id},
            "metadata": {**(self.config.get("metadata") or {}), **stamps},
        }
        return cast("RunnableConfig", config)

    def serialised(self, serde: SerializerProtocol) -> tuple[str, bytes] | None:
        """Return the input as LangGraph would store it; None where there is none."""
        return serde.dumps_typed(self.input) if self.input is not None else None


def submitted_call(workflow: str, given: Any, thread_id: object, config: Mapping[str, Any] | None) -> RunCall:
    """Put a call together. Raises ValueError where its names are impossible or contradict each other."""
    if not workflow or len(workflow) > _LONGEST_NAME:
        raise ValueError(f"a workflow's name has 1 to {_LONGEST_NAME} characters")
    config = dict(config or {})
    asked, named = _text(thread_id), _text((config.get("configurable") or {}).get("thread_id"))
    if asked is not None and named is not None and asked != named:
        message = "thread_id and config name two different threads"
        raise ValueError(message)
    chosen = asked if asked is not None else named
    return RunCall(workflow, chosen or generate_thread_id(workflow), config, given)


def graph_call(
    workflow: str, graph: object, given: Any, config: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> RunCall:
    """Put the call of a graph together; `options` may hold the thread's id and context besides those of the graph.

    A thread's id that is bound to the graph counts where the call names none. Raises TypeError where the graph is not
    compiled, and ValueError as `call_of` does.
    """
    taken, bound = _compiled(graph)
    options = {**bound, **{name: one for name, one in options.items() if name != "context" or one is not None}}
    thread_id = options.pop("thread_id", None)
    own = ((taken.config or {}).get("configurable") or {}).get("thread_id")
    if thread_id is None and ((config or {}).get("configurable") or {}).get("thread_id") is None:
        thread_id = own
    call = submitted_call(workflow, given, thread_id, config)
    return RunCall(call.workflow, call.thread_id, call.config, given, taken, None, options)


def _compiled(graph: object) -> tuple[Graph, Mapping[str, Any]]:
    try:
        taken = unwrap_graph(graph)
    except RegistrationError as error:
        raise TypeError(str(error)) from None
    if not isinstance(taken.graph, Pregel):
        message = "the executor runs a compiled graph: give it graph.compile()"
        raise TypeError(message)
    return taken.graph, taken.options


def _text(thread_id: object) -> str | None:
    """Take a thread's id as LangGraph would store it: as text."""
    if thread_id is None:
        return None
    if isinstance(thread_id, int | UUID) and not isinstance(thread_id, bool):
        return str(thread_id)
    if not isinstance(thread_id, str) or not thread_id or "\0" in thread_id:
        message = "a thread's id is a text that is not empty, a whole number or a UUID"
        raise ValueError(message)
    return thread_id
