"""Hands each answer that a task was given to its own question, and to no other.

LangGraph runs a task that has asked again and hands out its answers by index: the first question gets the first answer.
Tools of one node, coroutines or threads need not ask in the same order again. So an answer is handed out only where the
question that is stored with it is asked again, or, for earlier questions, which LangGraph does not store, where the
node itself asks, one question after the other.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from inspect import currentframe
from types import FrameType
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt

from resumed.judge.pending_writes import PendingWrite
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.runtime.langgraph_internals import (
    CONFIG_CHECKPOINT_NS,
    config_of_interrupt,
    is_call_of_node,
    is_interrupt_call,
    node_of_task,
    question_of_interrupt,
)

OTHER_QUESTION = "another question is asked than the one that was answered: answer again"
UNKNOWN_ORDER = "questions of one task are asked side by side, which of them was answered is unknown: answer again"


class AnswerWithheldError(GraphInterrupt):
    """An answer was not handed out: nothing proves that it belongs to the question that was asked.

    It names no question, so LangGraph ends the run as at a breakpoint and saves nothing of the task.
    """


class DeliveredAnswers(list[Any]):
    """The answers of one task, which LangGraph's `interrupt` takes by index and adds to.

    `questions` are those that are stored for the task. `withhold` is called with the reason where an answer is not
    handed out.
    """

    def __init__(
        self,
        answers: Sequence[Any],
        questions: Sequence[Interrupt],
        serde: SerializerProtocol,
        withhold: Callable[[str], None],
    ) -> None:
        """Hold the answers that are stored for the task; none where it has only asked."""
        super().__init__(answers)
        self._questions = questions
        self._serde = serde
        self._withhold = withhold
        self._added = False

    def __getitem__(self, index: Any) -> Any:
        """Hand out one answer; raises AnswerWithheldError where it may be another question's."""
        if isinstance(index, int):
            self._check(currentframe(), index, len(self))
        return super().__getitem__(index)

    def append(self, value: Any) -> None:
        """Add the answer to the task's open question: LangGraph does so as it prepares the task, maybe twice."""
        if _find_interrupt_call(currentframe()) is not None:
            self._check(currentframe(), len(self), len(self) + 1)
            super().append(value)
        elif not self._added:
            self._added = True
            super().append(value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Serialise as the plain list that LangGraph takes it for."""
        return list, (list(self),)

    def _check(self, here: FrameType | None, index: int, total: int) -> None:
        call = _find_interrupt_call(here)
        config = config_of_interrupt(call) if call is not None else {}
        known = self._find_question(config.get(CONFIG_CHECKPOINT_NS, ""), total)
        stored = known[1] if known is not None and known[0] == index else None
        if call is None or (stored is None and not _asks_itself(call, config)):
            reason = UNKNOWN_ORDER
        elif stored is not None and not self._is_same(stored.value, question_of_interrupt(call)):
            reason = OTHER_QUESTION
        else:
            return
        self._withhold(reason)
        raise AnswerWithheldError

    def _find_question(self, namespace: str, total: int) -> tuple[int, Interrupt] | None:
        """Return the index of an answer and its question, the task's own among those that it repeats.

        An id counts the answers that the task had when it asked. Older versions of LangGraph gave all of a task's
        questions the first id, and keep the last question only, whose answer is the last.
        """
        ids = {Interrupt.from_ns(None, f"{namespace}|{index}").id: index for index in range(1, total + 1)}
        first = Interrupt.from_ns(None, namespace).id
        for question in self._questions:
            if question.id in ids:
                return ids[question.id], question
            if question.id == first:
                return total - 1, question
        return None

    def _is_same(self, stored: Any, asked: Any) -> bool:
        """Compare the stored question with the new one as it would be loaded; False where they cannot be compared."""
        try:
            again = self._serde.loads_typed(self._serde.dumps_typed(asked))
            if bool(stored == again):
                return True
            plain = getattr(self._serde, "serde", self._serde)  # an encrypted value is never the same twice
            return bool(plain.dumps_typed(stored) == plain.dumps_typed(again))
        except Exception:  # noqa: BLE001 - whatever a user's class or serializer raises
            return False


def deliver_answers(
    writes: Sequence[PendingWrite], serde: SerializerProtocol, withhold: Callable[[str], None]
) -> list[PendingWrite]:
    """Replace the answers of each task of a checkpoint by `DeliveredAnswers`; empty where it has only asked."""
    questions: dict[str, list[Interrupt]] = {}
    answers: dict[str, list[Any]] = {}
    for task, channel, value in writes:
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if task != NULL_TASK and channel == INTERRUPT:
            questions.setdefault(task, []).extend(item for item in listed if isinstance(item, Interrupt))
        elif task != NULL_TASK and channel == RESUME:
            answers[task] = list(value) if isinstance(value, list) else [value]
    others = [write for write in writes if write[0] == NULL_TASK or write[1] != RESUME]
    return others + [
        (task, RESUME, DeliveredAnswers(answers.get(task, ()), questions.get(task, ()), serde, withhold))
        for task in dict.fromkeys((*questions, *answers))
    ]


def _find_interrupt_call(here: FrameType | None) -> FrameType | None:
    """Return the call of `interrupt` that wants an answer; None where something else reads the list."""
    caller = here.f_back if here is not None else None
    while caller is not None and caller.f_globals.get("__name__") == __name__:
        caller = caller.f_back
    return caller if caller is not None and is_interrupt_call(caller) else None


def _asks_itself(call: FrameType, config: Mapping[str, Any]) -> bool:
    """Return whether the node's own function asks, and no tool, coroutine or thread that it has started.

    The function's own calls end at the coroutine that runs now.
    """
    node = node_of_task(config)
    try:
        running = asyncio.current_task()
    except RuntimeError:
        running = None
    last = getattr(running.get_coro(), "cr_frame", None) if running is not None else None
    frame: FrameType | None = call if running is None or last is not None else None
    while node is not None and frame is not None:
        if is_call_of_node(frame, node):
            return True
        frame = frame.f_back if frame is not last else None
    return False
