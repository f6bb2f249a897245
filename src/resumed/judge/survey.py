"""Owns what a survey reports: the status of one thread by its rows, and the sums over many."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from resumed.judge.checkpoint_id import made_at
from resumed.judge.verdict import ERROR, INTERRUPT, Ages, Circumstances, ThreadSnapshot, is_trigger, judge_snapshot
from resumed.judge.workflow_match import WorkflowMatch
from resumed.model import PolicyLimits, Registration, Verdict
from resumed.rows import ControlRow

NO_NAME = "(none)"
UUIDS = "(uuid)"
NUMBERS = "(number)"
OTHERS = "(others)"
_MOST_GROUPS = 500
_MOST_NAMES = 50
_LONGEST_GROUP = 100
_NEVER_EXPIRES = timedelta(days=36500)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_PREFIX = re.compile(r"(.*?)[_:-]")
_CLASS = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]{0,99}")
_NODE = re.compile(r"~__pregel_pull, ([^,]+)|~__pregel_push, ~__pregel_pull, ([^,]+)")


class Status(StrEnum):
    """The status of a thread, as far as rows can tell."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    WAITING = "waiting"
    UNDECIDABLE = "undecidable"
    RECENT = "recent"


_BY_VERDICT = {
    Verdict.FINISHED: Status.FINISHED,
    Verdict.FAILED: Status.FAILED,
    Verdict.WAITING: Status.WAITING,
    Verdict.RUNNING: Status.RECENT,
}


@dataclass(frozen=True, slots=True)
class SurveyedThread:
    """One thread: its status, the node that it stopped at, the classes of its errors, when it last saved."""

    status: Status
    stopped_at: str | None
    errors: tuple[str, ...]
    saved_at: datetime | None


@dataclass(slots=True)
class Group:
    """The sums of the threads that share a prefix or a workflow; names beyond the fiftieth are counted as one."""

    counts: Counter[Status] = field(default_factory=Counter)
    stopped_at: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    oldest: datetime | None = None
    newest: datetime | None = None
    longest_step: timedelta | None = None

    def add(self, thread: SurveyedThread) -> None:
        """Count one thread."""
        self.counts[thread.status] += 1
        if thread.stopped_at is not None:
            _count(self.stopped_at, thread.stopped_at)
        for name in thread.errors:
            _count(self.errors, name)
        if thread.saved_at is not None:
            self.oldest = min(self.oldest or thread.saved_at, thread.saved_at)
            self.newest = max(self.newest or thread.saved_at, thread.saved_at)

    def learn(self, step: timedelta | None) -> None:
        """Keep the longest step."""
        if step is not None:
            self.longest_step = max(self.longest_step or step, step)

    def as_fields(self, name: str, fraction: float) -> dict[str, Any]:
        """Return the documented fields; where a fraction of all threads was looked at, counts are scaled up to all."""
        counts = {status.value: round(self.counts[status] / fraction) for status in Status}
        return {
            "group": name,
            "threads": sum(counts.values()),
            **counts,
            "stopped_at": {node: round(number / fraction) for node, number in self.stopped_at.most_common()},
            "errors": {error: round(number / fraction) for error, number in self.errors.most_common()},
            "oldest": self.oldest.isoformat() if self.oldest else None,
            "newest": self.newest.isoformat() if self.newest else None,
            "longest_step_s": round(self.longest_step.total_seconds(), 3) if self.longest_step is not None else None,
        }


def group_of(groups: dict[str, Group], name: str) -> Group:
    """Return the group of this name; beyond the 500th name all share one, so that memory is bounded."""
    if name not in groups and len(groups) >= _MOST_GROUPS:
        name = OTHERS
    return groups.setdefault(name, Group())


def prefix_of(thread_id: str) -> str:
    """Return what stands before the first `_`, `-` or `:` of a thread id: its workflow's name by the id alone."""
    if _UUID.fullmatch(thread_id):
        return UUIDS
    if thread_id.isdigit():
        return NUMBERS
    found = _PREFIX.match(thread_id)
    if found is None or not found[1]:
        return NO_NAME
    return found[1][:_LONGEST_GROUP]


