"""One request for a run: which graph or workflow, which thread, which input, and what is recorded of it. No effects."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel

from resumed.errors import RegistrationError
from resumed.library.runs.current_trace import current_trace
from resumed.library.thread_ids import generate_thread_id
from resumed.runtime.call_mode import CallMode
from resumed.runtime.call_restore import application_trace, options_of, stored_configurable
from resumed.store.runs import OPTIONS, NewRun
from resumed.workflows.loaded_workflow import Graph, Unwrapped, breakpoints, unwrap_graph
from resumed.workflows.workflow import Breakpoints

_MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run as its application asked for it.

    Attributes:
        workflow: The name under which the daemon has the graph registered.
        thread_id: The thread.
        config: LangGraph's, as the application gave it.
        input: Values, a `Command`, or None to go on with the thread.
        serde: The serializer of the graph's checkpoints, and so of inputs.
        graph: The compiled graph; None where the daemon begins the run.
        mode: How the graph is called.
        options: What else its `invoke` or `stream` is given.
        trace: The trace context of the call, which attempts link to.
    """

    workflow: str
    thread_id: str
    config: Mapping[str, Any]
    input: Any
    serde: SerializerProtocol
    graph: Graph | None = None
    mode: CallMode | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, str] = field(default_factory=current_trace)

    def build_record(self, owner: str) -> NewRun:
        """Return what is recorded of a new run: its input serialised as LangGraph does, and the scalars of its call."""
        version = {**self._bound("metadata"), **self._given("metadata")}.get("version")
        return NewRun(
            run_id=uuid.uuid4().hex,
            thread_id=self.thread_id,
            workflow=self.workflow,
            version=str(version) if version is not None else None,
            owner=owner,
            input=self.serde.dumps_typed(self.input) if self.input is not None else None,
            call=self._stored_call(),
        )

    def build_config(self, run_id: str) -> RunnableConfig:
        """Return the config under which the graph runs: with the thread's id, and stamped with its run and workflow."""
        stamps = {"workflow": self.workflow, "resumed_run": run_id, **self._trace()}
        config: dict[str, Any] = {
            **self.config,
            "configurable": {**self._given("configurable"), "thread_id": self.thread_id},
            "metadata": {**self._given("metadata"), **stamps},
        }
        return cast("RunnableConfig", config)

    def _stored_call(self) -> dict[str, Any]:
        """Return what the daemon needs of the call: the scalars that a checkpoint would keep, and its options."""
        scalars = {
            name: value
            for name, value in stored_configurable(self._all_given()).items()
            if "\0" not in f"{name}{value}"
        }
        bound_limit = ((self.graph.config if self.graph is not None else None) or {}).get("recursion_limit")
        options = options_of(
            {
                "face": self.mode,
                "interrupt_before": self._breakpoints("interrupt_before"),
                "interrupt_after": self._breakpoints("interrupt_after"),
                "recursion_limit": self.config.get("recursion_limit") or bound_limit,
            }
        )
        return {**scalars, **self._trace(), OPTIONS: options.to_json()}

    def _trace(self) -> Mapping[str, str]:
        """Return the trace context that the call itself names, else that of the application's current span."""
        return application_trace(self._all_given()) or self.trace

    def _all_given(self) -> dict[str, Any]:
        parts = [of(part) for part in ("configurable", "metadata") for of in (self._bound, self._given)]
        return {name: value for part in parts for name, value in part.items()}

    def _given(self, part: str) -> Mapping[str, Any]:
        return self.config.get(part) or {}

    def _bound(self, part: str) -> Mapping[str, Any]:
        config = (self.graph.config if self.graph is not None else None) or {}
        return cast("Mapping[str, Any]", config.get(part) or {})

    def _breakpoints(self, name: str) -> Breakpoints:
        return breakpoints(self.graph, self.options.get(name)) if self.graph is not None else ()


def build_submit_request(workflow: str, given: Any, thread_id: object, serde: SerializerProtocol) -> RunRequest:
    """Return the request for a run that the daemon begins. Raises ValueError where its names are impossible."""
    return RunRequest(_checked_name(workflow), _choose_thread(workflow, thread_id, None), {}, given, serde)


def build_graph_request(
    workflow: str,
    graph: object,
    given: Any,
    *,
    config: Mapping[str, Any] | None,
    mode: CallMode,
    options: Mapping[str, Any],
    default_serde: SerializerProtocol,
) -> RunRequest:
    """Return the request for a run of a graph.

    `options` may hold the thread's id and the context besides the options of the graph. A thread's id that is bound to
    the graph counts where the call names none. `default_serde` is for graphs whose checkpointer brings none. Raises
    TypeError where the graph is not compiled, ValueError where names are impossible or contradict each other.
    """
    unwrapped = _unwrap_compiled(graph)
    compiled: Graph = unwrapped.graph  # type: ignore[assignment]  # what `_unwrap_compiled` makes sure of
    options = {
        **unwrapped.options,
        **{name: value for name, value in options.items() if name != "context" or value is not None},
    }
    config = dict(config or {})
    asked, named = options.pop("thread_id", None), (config.get("configurable") or {}).get("thread_id")
    if asked is None and named is None:
        asked = ((compiled.config or {}).get("configurable") or {}).get("thread_id")
    own_serde = getattr(compiled.checkpointer, "serde", None)
    return RunRequest(
        workflow=_checked_name(workflow),
        thread_id=_choose_thread(workflow, asked, named),
        config=config,
        input=given,
        serde=own_serde if own_serde is not None else default_serde,
        graph=compiled,
        mode=mode,
        options=options,
    )


def _checked_name(workflow: str) -> str:
    if not workflow or len(workflow) > _MAX_NAME_LENGTH:
        raise ValueError(f"a workflow's name has 1 to {_MAX_NAME_LENGTH} characters")
    return workflow


def _choose_thread(workflow: str, asked: object, named: object) -> str:
    """Return the thread that the call asks for, else the one that its config names, else a new one."""
    asked, named = _thread_text(asked), _thread_text(named)
    if asked is not None and named is not None and asked != named:
        message = "thread_id and config name two different threads"
        raise ValueError(message)
    chosen = asked if asked is not None else named
    return chosen or generate_thread_id(workflow)


def _unwrap_compiled(graph: object) -> Unwrapped:
    try:
        unwrapped = unwrap_graph(graph)
    except RegistrationError as error:
        raise TypeError(str(error)) from None
    if not isinstance(unwrapped.graph, Pregel):
        message = "the executor runs a compiled graph: pass graph.compile()"
        raise TypeError(message)
    return unwrapped


def _thread_text(thread_id: object) -> str | None:
    """Return a thread's id as LangGraph would store it: as text."""
    if thread_id is None:
        return None
    if isinstance(thread_id, int | UUID) and not isinstance(thread_id, bool):
        return str(thread_id)
    if not isinstance(thread_id, str) or not thread_id or "\0" in thread_id:
        message = "a thread's id is a text that is not empty, a whole number or a UUID"
        raise ValueError(message)
    return thread_id
