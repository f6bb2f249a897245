"""Owns what a resume gives back of the original call: LangGraph itself restores nothing of it (facts section 4.7)."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig

from resumed.runtime.call_mode import CallMode
from resumed.workflows.workflow import Breakpoints, Workflow

_LANGGRAPHS = frozenset(
    {"source", "step", "parents", "writes", "run_id", "thread_id", "created_by"}
    | {"counters_since_delta_snapshot", "delta_writes_versioned"}
)
_PREFIXES = ("checkpoint_", "langgraph_", "__")
_OURS = frozenset({"workflow", "version", "attempt", "resumed_run"})
_SCALARS = (str, int, float, bool)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How the application called the graph, as far as a resume has to do it alike; a registered run stores it.

    `face` is the value of a `Face`, None where it is not known.
    """

    face: str | None = None
    interrupt_before: Breakpoints = ()
    interrupt_after: Breakpoints = ()
    recursion_limit: int | None = None

    def kept(self) -> dict[str, Any]:
        """Return what is to be stored, as JSON."""
        return {name: value for name, value in asdict(self).items() if value}


def options_of(found: object) -> CallOptions:
    """Read the options that a run stored; what cannot be one counts as not given."""
    if not isinstance(found, Mapping):
        return CallOptions()
    face, limit = found.get("face"), found.get("recursion_limit")
    return CallOptions(
        face=face if face in tuple(CallMode) else None,
        interrupt_before=_nodes(found.get("interrupt_before")),
        interrupt_after=_nodes(found.get("interrupt_after")),
        recursion_limit=limit if type(limit) is int and limit > 0 else None,
    )


def _nodes(found: object) -> Breakpoints:
    if found == "*" or not isinstance(found, list | tuple):
        return "*" if found == "*" else ()
    return "*" if "*" in found else tuple(one for one in found if isinstance(one, str))


def stored_configurable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the scalars that the original call left in metadata, LangGraph's and our own keys apart."""
    return {
        key: value
        for key, value in metadata.items()
        if isinstance(value, _SCALARS) and key not in _LANGGRAPHS | _OURS and not key.startswith(_PREFIXES)
    }


def config_of(
    thread_id: str, call: Mapping[str, Any], wanted: Sequence[str] | None, stamps: Mapping[str, Any]
) -> RunnableConfig:
    """Build the config of a resume from the scalars of the original call; `wanted` narrows what of them is given back.

    What is not given back stays in metadata, as the stamps (workflow, version, attempt) do: whoever looks the thread
    up by it finds it still.
    """
    given = {key: value for key, value in call.items() if wanted is None or key in wanted}
    kept = {key: value for key, value in call.items() if key not in given}
    known = {key: value for key, value in stamps.items() if value not in (None, "")}
    return {"configurable": {**given, "thread_id": thread_id}, "metadata": {**kept, **known}}


async def context_of(policy: Workflow, thread_id: str) -> Any:
    """Ask the registration for the context of a run, in a thread where its callable is not asynchronous."""
    if policy.context is None:
        return None
    if inspect.iscoroutinefunction(policy.context):
        return await policy.context(thread_id)
    context = await asyncio.to_thread(policy.context, thread_id)
    return await context if inspect.isawaitable(context) else context
