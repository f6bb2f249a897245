"""Owns the verdict on a thread from its rows alone (docs/verdicts.md); what needs values or the graph is preflight's.

A sweep judges so without ever deserialising, and an attempt judges again under the thread's lock.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.checkpoint_id import made_at
from resumed.judge.workflow_match import WorkflowMatch, accepts
from resumed.model import RESUMABLE, Case, Judgement, State, Verdict
from resumed.rows import ControlRow, Head

NULL_TASK = "00000000-0000-0000-0000-000000000000"
INTERRUPT = "__interrupt__"
RESUME = "__resume__"
ERROR = "__error__"
ERROR_SOURCE = "__error_source_node__"
CONTROL_CHANNELS = (ERROR, ERROR_SOURCE, INTERRUPT, RESUME)
START = "__start__"
SENDS = "__pregel_tasks"
BRANCH_PREFIX = "branch:to:"
JOIN_PREFIX = "join:"
_TRIGGERS = frozenset({START, SENDS})
_TRIGGER_PREFIXES = (BRANCH_PREFIX, JOIN_PREFIX)
_EDITING_SOURCES = frozenset({"update", "fork"})
# Among the triggers of a registration: its graphs are made for single threads, and none has been made yet.
ANY_CHANNEL = "*"
CALLED_TASK = "~__pregel_push, ~"
_INVISIBLE = "a question is open, but nobody can see it: it has not reached the root"


@dataclass(frozen=True, slots=True)
class Ages:
    """How long a thread must be quiet to be resumed (`min_age`), and how long to be left alone (`max_age`)."""

    min_age: timedelta
    max_age: timedelta


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything beside the rows that a verdict depends on. `known` is the case as recorded, if there is one.

    `ours`: this process holds the lock and wrote the head itself, so that no silence has to be waited for.
    """

    now: datetime
    match: WorkflowMatch
    ages: Ages
    lock_held: bool = False
    known: Case | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class ThreadSnapshot:
    """A head with its control rows, as they were read."""

    head: Head
    rows: tuple[ControlRow, ...]

    @property
    def ran_since(self) -> bool:
        """Return whether anything has run since the head was written."""
        return self.head.ran_since or any(row.task_id != NULL_TASK for row in self.rows)

    @property
    def fingerprint(self) -> str:
        """Return a digest that changes when a control row appears, vanishes or is written again, or a task saves.

        The last of these stands behind a `+`: a thread that has saved since it was judged is no longer where it was.
        The digest is stored, so that no release may compute another one of the same rows.
        """
        lines = sorted(
            f"{row.checkpoint_ns}|{row.checkpoint_id}|{row.task_id}|{row.channel}|{row.writer}" for row in self.rows
        )
        if self.head.source in _EDITING_SOURCES and self.ran_since:
            lines.append("another process has run it since")
        lines += [f"{namespace}|edited" for namespace in self.head.edited_inside]
        control, head = _digest("\n".join(lines)), self.head
        if head.newest_id == head.checkpoint_id and not head.saved_since:
            return control
        return f"{control}+{_digest(f'{head.newest_id}|{head.saved_since}')[:8]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def control_part(fingerprint: str) -> str:
    """Return the part of a fingerprint that stands for the control rows."""
    return fingerprint.partition("+")[0]


def is_trigger(channel: str, own: Sequence[str] = ()) -> bool:
    """Return whether a value in this channel starts a node; `own` are the triggers of a low-level `Pregel`."""
    return channel in _TRIGGERS or channel in own or ANY_CHANNEL in own or channel.startswith(_TRIGGER_PREFIXES)


def work_left(head: Head, triggers: Sequence[str] = ()) -> str | None:
    """Return a channel in which work waits; None where nothing is left to run.

    The rule was right on 676 of 677 crash points; `get_state().next`, which applies pending writes, on 468 of 675.
    Where the row holds no `updated_channels`, rows cannot tell: the answer is then "updated_channels is null".
    """
    if head.updated_channels is None:
        return "updated_channels is null"
    channels = (*head.updated_channels, *head.null_channels)
    return next((channel for channel in channels if is_trigger(channel, triggers)), None)


def needs_graph(judgement: Judgement) -> bool:
    """Return whether values and graph have to confirm what rows alone say."""
    return judgement.unsure or judgement.verdict in RESUMABLE


