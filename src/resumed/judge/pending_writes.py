"""Owns how the pending writes of a head are read before a resume, so that no answer goes astray and no route is lost.

The tables stay as they are; only what LangGraph is shown of them changes.
"""

from collections.abc import Sequence

from resumed.judge.verdict import ERROR, ERROR_SOURCE, INTERRUPT, NULL_TASK, RESUME

PendingWrite = tuple[str, str, object]
RawWrite = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
CONTROL = frozenset({ERROR, ERROR_SOURCE, INTERRUPT, RESUME, "__scheduled__"})
_EDITING = b"~__interrupt__, "  # the beginning of the path under which `update_state` saves
_MARK = " of an edit"


class EditId(str):
    """The id of a task in whose name `update_state` has saved a write: the task has not run.

    LangGraph saves what a person writes before it applies it, and leaves it there where that fails. It often does so
    under the id of a node that is due. To LangGraph the id is what it was.
    """

    __slots__ = ()


def mark_edits(writes: Sequence[RawWrite]) -> list[RawWrite]:
    """Mark the rows of edits before they are loaded, which loses their paths."""
    return [(one[0] + _MARK.encode(), *one[1:]) if one[4].startswith(_EDITING) else one for one in writes]


def unmark_edits(writes: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Give each marked row its id back, as an `EditId`."""
    return [
        (EditId(task.removesuffix(_MARK)) if task.endswith(_MARK) else task, channel, value)
        for task, channel, value in writes
    ]


def sanitise_writes(writes: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Leave out the null task's `__resume__`, and re-key the writes of a task that also has an error.

    The null row outlives its use and would answer the next question (langgraph issue 8837). A task whose router
    raised has saved its own writes beside the error, would be taken for done and its route skipped (issue 8834);
    dropping its rows would corrupt a `DeltaChannel`, so they go under a task id that nothing asks for.
    """
    failed = _failed_tasks(writes)
    return [
        (_unknown(task) if task in failed and channel not in CONTROL else task, channel, value)
        for task, channel, value in writes
        if not (task == NULL_TASK and channel == RESUME)
    ]


def _failed_tasks(writes: Sequence[PendingWrite]) -> set[str]:
    handled = {task for task, channel, _ in writes if channel == ERROR_SOURCE}
    return {task for task, channel, _ in writes if channel == ERROR} - handled


def _unknown(task_id: str) -> str:
    return "ffffffff" + task_id[8:]
