"""Owns the sentences that explain a verdict: channels, tasks and rows with their order; never a value."""

from collections.abc import Iterator, Sequence

from resumed.judge.verdict import NULL_TASK, ThreadSnapshot, is_trigger
from resumed.model import Judgement
from resumed.rows import ControlRow, Head

_LONGEST_NAME = 80
_LONGEST_NAMESPACE = 240
_MOST_NAMES = 10
_MOST_ROWS = 50
_PULLED = "~__pregel_pull, "
_CALLED = "~__pregel_push, ~__pregel_pull, "
_SENT = "~__pregel_push, "


def evidence(found: ThreadSnapshot, judgement: Judgement, triggers: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the lines by which a person can check a verdict; `triggers` are those of a low-level `Pregel`.

    Orders are ranks: rows of one transaction share theirs.
    """
    lines = [*_head_lines(found.head), *_work_lines(found.head, triggers)]
    if judgement.until is not None:
        lines.append(f"it has been quiet for long enough at {judgement.until.isoformat()}")
    return (*lines, *_row_lines(found.rows))


def _head_lines(head: Head) -> Iterator[str]:
    if head.checkpoint_id:
        yield f"the head is {_short(head.checkpoint_id)}, written by {_short(head.source or 'no source')}"
    else:
        yield "the thread has no checkpoint yet"
    if head.run is not None:
        yield f"a run of it was registered at {head.run.begun_at.isoformat()} and has not ended: {head.run.state}"
    if head.newest_id != head.checkpoint_id:
        yield f"the newest checkpoint is {_short(head.newest_id)}, of a subgraph"


def _work_lines(head: Head, triggers: Sequence[str]) -> Iterator[str]:
    if head.updated_channels is None:
        yield "updated_channels of the head is null: only the graph can tell what is left"
        return
    updated = [channel for channel in head.updated_channels if is_trigger(channel, triggers)]
    given = [channel for channel in head.null_channels if is_trigger(channel, triggers)]
    waiting = [*map(_work_line, updated), *(f"{_work_line(channel)}, by a row of the null task" for channel in given)]
    yield from _cut(waiting, "channels with work", _MOST_NAMES)
    if not waiting:
        names = ", ".join(_cut([*map(_short, head.updated_channels)], "", _MOST_NAMES))
        yield f"none of the head's updated channels starts a node: {names or 'there are none'}"


def _work_line(channel: str) -> str:
    if channel == "__start__":
        return "work waits in __start__: the input"
    if channel == "__pregel_tasks":
        return "work waits in __pregel_tasks: what was sent to nodes"
    for prefix in ("branch:to:", "join:"):
        if channel.startswith(prefix):
            node = channel.removeprefix(prefix).rpartition(":")[2]
            return f"work waits in {_short(channel)}: node {_short(node)}"
    return f"work waits in {_short(channel)}: a trigger of the workflow's own"


def _row_lines(rows: Sequence[ControlRow]) -> Iterator[str]:
    if not rows:
        yield "no row of the head, or of a subgraph since, holds an error, a question or an answer"
        return
    orders = {row.order for row in rows} | {row.output_order for row in rows if row.output_order is not None}
    ranks = {order: rank for rank, order in enumerate(sorted(orders), 1)}
    ordered = sorted(rows, key=lambda row: (row.order, row.checkpoint_ns, row.task_id, row.channel))
    yield from _cut([_row_line(row, ranks) for row in ordered], "rows", _MOST_ROWS)


def _row_line(row: ControlRow, ranks: dict[int, int]) -> str:
    place = f"namespace {_short(row.checkpoint_ns, _LONGEST_NAMESPACE)}" if row.checkpoint_ns else "the root"
    task = "the null task" if row.task_id == NULL_TASK else f"task {_short(row.task_id)}{_node_text(row.task_path)}"
    line = f"order {ranks[row.order]}: {_short(row.channel)} of {task}, in {place}"
    line += f", on {_short(row.checkpoint_id)}"
    if row.cancelled:
        line += ", a bare CancelledError"
    if row.output_order is None or row.task_id == NULL_TASK:
        return line
    return f"{line}; the task's own writes: order {ranks[row.output_order]}"


def _node_text(path: str) -> str:
    """Return the node of a task by its path; the path of a sent task has only its number."""
    for prefix, words in ((_CALLED, "called by"), (_PULLED, "node"), (_SENT, "sent, number")):
        if path.startswith(prefix):
            name = path.removeprefix(prefix).split(", ")[0]
            return f" ({words} {_short(name.lstrip('0') or '0') if prefix == _SENT else _short(name)})"
    return ""


def _cut(lines: list[str], what: str, most: int) -> list[str]:
    more = len(lines) - most
    return lines if more <= 0 else [*lines[:most], f"and {more} more {what}".rstrip()]


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"
