"""Owns what a resume gives back of the original call: LangGraph itself restores nothing of it (facts section 4.7)."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

_LANGGRAPHS = frozenset(
    {"source", "step", "parents", "writes", "run_id", "thread_id", "created_by", "counters_since_delta_snapshot"}
)
_PREFIXES = ("checkpoint_", "langgraph_", "__", "delta_")
_OURS = frozenset({"workflow", "version", "attempt"})
_SCALARS = (str, int, float, bool)


def given_back(metadata: Mapping[str, Any], wanted: Sequence[str] | None) -> dict[str, Any]:
    """Pick the scalars that the original call left in metadata; `wanted` narrows them where it is given."""
    return {
        key: value
        for key, value in metadata.items()
        if isinstance(value, _SCALARS)
        and key not in _LANGGRAPHS | _OURS
        and not key.startswith(_PREFIXES)
        and (wanted is None or key in wanted)
    }


def config_of(
    thread_id: str, stamps: Mapping[str, Any], configurable: Mapping[str, Any], recursion_limit: int
) -> RunnableConfig:
    """Build the config of a resume; the stamps (workflow, version, attempt) let the next look-up find its way."""
    return {
        "configurable": {**configurable, "thread_id": thread_id},
        "metadata": {key: value for key, value in stamps.items() if value not in (None, "")},
        "recursion_limit": recursion_limit,
    }