def is_known_dead(head: Head) -> bool:
    """Return whether the run that the thread belongs to has died: it is open while nobody holds the thread's lock.

    No silence is waited for then. Not where another process has moved the head since, nor once an attempt of ours has
    continued the run.
    """
    run = head.run
    if run is None or head.unapplied:
        return run is not None
    return run.state == "open" and (head.metadata_run == run.run_id or head.checkpoint_id == run.head_before)


def last_activity(head: Head, known: Case | None, now: datetime) -> datetime:
    """Return when the thread last saved a checkpoint; for an id without a time, when it was first seen."""
    made = made_at(head.newest_id)
    if made is not None:
        return made
    if known is None or known.head != head.checkpoint_id:
        return now
    return known.head_seen_at or known.first_seen_at


def changed_at(snapshot: ThreadSnapshot, known: Case | None, now: datetime) -> datetime | None:
    """Return when a look found the control rows of a known head changed; None for a new head."""
    if known is None or known.head != snapshot.head.checkpoint_id:
        return None
    same = control_part(known.fingerprint) == control_part(snapshot.fingerprint)
    return known.changed_at if same else now


def quiet_since(snapshot: ThreadSnapshot, circumstances: Circumstances) -> datetime:
    """Return when the thread last saved a checkpoint, or a look found its control rows changed."""
    active = last_activity(snapshot.head, circumstances.known, circumstances.now)
    changed = changed_at(snapshot, circumstances.known, circumstances.now)
    return max(active, changed or active)


def is_unchanged(snapshot: ThreadSnapshot, known: Case | None) -> bool:
    """Return whether head and rows are exactly those of the recorded case."""
    return known is not None and known.head == snapshot.head.checkpoint_id and known.fingerprint == snapshot.fingerprint


