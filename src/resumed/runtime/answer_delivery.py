"""Hands a task the answers that it was given, each to the question that it was given for and to no other.

LangGraph re-runs a task that has asked and hands out its answers by index: whoever asks first gets the first one. Tools
of one node, coroutines or threads need not ask in the order in which they asked before. So an answer is handed out
only where the question that is stored with it is asked again, or, for earlier questions, which LangGraph does not
keep, where the node itself asks, one question after the other.
"""

import asyncio
from collections.abc import Callable, Sequence
from inspect import currentframe
from types import FrameType
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt, interrupt

from resumed.judge.pending_writes import PendingWrite
from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME

_CALL = "__pregel_call"
_NAMESPACE = "checkpoint_ns"
OTHER_QUESTION = "another question is asked than the one that was answered: answer again"
UNKNOWN_ORDER = "questions of one task are asked side by side, which of them was answered is unknown: answer again"


class AnswerWithheldError(GraphInterrupt):
    """An answer was not handed out: nobody knows that it belongs to the question that was asked.

    It names no question, so LangGraph ends the run as at a breakpoint and saves nothing of the task.
    """


class DeliveredAnswers(list[Any]):
    """The answers of one task, which LangGraph's `interrupt` takes by index and adds to.

    `asked` is the last question that the task is known to have asked. `withhold` is told why an answer is kept back.
    """

    def __init__(
        self,
        given: Sequence[Any],
        asked: Sequence[Interrupt],
        serde: SerializerProtocol,
        withhold: Callable[[str], None],
    ) -> None:
        """Hold the answers that are stored for the task; none yet where it has only asked."""
        super().__init__(given)
        self._asked = asked
        self._serde = serde
        self._withhold = withhold
        self._added = False

    def __getitem__(self, index: Any) -> Any:
        """Hand out one answer; raises WithheldError where it may be another question's."""
        if isinstance(index, int):
            self._check(currentframe(), index, len(self))
        return super().__getitem__(index)

    def append(self, value: Any) -> None:
        """Add the answer to the task's open question: by its id as LangGraph prepares the task, maybe twice."""
        if _asker(currentframe()) is not None:
            self._check(currentframe(), len(self), len(self) + 1)
            super().append(value)
        elif not self._added:
            self._added = True
            super().append(value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Serialise as the plain list that LangGraph takes it for."""
        return list, (list(self),)

    def _check(self, here: FrameType | None, index: int, total: int) -> None:
        asker = _asker(here)
        conf = asker.f_locals["conf"] if asker is not None else {}
        known = self._known(conf.get(_NAMESPACE, ""), total)
        if asker is None or ((known is None or known[0] != index) and not _asks_itself(asker, conf)):
            said = UNKNOWN_ORDER
        elif known is not None and known[0] == index and not self._same(known[1].value, asker.f_locals["value"]):
            said = OTHER_QUESTION
        else:
            return
        self._withhold(said)
        raise AnswerWithheldError

    def _known(self, namespace: str, total: int) -> tuple[int, Interrupt] | None:
        """Find the task's own question among those that it repeats, and the index of its answer.

        An id counts the answers that the task had when it asked. Older versions of LangGraph gave all of a task's
        questions the first id, and keep the last question only, whose answer is the last.
        """
        ids = {Interrupt.from_ns(None, f"{namespace}|{index}").id: index for index in range(1, total + 1)}
        first = Interrupt.from_ns(None, namespace).id
        for asked in self._asked:
            if asked.id in ids:
                return ids[asked.id], asked
            if asked.id == first:
                return total - 1, asked
        return None

    def _same(self, stored: Any, asked: Any) -> bool:
        """Compare what was asked with what is asked, as it would be loaded; what cannot be compared may differ."""
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
    """Put `Answers` in the place of what each task of a checkpoint was answered; empty where it has only asked."""
    asked: dict[str, list[Interrupt]] = {}
    given: dict[str, list[Any]] = {}
    for task, channel, value in writes:
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if task != NULL_TASK and channel == INTERRUPT:
            asked.setdefault(task, []).extend(one for one in listed if isinstance(one, Interrupt))
        elif task != NULL_TASK and channel == RESUME:
            given[task] = list(value) if isinstance(value, list) else [value]
    kept = [one for one in writes if one[0] == NULL_TASK or one[1] != RESUME]
    tasks = dict.fromkeys((*asked, *given))
    return kept + [
        (task, RESUME, DeliveredAnswers(given.get(task, ()), asked.get(task, ()), serde, withhold)) for task in tasks
    ]


def _asker(here: FrameType | None) -> FrameType | None:
    """Give the call of `interrupt` that asked for an answer; None where somebody else looks into the list."""
    caller = here.f_back if here is not None else None
    while caller is not None and caller.f_globals.get("__name__") == __name__:
        caller = caller.f_back
    return caller if caller is not None and caller.f_code is interrupt.__code__ else None


def _asks_itself(asker: FrameType, conf: Any) -> bool:
    """Say whether the node's own function asks, and no tool, coroutine or thread that it has started.

    Nothing of the function's own line of calls lies beyond the coroutine that runs now.
    """
    node = _node(conf)
    try:
        running = asyncio.current_task()
    except RuntimeError:
        running = None
    last = getattr(running.get_coro(), "cr_frame", None) if running is not None else None
    frame: FrameType | None = asker if running is None or last is not None else None
    while node is not None and frame is not None:
        if _calls(frame, node):
            return True
        frame = frame.f_back if frame is not last else None
    return False


def _node(conf: Any) -> Any:
    """Find what LangGraph runs for the task that asks; None where a release no longer shows it."""
    arguments = getattr(conf.get(_CALL), "args", ())
    task = arguments[0]() if arguments and callable(arguments[0]) else None
    runnable = getattr(task, "proc", None)
    return next(iter(getattr(runnable, "steps", ())), runnable)


def _calls(frame: FrameType, node: Any) -> bool:
    """Say whether this frame calls the node: LangGraph's own, or that of the thread which it runs the function in."""
    name = frame.f_code.co_name
    if name in ("invoke", "ainvoke"):
        return frame.f_locals.get("self") is node
    return name == "wrapper" and getattr(node, "func", None) is not None and frame.f_locals.get("func") is node.func
