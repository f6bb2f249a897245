"""A chat model that always decides alike: it looks which of its tool calls have been answered, and makes the next."""

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable


class Scripted(BaseChatModel):
    """Asks for the batch of tool calls after the last one that has been answered; says `last` after all of them."""

    batches: tuple[tuple[ToolCall, ...], ...] = ()
    last: str = "done"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Runnable[Any, Any]:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        answered = {one.tool_call_id for one in messages if isinstance(one, ToolMessage)}
        done = [number for number, batch in enumerate(self.batches, 1) if {one["id"] for one in batch} <= answered]
        due = self.batches[max(done, default=0) :]
        said = AIMessage("", tool_calls=list(due[0])) if due else AIMessage(self.last)
        return ChatResult(generations=[ChatGeneration(message=said)])


def scripted(*batches: Sequence[ToolCall], last: str = "done") -> Scripted:
    return Scripted(batches=tuple(tuple(batch) for batch in batches), last=last)


def call(tool: str, call_id: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=tool, args=arguments, id=call_id, type="tool_call")
