"""What a run is called with, put together: its config with our stamps, its input as it is stored. No effects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from resumed.engine.call import stored
from resumed.library.names import generate_thread_id

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class RunCall:
    """One call of a workflow, as its application asked for it."""

    workflow: str
    thread_id: str
    config: Mapping[str, Any]
    input: Any = None
    context: Any = None

    def scalars(self) -> dict[str, Any]:
        """Give the scalars of the call that a checkpoint would keep in its metadata."""
        given = {**self.config.get("configurable", {}), **self.config.get("metadata", {})}
        return {name: value for name, value in stored(given).items() if "\0" not in f"{name}{value}"}

    @property
    def version(self) -> str | None:
        """The version of the application's code, where its metadata names one."""
        version = self.config.get("metadata", {}).get("version")
        return str(version) if version is not None else None

    def stamped(self, run_id: str) -> RunnableConfig:
        """Give the config under which the graph runs: the thread's id, and by which run of which workflow."""
        stamps = {"workflow": self.workflow, "resumed_run": run_id}
        config: dict[str, Any] = {
            **self.config,
            "configurable": {**self.config.get("configurable", {}), "thread_id": self.thread_id},
            "metadata": {**self.config.get("metadata", {}), **stamps},
        }
        return cast("RunnableConfig", config)

    def serialised(self, serde: SerializerProtocol) -> tuple[str, bytes] | None:
        """Give the input as LangGraph would store it; None where there is none."""
        return serde.dumps_typed(self.input) if self.input is not None else None


def call_of(workflow: str, given: Any, thread_id: str | None, config: Mapping[str, Any] | None) -> RunCall:
    """Put a call together. Raises ValueError where its names are impossible or contradict each other."""
    if not workflow or len(workflow) > _LONGEST_NAME:
        raise ValueError(f"a workflow's name has 1 to {_LONGEST_NAME} characters")
    config = dict(config or {})
    named = config.get("configurable", {}).get("thread_id")
    if thread_id is not None and named is not None and thread_id != named:
        message = "thread_id and config name two different threads"
        raise ValueError(message)
    chosen = thread_id if thread_id is not None else named
    if chosen is not None and (not isinstance(chosen, str) or not chosen or "\0" in chosen):
        message = "a thread's id is a text that is not empty"
        raise ValueError(message)
    return RunCall(workflow, chosen or generate_thread_id(workflow), config, given)
