"""A chat model that always decides alike: it looks which of its tool calls have been answered, and makes the next."""

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from agents.effects import note


def call(tool: str, call_id: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=tool, args=arguments, id=call_id, type="tool_call")


class Scripted(BaseChatModel):
    """Asks for one batch of tool calls after the other, as far as their answers have come, and says `last` then."""

    speaker: str = "model"
    batches: tuple[tuple[ToolCall, ...], ...] = ()
    last: str = "done"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Runnable[Any, Any]:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        note("model", self.speaker, "")
        answered = {one.tool_call_id for one in messages if isinstance(one, ToolMessage)}
        for batch in self.batches:
            if not {one["id"] for one in batch} <= answered:
                return _said(AIMessage("", tool_calls=list(batch)))
        return _said(AIMessage(self.last))


def scripted(*batches: Sequence[ToolCall], speaker: str = "model", last: str = "done") -> Scripted:
    return Scripted(speaker=speaker, batches=tuple(tuple(batch) for batch in batches), last=last)


def _said(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])