def workflow_of(found: ThreadSnapshot) -> str:
    """Return the workflow that the thread's metadata names."""
    return (found.head.metadata_workflow or found.head.metadata_graph or NO_NAME)[:_LONGEST_GROUP]


def survey_thread(
    found: ThreadSnapshot, now: datetime, min_age: timedelta, *, lock_held: bool, errors: Iterable[str]
) -> SurveyedThread:
    """Judge one thread by its rows as a sweep would where any code took it."""
    status = _status(found, now, min_age, lock_held=lock_held)
    unfinished = status in (Status.STOPPED, Status.FAILED, Status.WAITING)
    return SurveyedThread(
        status=status,
        stopped_at=_stopping_node(found, status) if unfinished else None,
        errors=tuple(errors) if status is Status.FAILED else (),
        saved_at=made_at(found.head.newest_id),
    )


def has_error(found: ThreadSnapshot) -> bool:
    """Return whether a task of the head itself raised."""
    return any(row.channel == ERROR and not row.checkpoint_ns for row in found.rows)


def error_class(serialised: bytes) -> str:
    """Return the class out of the beginning of a serialised `repr` of an exception, and nothing else of it."""
    marks = {0xD9: 2, 0xDA: 3, 0xDB: 5}
    start = marks.get(serialised[0], 1) if serialised else 0
    found = _CLASS.match(serialised, start)
    return found[0].decode().rpartition(".")[2] if found else "unknown"


def suggested_min_age(groups: Mapping[str, Group], least: timedelta) -> timedelta:
    """Return twice the longest step, in whole minutes, and at least `least`."""
    longest = max(
        (group.longest_step for group in groups.values() if group.longest_step is not None), default=timedelta(0)
    )
    minutes = -(-longest * 2 // timedelta(minutes=1))
    return max(timedelta(minutes=minutes), least)


def _status(found: ThreadSnapshot, now: datetime, min_age: timedelta, *, lock_held: bool) -> Status:
    numbers = PolicyLimits(min_age, _NEVER_EXPIRES, 1, 1, min_age, min_age, min_age, 1)
    any_code = WorkflowMatch("", (Registration("", "", (), (), numbers, now),))
    circumstances = Circumstances(now=now, match=any_code, ages=Ages(min_age, _NEVER_EXPIRES), lock_held=lock_held)
    verdict = judge_snapshot(found, circumstances).verdict
    if verdict is Verdict.STOPPED and found.head.updated_channels is not None:
        return Status.STOPPED
    # Without `updated_channels`, or after an edit, only the graph can tell whether anything is left to run.
    return _BY_VERDICT.get(verdict, Status.UNDECIDABLE)


def _stopping_node(found: ThreadSnapshot, status: Status) -> str:
    channel = {Status.FAILED: ERROR, Status.WAITING: INTERRUPT}.get(status)
    nodes = [_node_of(row) for row in found.rows if row.channel == channel]
    if named := next((node for node in nodes if node), None):
        return named
    channels = (*(found.head.updated_channels or ()), *found.head.null_channels)
    return next((_target_of(channel) for channel in channels if is_trigger(channel)), NO_NAME)


def _node_of(row: ControlRow) -> str | None:
    """Return the node of a task; that of a subgraph by the names that lead to it."""
    found = _NODE.match(row.task_path)
    node = (found[1] or found[2]) if found else None
    above = [part.split(":")[0] for part in row.checkpoint_ns.split("|") if part and not part.isdigit()]
    return "|".join([*above, node])[:_LONGEST_GROUP] if node else None


def _target_of(channel: str) -> str:
    for prefix in ("branch:to:", "join:"):
        if channel.startswith(prefix):
            return channel.removeprefix(prefix).rpartition(":")[2][:_LONGEST_GROUP]
    return {"__start__": "(input)", "__pregel_tasks": "(sent tasks)"}.get(channel, channel[:_LONGEST_GROUP])


def _count(counted: Counter[str], name: str) -> None:
    counted[name if name in counted or len(counted) < _MOST_NAMES else OTHERS] += 1
