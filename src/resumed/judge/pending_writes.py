"""Owns what LangGraph is shown of a head's pending writes, so that no answer is misplaced and no route is lost.

The tables stay as they are.
"""

from collections.abc import Sequence

from resumed.judge.verdict import ERROR, ERROR_SOURCE, INTERRUPT, NULL_TASK, RESUME

PendingWrite = tuple[str, str, object]
RawWrite = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
CONTROL = frozenset({ERROR, ERROR_SOURCE, INTERRUPT, RESUME, "__scheduled__"})
_EDIT_PATH = b"~__interrupt__, "  # the beginning of the path under which `update_state` saves
_EDIT_MARK = " of an edit"
_UNUSED_ID = "ffffffff"  # begins the id of a task that does not exist


class EditId(str):
    """The id of a task under which `update_state` has saved a write, although the task has not run.

    LangGraph saves a person's edit before it applies it, often under the id of a node that is due, and leaves it there
    where applying fails. It compares equal to the plain id.
    """

    __slots__ = ()


def mark_edits(writes: Sequence[RawWrite]) -> list[RawWrite]:
    """Mark the rows of edits before they are loaded: loading drops the paths that show which they are."""
    return [(row[0] + _EDIT_MARK.encode(), *row[1:]) if row[4].startswith(_EDIT_PATH) else row for row in writes]


def unmark_edits(writes: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Restore the id of each marked row, as an `EditId`."""
    return [
        (EditId(task.removesuffix(_EDIT_MARK)) if task.endswith(_EDIT_MARK) else task, channel, value)
        for task, channel, value in writes
    ]


def sanitise_writes(writes: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Leave out the null task's `__resume__`, and re-key the writes of a task that also has an error.

    The null row outlives its use and would answer the next question (langgraph issue 8837). A task whose router
    raised has saved its own writes beside the error; it would count as done and its route would be skipped (issue
    8834). Dropping its rows would corrupt a `DeltaChannel`, so they get a task id that does not exist.
    """
    handled = {task for task, channel, _ in writes if channel == ERROR_SOURCE}
    failed = {task for task, channel, _ in writes if channel == ERROR} - handled
    return [
        (_UNUSED_ID + task[8:] if task in failed and channel not in CONTROL else task, channel, value)
        for task, channel, value in writes
        if not (task == NULL_TASK and channel == RESUME)
    ]
