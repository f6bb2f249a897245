"""Decides which question is open, and whether a stored answer has not been used yet.

LangGraph stores an answer in a row of the all-zero task, the null row, and leaves it there after its use: a resume
would give it to the next question (langgraph issue 8837). The order of the rows tells a used answer from an open one,
except for rows of one transaction; in doubt a person answers again, which is harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from resumed.judge.verdict import CALLED_TASK, INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict


@dataclass(frozen=True, slots=True)
class InterruptRow:
    """A row of a question or an answer, with its values loaded.

    `ids` are the questions of a question's row, `values` the answers of an answer's, in their order; `order` grows with
    the transaction; `output_order` is when the task last saved ordinary writes; `failed`: the task has an error;
    `left_behind`: its subgraph is at a later superstep, which none reaches with a question open, or was moved there by
    a person's edit; `path` is the task's own, as LangGraph saves it: a task that another one has called has its
    caller's path in it, and the caller repeats what it asks.
    """

    task: tuple[str, str, str]
    channel: str
    order: int
    ids: tuple[str, ...] = ()
    values: tuple[object, ...] = ()
    output_order: int | None = None
    failed: bool = False
    left_behind: bool = False
    path: str = ""


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """An answer that was not used yet, and the one question that it is for."""

    question: str
    value: object


def match_answers(rows: Sequence[InterruptRow], *, plainly: bool = False) -> OpenAnswer | Judgement | None:
    """Return which answer is for which question; `waiting` where a person has to answer, None where the thread may run.

    It may run where no question is open, and where no open question has reached the root: a person has not seen that
    one, it is asked again, and nothing is answered. With `plainly` (LangGraph's own saver resumes the thread) not while
    an answer is on the null task: the question asked again would be given that one.
    """
    unanswered = _find_unanswered(rows)
    if not unanswered:
        return None
    match = _match_null_answer(unanswered, rows)
    if isinstance(match, OpenAnswer) or (plainly and _find_null_answer(rows) is not None):
        return match
    return match if _find_visible(rows) & {*unanswered} else None


def _match_null_answer(unanswered: Sequence[str], rows: Sequence[InterruptRow]) -> OpenAnswer | Judgement:
    answer = _find_null_answer(rows)
    if answer is None or not _may_be_for(answer, unanswered, rows):
        return Judgement(Verdict.WAITING, f"{len(unanswered)} question(s) without an answer, the first {unanswered[0]}")
    if any(order > answer.order for order in _orders_of_progress(rows)) or _may_be_used(answer, rows):
        return Judgement(Verdict.WAITING, "there is an answer, but its order is unknown: answer again")
    if len(unanswered) > 1:
        return Judgement(Verdict.WAITING, f"one answer and {len(unanswered)} questions: answer each by its id")
    return OpenAnswer(unanswered[0], answer.values[-1] if answer.values else None)


def _may_be_for(answer: InterruptRow, unanswered: Sequence[str], rows: Sequence[InterruptRow]) -> bool:
    """Return whether an answer was given after one of these questions, and no task is known to have taken it.

    A question that was asked after the answer proves that it was taken, not by whom: the saves of one step overtake
    each other, and the process may die before what the taker saved has come.
    """
    questions = [row for row in rows if row.channel == INTERRUPT]
    taken = [row.order for row in rows if row.channel == RESUME and row.task[2] != NULL_TASK]
    taken += [row.output_order for row in questions if row.output_order is not None]
    is_asked_before = any(row.order <= answer.order for row in questions if not {*row.ids}.isdisjoint(unanswered))
    return is_asked_before and all(order <= answer.order for order in taken)


def _find_null_answer(rows: Sequence[InterruptRow]) -> InterruptRow | None:
    return next((row for row in rows if row.task[2] == NULL_TASK and row.channel == RESUME), None)


def _find_unanswered(rows: Sequence[InterruptRow]) -> list[str]:
    """A question is answered once any task that asked it has finished, or has an answer newer than the question."""
    questions = [row for row in rows if row.channel == INTERRUPT]
    answered = {question for row in questions if _is_finished(row) or _has_answer(row, rows) for question in row.ids}
    return sorted({question for row in questions for question in row.ids} - answered)


def _find_visible(rows: Sequence[InterruptRow]) -> set[str]:
    """Return the open questions that a person is shown: LangGraph reads them from the root's own tasks."""
    questions = [
        row for row in rows if row.channel == INTERRUPT and not row.task[0] and not row.path.startswith(CALLED_TASK)
    ]
    current = [row for row in questions if not _is_finished(row) and not _is_superseded(row, rows)]
    return {question for row in current for question in row.ids}


def _is_superseded(row: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    """Return whether that for which a task of the root repeats a question has asked another one since.

    Each question of a node has an id of its own, and its row overwrites that of the question before. Only an answer in
    between leads from one to the next: without it the task of the root asks something of its own beside that. Rows of
    one transaction have no order.
    """
    below = [other for other in rows if other.channel == INTERRUPT and _repeats(row, other)]
    repeated = {question for other in below for question in other.ids}
    has_asked = any(_has_moved_on(other, row, rows) for other in below if not _is_finished(other))
    return has_asked and repeated.isdisjoint(row.ids)


def _has_moved_on(asked: InterruptRow, repeated: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    """Return whether an answer was given or taken after the root repeated a question, and before this one was asked."""
    takers = (asked.task, (*repeated.task[:2], NULL_TASK))
    answers = [row for row in rows if row.channel == RESUME and row.task in takers]
    return any(repeated.order <= answer.order <= asked.order for answer in answers)


def _repeats(row: InterruptRow, other: InterruptRow) -> bool:
    """Return whether a task of the root repeats what another asks: one of its subgraph, or one that it has called."""
    if other.task[0]:
        return other.task[0].partition("|")[0].endswith(f":{row.task[2]}")
    path = other.path
    while path.startswith(CALLED_TASK):
        path = path[len(CALLED_TASK) - 1 :]
        if row.path and path.startswith(f"{row.path}, "):
            return True
    return False


def _is_finished(row: InterruptRow) -> bool:
    return row.left_behind or (row.output_order is not None and not row.failed)


def _has_answer(question: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    return any(row.order > question.order for row in rows if row.channel == RESUME and row.task == question.task)


def _orders_of_progress(rows: Sequence[InterruptRow]) -> list[int]:
    """Return the orders of all rows that can only have been saved after an answer was used, or before one was given."""
    tasks = [row for row in rows if row.task[2] != NULL_TASK]
    asked = {row.task for row in tasks if row.channel == INTERRUPT}
    outputs = [row.output_order for row in tasks if row.task in asked and row.output_order is not None]
    return [*(row.order for row in tasks), *outputs]


def _may_be_used(answer: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    """Rows of one transaction have no order; nor is an answer used twice that a task has used, or may have."""
    if any(order == answer.order for order in _orders_of_progress(rows)) or _find_unrecorded(rows):
        return True
    used = [row.values[-1] for row in rows if row.channel == RESUME and row.task[2] != NULL_TASK and row.values]
    return any(_may_be_equal(value, answer.values[-1] if answer.values else None) for value in used)


def _find_unrecorded(rows: Sequence[InterruptRow]) -> set[str]:
    """Return the questions whose answer a task used without a row that says which: a second answer leaves none."""
    questions = [row for row in rows if row.channel == INTERRUPT]
    recorded = {question for row in questions if _has_answer(row, rows) for question in row.ids}
    ran_since = [
        row for row in questions if (row.left_behind if row.output_order is None else row.output_order > row.order)
    ]
    return {question for row in ran_since for question in row.ids} - recorded


def _may_be_equal(value: object, other: object) -> bool:
    """Compare answers of any class; what cannot be compared may be equal."""
    try:
        return bool(value == other)
    except Exception:  # noqa: BLE001 - a user's class may raise, or compare to an array
        return True
