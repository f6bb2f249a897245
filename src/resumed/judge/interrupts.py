"""Which question is open, and whether an answer is there that nobody has taken yet.

LangGraph keeps an answer in a row of the all-zero task, the null row, and leaves it there after its use: a resume
would give it to the next question (langgraph issue 8837). What was measured: the order of the rows tells a taken
answer from an open one, but for rows of one transaction; when in doubt, a person answers again, which is harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from resumed.judge.verdict import INTERRUPT, NULL_TASK, RESUME
from resumed.model import Judgement, Verdict


@dataclass(frozen=True, slots=True)
class InterruptRow:
    """A row that asks or answers, loaded.

    `ids` are the questions of an asking row, `values` the answers of an answering one, in their order; `order` grows
    with the transaction; `output_order` is when the task last saved ordinary writes; `failed` that it has an error;
    `left_behind` that its subgraph has gone on to another superstep, which none does with a question open, or was taken
    there by a person's edit; `called` that another task has called it, which repeats what it asks.
    """

    task: tuple[str, str, str]
    channel: str
    order: int
    ids: tuple[str, ...] = ()
    values: tuple[object, ...] = ()
    output_order: int | None = None
    failed: bool = False
    left_behind: bool = False
    called: bool = False


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """An answer that is open, and the one question that it is for."""

    question: str
    value: object


def match_answers(rows: Sequence[InterruptRow], *, plainly: bool = False) -> OpenAnswer | Judgement | None:
    """Return which answer goes to which question; `waiting` where a person has to, None where the thread may go on.

    It may where nothing is asked, and where no question has reached the root: then none has reached its person, it is
    asked again, and nothing is answered. Not where the thread is gone on with `plainly`, by LangGraph's own saver, and
    an answer lies on the null task: whoever asks again would be given that one.
    """
    unanswered = _unanswered(rows)
    if not unanswered:
        return None
    settled = _settled(unanswered, rows)
    if isinstance(settled, OpenAnswer) or (plainly and _null(rows) is not None):
        return settled
    return settled if _reached(rows) & {*unanswered} else None


def _settled(unanswered: Sequence[str], rows: Sequence[InterruptRow]) -> OpenAnswer | Judgement:
    null = _null(rows)
    if null is None or _taken(null, rows):
        return Judgement(Verdict.WAITING, f"{len(unanswered)} question(s) without an answer, the first {unanswered[0]}")
    if _doubtful(null, rows):
        return Judgement(Verdict.WAITING, "an answer is there, its order is unknown: answer again")
    if len(unanswered) > 1:
        return Judgement(Verdict.WAITING, f"one answer and {len(unanswered)} questions: answer each by its id")
    return OpenAnswer(unanswered[0], null.values[-1] if null.values else None)


def _null(rows: Sequence[InterruptRow]) -> InterruptRow | None:
    return next((row for row in rows if row.task[2] == NULL_TASK and row.channel == RESUME), None)


def _unanswered(rows: Sequence[InterruptRow]) -> list[str]:
    """A question is answered once any task that asked it has finished, or has an answer newer than the question."""
    asking = [row for row in rows if row.channel == INTERRUPT]
    answered = {one for row in asking if _finished(row) or _answered(row, rows) for one in row.ids}
    return sorted({one for row in asking for one in row.ids} - answered)


def _reached(rows: Sequence[InterruptRow]) -> set[str]:
    """Return the open questions that a person is shown: LangGraph reads them from the root's own tasks."""
    asking = [row for row in rows if row.channel == INTERRUPT and not row.task[0] and not row.called]
    return {one for row in asking if not _finished(row) and not _overtaken(row, rows) for one in row.ids}


def _overtaken(row: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    """Say whether the subgraph for which a task of the root repeats a question has asked another one since.

    Each question of a node has an id of its own, and the row of the one before is written over.
    """
    below = [other for other in rows if other.channel == INTERRUPT and _runs_below(other, row)]
    repeated = {one for other in below for one in other.ids}
    return any(other.order > row.order for other in below) and repeated.isdisjoint(row.ids)


def _runs_below(row: InterruptRow, root: InterruptRow) -> bool:
    return row.task[0].partition("|")[0].endswith(f":{root.task[2]}")


def _finished(row: InterruptRow) -> bool:
    return row.left_behind or (row.output_order is not None and not row.failed)


def _answered(asking: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    own = [row for row in rows if row.channel == RESUME and row.task == asking.task]
    return any(row.order > asking.order for row in own)


def _proofs(rows: Sequence[InterruptRow]) -> list[int]:
    """The orders of all that can only have been saved after somebody took an answer, or before one was given."""
    tasks = [row for row in rows if row.task[2] != NULL_TASK]
    asked = {row.task for row in tasks if row.channel == INTERRUPT}
    outputs = [row.output_order for row in tasks if row.task in asked and row.output_order is not None]
    return [*(row.order for row in tasks), *outputs]


def _taken(null: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    return any(order > null.order for order in _proofs(rows))


def _doubtful(null: InterruptRow, rows: Sequence[InterruptRow]) -> bool:
    """Rows of one transaction have no order; nor is an answer believed twice that a task has, or may have, taken."""
    if any(order == null.order for order in _proofs(rows)) or _unrecorded(rows):
        return True
    taken = [row.values[-1] for row in rows if row.channel == RESUME and row.task[2] != NULL_TASK and row.values]
    return any(_same(one, null.values[-1] if null.values else None) for one in taken)


def _unrecorded(rows: Sequence[InterruptRow]) -> set[str]:
    """Name the questions whose answer a task took without a row that tells which: a second one leaves none."""
    asking = [row for row in rows if row.channel == INTERRUPT]
    recorded = {one for row in asking if _answered(row, rows) for one in row.ids}
    return {one for row in asking if _went_on(row) for one in row.ids} - recorded


def _went_on(row: InterruptRow) -> bool:
    return row.left_behind if row.output_order is None else row.output_order > row.order


def _same(one: object, other: object) -> bool:
    """Compare answers of any class; what cannot be compared may be the same."""
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - a user's class may raise, or compare to an array
        return True
