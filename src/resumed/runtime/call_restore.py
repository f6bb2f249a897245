"""Restores what a resume needs of the original call; LangGraph itself restores nothing of it."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig

from resumed.runtime.call_mode import CallMode
from resumed.runtime.langgraph_internals import METADATA_KEYS, METADATA_PREFIXES, recursion_default
from resumed.workflows.loaded_workflow import LoadedWorkflow
from resumed.workflows.workflow import Breakpoints, Workflow

_OWN_METADATA = frozenset({"workflow", "version", "attempt", "resumed_run"})
_SCALARS = (str, int, float, bool)
# W3C's, of which later attempts link to the application's trace; they stay in metadata, see `application_trace`.
_TRACE_CONTEXT = ("traceparent", "tracestate")
_LONGEST_HEADER = 512
_TRACING_KEYS = frozenset({*_TRACE_CONTEXT, "baggage"})
_TRACING_PREFIXES = ("langsmith-",)
_NEVER_RESTORED = METADATA_KEYS | _OWN_METADATA | _TRACING_KEYS
_PREFIXES_NEVER_RESTORED = METADATA_PREFIXES + _TRACING_PREFIXES


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How the application called the graph, as far as a resume has to repeat it; a registered run stores it.

    `mode` is the value of a `CallMode`, None where it is not known.
    """

    mode: str | None = None
    interrupt_before: Breakpoints = ()
    interrupt_after: Breakpoints = ()
    recursion_limit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is to be stored, as JSON; the mode is stored as `face`."""
        stored = {"face" if name == "mode" else name: value for name, value in asdict(self).items()}
        return {name: value for name, value in stored.items() if value}


def options_of(found: object) -> CallOptions:
    """Read the options that a run stored; a value that cannot be one is ignored."""
    if not isinstance(found, Mapping):
        return CallOptions()
    mode, limit = found.get("face"), found.get("recursion_limit")
    return CallOptions(
        mode=mode if mode in tuple(CallMode) else None,
        interrupt_before=_nodes(found.get("interrupt_before")),
        interrupt_after=_nodes(found.get("interrupt_after")),
        recursion_limit=limit if type(limit) is int and limit > 0 else None,
    )


def _nodes(found: object) -> Breakpoints:
    if found == "*" or not isinstance(found, list | tuple):
        return "*" if found == "*" else ()
    return "*" if "*" in found else tuple(name for name in found if isinstance(name, str))


def stored_configurable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalars that the original call left in metadata, without LangGraph's keys, our own and tracing keys.

    Restored, a tracing key would hang what the resume traces under a parent that may never have been exported.
    """
    return {
        key: value
        for key, value in metadata.items()
        if isinstance(value, _SCALARS) and key not in _NEVER_RESTORED and not key.startswith(_PREFIXES_NEVER_RESTORED)
    }


def application_trace(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the trace context that the original call left in metadata; no `tracestate` without a `traceparent`."""
    found = {key: metadata[key] for key in _TRACE_CONTEXT if _is_header(metadata.get(key))}
    return found if "traceparent" in found else {}


def _is_header(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= _LONGEST_HEADER


def config_of(
    thread_id: str, call: Mapping[str, Any], wanted: Sequence[str] | None, stamps: Mapping[str, Any]
) -> RunnableConfig:
    """Build the config of a resume from the scalars of the original call; `wanted` narrows those that are restored.

    The others stay in metadata, as the stamps (workflow, version, attempt) do, so that applications still find the
    thread by them.
    """
    restored = {key: value for key, value in call.items() if wanted is None or key in wanted}
    others = {key: value for key, value in call.items() if key not in restored}
    known = {key: value for key, value in stamps.items() if value not in (None, "")}
    return {"configurable": {**restored, "thread_id": thread_id}, "metadata": {**others, **known}}


def recursion_limit_of(workflow: LoadedWorkflow, called: int | None, default: int) -> int:
    """Return how many supersteps an attempt may run: the limit of the registration, the call or the graph.

    Where none of them sets one, `default` is passed as LangGraph's own default is: a subgraph's own limit precedes it.
    """
    if limit := workflow.policy.recursion_limit or called:
        return limit
    bound = (workflow.graph.config or {}).get("recursion_limit")
    return bound if type(bound) is int else recursion_default(default)


async def context_of(policy: Workflow, thread_id: str) -> Any:
    """Return the context that the registration makes for a run, in a thread where its callable is synchronous."""
    if policy.context is None:
        return None
    if inspect.iscoroutinefunction(policy.context):
        return await policy.context(thread_id)
    context = await asyncio.to_thread(policy.context, thread_id)
    return await context if inspect.isawaitable(context) else context