def judge_snapshot(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement:
    """Return the first verdict of the table in docs/verdicts.md that applies, as far as rows can tell."""
    if circumstances.lock_held:
        return Judgement(Verdict.RUNNING, "a process holds the thread's lock")
    return (
        _cancelled(snapshot.head, circumstances)
        or _waits_for_answer(snapshot, circumstances)
        or _nothing_left(snapshot, circumstances)
        or _edited(snapshot, circumstances)
        or _without_code(snapshot.head, circumstances)
        or _too_old(snapshot, circumstances)
        or _not_quiet(snapshot, circumstances)
        or _why_stopped(snapshot)
    )


def _cancelled(head: Head, circumstances: Circumstances) -> Judgement | None:
    if circumstances.known is None or circumstances.known.cancelled_head != head.checkpoint_id:
        return None
    return Judgement(Verdict.CANCELLED, "a person cancelled this head")


def _waits_for_answer(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """Judge a question without any sign of an answer; where there is one, preflight reads the values.

    A question whose process died before it reached the root is asked again where a workflow can do so.
    """
    open_questions = _find_open_questions(snapshot)
    questions = [row for row in snapshot.rows if row.channel == INTERRUPT]
    answers = [row for row in snapshot.rows if row.channel == RESUME]
    if not open_questions or answers or len(open_questions) < len(questions):
        return None
    if _are_invisible(open_questions):
        reason = f"{_INVISIBLE}, and no workflow is registered to ask it again"
        return None if circumstances.match.registrations else Judgement(Verdict.WAITING, reason)
    where = open_questions[0].checkpoint_ns or "the root graph"
    return Judgement(Verdict.WAITING, f"{len(open_questions)} task(s) wait for a person's answer, the first in {where}")


def _find_open_questions(snapshot: ThreadSnapshot) -> list[ControlRow]:
    """Return the open questions: their task has not saved its output, or has an error beside it."""
    failed = {_task(row) for row in snapshot.rows if row.channel == ERROR}
    questions = [row for row in snapshot.rows if row.channel == INTERRUPT]
    return [row for row in questions if not row.has_output or _task(row) in failed]


def _are_invisible(open_questions: Sequence[ControlRow]) -> bool:
    """Return whether no question has reached a person: LangGraph shows those of the root's own tasks."""
    return not any(not row.checkpoint_ns and not row.task_path.startswith(CALLED_TASK) for row in open_questions)


def _task(row: ControlRow) -> tuple[str, str, str]:
    return row.checkpoint_ns, row.checkpoint_id, row.task_id


def _nothing_left(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    live = circumstances.match.live(circumstances.now)
    triggers = {name for registration in circumstances.match.registrations for name in registration.triggers}
    if not any(ANY_CHANNEL in registration.triggers for registration in live):
        triggers.discard(ANY_CHANNEL)
    if work_left(snapshot.head, tuple(triggers)) is None:
        return Judgement(Verdict.FINISHED, "no channel of the head has work waiting")
    return None


def _edited(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """Judge an edit: rows do not show what it left to run, so the graph is asked once the thread is quiet."""
    head = snapshot.head
    quiet = quiet_since(snapshot, circumstances) + circumstances.ages.min_age <= circumstances.now
    if head.edited_inside:
        where = "|".join(part.split(":")[0] for part in head.edited_inside[0].split("|"))  # the nodes, without tasks
        reason = f"a person has edited the subgraph {where} and nothing has run since"
        return Judgement(Verdict.EDITED, reason, unsure=quiet and _can_ask_graph(head, circumstances))
    if head.source not in _EDITING_SOURCES or snapshot.ran_since:
        return None
    reason = f"the head was written by {head.source} and nothing has run since"
    unsure = quiet and head.updated_channels is None and _can_ask_graph(head, circumstances)
    return Judgement(Verdict.EDITED, reason, unsure=unsure)


def _can_ask_graph(head: Head, circumstances: Circumstances) -> bool:
    """Return whether a live version accepts the thread and has not refused this head yet."""
    known = _known_at(head, circumstances)
    live = circumstances.match.live(circumstances.now)
    accepting = [registration for registration in live if accepts(registration, head.metadata_version)]
    return any(known is None or registration.version not in known.refused_by for registration in accepting)


def _known_at(head: Head, circumstances: Circumstances) -> Case | None:
    known = circumstances.known
    return known if known is not None and known.head == head.checkpoint_id else None


def _without_code(head: Head, circumstances: Circumstances) -> Judgement | None:
    """Judge a thread that no registered workflow, or no live version of it, can resume."""
    match = circumstances.match
    if not match.registrations:
        reason = f"no workflow named {match.name!r} is registered" if match.name else "the thread names no workflow"
        return Judgement(Verdict.UNCLAIMED, reason)
    live, known = match.live(circumstances.now), _known_at(head, circumstances)
    accepting = [registration for registration in live if accepts(registration, head.metadata_version)]
    if live and not accepting:
        reason = f"no live version of {match.name} accepts version {head.metadata_version!r}"
        return Judgement(Verdict.INCOMPATIBLE, reason)
    if known is None or any(registration.version not in known.refused_by for registration in accepting):
        return None
    if known.refusal is Verdict.INCOMPATIBLE:
        return Judgement(Verdict.INCOMPATIBLE, known.refusal_reason or known.reason)
    # While no version is live the last verdict stands.
    return Judgement(known.verdict, known.reason) if known.verdict is Verdict.INCOMPATIBLE and not live else None


def _too_old(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """Judge by how quiet the thread was when it was first seen; a case that was ever due never expires."""
    known = circumstances.known
    first_seen_at = circumstances.now
    if is_known_dead(snapshot.head):
        return None
    if known is not None and known.state is not State.CLOSED:
        if known.attempts or known.due_at is not None:
            return None
        first_seen_at = known.first_seen_at
    if first_seen_at - quiet_since(snapshot, circumstances) <= circumstances.ages.max_age:
        return None
    return Judgement(Verdict.EXPIRED, "it was already quiet for longer than max_age when it was first seen")


def _not_quiet(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    known = circumstances.known
    left_by_us = is_unchanged(snapshot, known) and known is not None and known.own_head == known.head
    until = quiet_since(snapshot, circumstances) + circumstances.ages.min_age
    if until > circumstances.now and not (circumstances.ours or left_by_us or is_known_dead(snapshot.head)):
        return Judgement(Verdict.RUNNING, "not yet quiet for min_age", until)
    return None


def _why_stopped(snapshot: ThreadSnapshot) -> Judgement:
    if snapshot.head.unapplied:
        return Judgement(Verdict.STOPPED, "the input of a registered run was not applied yet")
    pending = work_left(snapshot.head) or "a channel of its own"
    errors = [row for row in snapshot.rows if row.channel == ERROR]
    if any(not row.cancelled for row in errors):
        return Judgement(Verdict.FAILED, f"a task of the head has an error; work waits in {pending}")
    open_questions = _find_open_questions(snapshot)
    if open_questions and _are_invisible(open_questions):
        return Judgement(Verdict.STOPPED, _INVISIBLE)
    return Judgement(Verdict.STOPPED, f"work waits in {pending} and no task has an error")
