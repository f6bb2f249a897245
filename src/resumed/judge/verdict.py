"""The verdict on a thread from its rows alone (contract section 5); what needs values or the graph is preflight's.

The sweep asks here without ever deserialising, and an attempt asks again under the thread's lock.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.checkpoint_id import made_at
from resumed.judge.proof import is_known_dead
from resumed.judge.workflow_match import WorkflowMatch, accepts
from resumed.model import RESUMABLE, Case, Judgement, State, Verdict
from resumed.rows import ControlRow, Head

NULL_TASK = "00000000-0000-0000-0000-000000000000"
INTERRUPT = "__interrupt__"
RESUME = "__resume__"
ERROR = "__error__"
ERROR_SOURCE = "__error_source_node__"
CONTROL_CHANNELS = (ERROR, ERROR_SOURCE, INTERRUPT, RESUME)
_TRIGGERS = frozenset({"__start__", "__pregel_tasks"})
_TRIGGER_PREFIXES = ("branch:to:", "join:")
_EDITING_SOURCES = frozenset({"update", "fork"})
# Among the triggers of a registration: its graphs are made for single threads, and none has been made yet.
ANY_CHANNEL = "*"
_CALLED = "~__pregel_push, ~"


@dataclass(frozen=True, slots=True)
class Ages:
    """The silence that makes a thread ours (`min_age`) and the silence that makes it nobody's (`max_age`)."""

    min_age: timedelta
    max_age: timedelta


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything beside the rows that a verdict depends on. `known` is the case as recorded, if there is one.

    `ours` says that we hold the lock and wrote the head ourselves, so that no silence has to be waited for.
    """

    now: datetime
    claim: WorkflowMatch
    ages: Ages
    lock_held: bool = False
    known: Case | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class ThreadSnapshot:
    """A head with its control rows, as one look found them."""

    head: Head
    rows: tuple[ControlRow, ...]

    @property
    def ran_since(self) -> bool:
        """Whether anything has run since the head was written."""
        return self.head.ran_since or any(row.task_id != NULL_TASK for row in self.rows)

    @property
    def fingerprint(self) -> str:
        """A digest that changes when a control row appears, vanishes or is written again, or a task saves anything.

        The latter stands behind a `+`: what has gone on since the head was judged is no longer where it was.
        """
        lines = sorted(
            f"{row.checkpoint_ns}|{row.checkpoint_id}|{row.task_id}|{row.channel}|{row.writer}" for row in self.rows
        )
        if self.head.source in _EDITING_SOURCES and self.ran_since:
            lines.append("somebody has run it since")
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


def trigger(channel: str, own: Sequence[str] = ()) -> bool:
    """Say whether a value in this channel starts a node; `own` are the trigger names of a low-level `Pregel`."""
    return channel in _TRIGGERS or channel in own or ANY_CHANNEL in own or channel.startswith(_TRIGGER_PREFIXES)


def work_left(head: Head, triggers: Sequence[str] = ()) -> str | None:
    """Name a channel that has work waiting; None where nothing is left to run.

    The rule was right on 676 of 677 crash points; `get_state().next`, which applies pending writes, on 468 of 675.
    Where the row holds no `updated_channels`, rows cannot tell: the answer is then "updated_channels is null".
    """
    if head.updated_channels is None:
        return "updated_channels is null"
    pending = (one for one in (*head.updated_channels, *head.null_channels) if trigger(one, triggers))
    return next(pending, None)


def open_question(judgement: Judgement) -> bool:
    """Say whether values and graph have the last word on what rows said."""
    return judgement.unsure or judgement.verdict in RESUMABLE


def last_activity(head: Head, known: Case | None, now: datetime) -> datetime:
    """When the thread last saved a checkpoint; for an id that tells no time, when it was first seen."""
    made = made_at(head.newest_id)
    if made is not None:
        return made
    if known is None or known.head != head.checkpoint_id:
        return now
    return known.head_seen_at or known.first_seen_at


def changed_at(snapshot: ThreadSnapshot, known: Case | None, now: datetime) -> datetime | None:
    """When we saw the control rows of a known head change; None for a head that is new to us."""
    if known is None or known.head != snapshot.head.checkpoint_id:
        return None
    same = control_part(known.fingerprint) == control_part(snapshot.fingerprint)
    return known.changed_at if same else now


def quiet_since(snapshot: ThreadSnapshot, circumstances: Circumstances) -> datetime:
    """When the thread last gave a sign of life: a checkpoint, or a change of its control rows that we saw happen."""
    active = last_activity(snapshot.head, circumstances.known, circumstances.now)
    changed = changed_at(snapshot, circumstances.known, circumstances.now)
    return max(active, changed or active)


def is_unchanged(snapshot: ThreadSnapshot, known: Case | None) -> bool:
    """Say whether the thread stands exactly where the recorded case saw it."""
    return known is not None and known.head == snapshot.head.checkpoint_id and known.fingerprint == snapshot.fingerprint


def judge_snapshot(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement:
    """Give the first verdict of the contract's table that applies, as far as rows can tell."""
    if circumstances.lock_held:
        return Judgement(Verdict.RUNNING, "somebody holds the thread's lock")
    return (
        _cancelled(snapshot.head, circumstances)
        or _person_asked(snapshot, circumstances)
        or _nothing_left(snapshot, circumstances)
        or _edited(snapshot, circumstances)
        or _nobodys(snapshot.head, circumstances)
        or _too_old(snapshot, circumstances)
        or _not_quiet(snapshot, circumstances)
        or _why_stopped(snapshot)
    )


def _cancelled(head: Head, circumstances: Circumstances) -> Judgement | None:
    if circumstances.known is None or circumstances.known.cancelled_head != head.checkpoint_id:
        return None
    return Judgement(Verdict.CANCELLED, "a person cancelled this head")


def _person_asked(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """A question without any sign of an answer; where there is a sign, only values tell, and those preflight reads.

    One that its process died on before it reached the root is asked again, wherever a workflow can do so.
    """
    open_questions = _open_questions(snapshot)
    questions = [row for row in snapshot.rows if row.channel == INTERRUPT]
    answers = [row for row in snapshot.rows if row.channel == RESUME]
    if not open_questions or answers or len(open_questions) < len(questions):
        return None
    if _unseen(open_questions):
        said = (
            "asked, but nobody can see it: the question has not reached the root, and no workflow is there to ask again"
        )
        return None if circumstances.claim.registrations else Judgement(Verdict.WAITING, said)
    where = open_questions[0].checkpoint_ns or "the root graph"
    return Judgement(Verdict.WAITING, f"{len(open_questions)} task(s) wait for a person's answer, the first in {where}")


def _open_questions(snapshot: ThreadSnapshot) -> list[ControlRow]:
    """A question is open until its task has finished: has saved what it made, and no error beside it."""
    failed = {_task(row) for row in snapshot.rows if row.channel == ERROR}
    questions = [row for row in snapshot.rows if row.channel == INTERRUPT]
    return [row for row in questions if not row.has_output or _task(row) in failed]


def _unseen(open_questions: Sequence[ControlRow]) -> bool:
    """Return whether no question has reached a person: LangGraph shows what the root's tasks ask, called ones apart."""
    return not any(not row.checkpoint_ns and not row.task_path.startswith(_CALLED) for row in open_questions)


def _task(row: ControlRow) -> tuple[str, str, str]:
    return row.checkpoint_ns, row.checkpoint_id, row.task_id


def _nothing_left(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    live = circumstances.claim.live(circumstances.now)
    known = [
        one for registration in circumstances.claim.registrations for one in registration.triggers if one != ANY_CHANNEL
    ]
    unknown = [ANY_CHANNEL for registration in live if ANY_CHANNEL in registration.triggers]
    if work_left(snapshot.head, [*known, *unknown]) is None:
        return Judgement(Verdict.FINISHED, "no channel of the head has work waiting")
    return None


def _edited(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """An edit says nothing of what is left to run; the graph is asked once the thread is quiet."""
    head = snapshot.head
    quiet = quiet_since(snapshot, circumstances) + circumstances.ages.min_age <= circumstances.now
    if head.edited_inside:
        where = _nodes_of(head.edited_inside[0])
        said = f"a person has edited the subgraph {where} and nothing has run since"
        return Judgement(Verdict.EDITED, said, unsure=quiet and _askable(head, circumstances))
    if head.source not in _EDITING_SOURCES or snapshot.ran_since:
        return None
    said = f"the head was written by {head.source} and nothing has run since"
    return Judgement(
        Verdict.EDITED, said, unsure=quiet and head.updated_channels is None and _askable(head, circumstances)
    )


def _nodes_of(namespace: str) -> str:
    """Name the nodes that lead to a subgraph, without the tasks that ran them."""
    return "|".join(part.split(":")[0] for part in namespace.split("|"))


def _askable(head: Head, circumstances: Circumstances) -> bool:
    """Say whether a live version takes the thread and has not yet said what it makes of this head."""
    known = (
        circumstances.known
        if circumstances.known is not None and circumstances.known.head == head.checkpoint_id
        else None
    )
    fitting = [one for one in circumstances.claim.live(circumstances.now) if accepts(one, head.metadata_version)]
    return any(known is None or one.version not in known.refused_by for one in fitting)


def _nobodys(head: Head, circumstances: Circumstances) -> Judgement | None:
    claim = circumstances.claim
    if not claim.registrations:
        said = f"no workflow named {claim.name!r} is registered" if claim.name else "the thread names no workflow"
        return Judgement(Verdict.UNCLAIMED, said)
    live = claim.live(circumstances.now)
    fitting = [one for one in live if accepts(one, head.metadata_version)]
    known = (
        circumstances.known
        if circumstances.known is not None and circumstances.known.head == head.checkpoint_id
        else None
    )
    if live and not fitting:
        said = f"no live version of {claim.name} accepts version {head.metadata_version!r}"
        return Judgement(Verdict.INCOMPATIBLE, said)
    if known is None or any(one.version not in known.refused_by for one in fitting):
        return None
    if known.refusal is Verdict.INCOMPATIBLE:
        return Judgement(Verdict.INCOMPATIBLE, known.refusal_reason or known.reason)
    # With nobody there to ask, what was said last stands.
    return Judgement(known.verdict, known.reason) if known.verdict is Verdict.INCOMPATIBLE and not live else None


def _too_old(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    """Judge by how quiet it was when it was first seen; a case that was ever due never expires."""
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
    return Judgement(Verdict.EXPIRED, "it had been quiet for longer than max_age when it was first seen")


def _not_quiet(snapshot: ThreadSnapshot, circumstances: Circumstances) -> Judgement | None:
    known = circumstances.known
    left_by_us = is_unchanged(snapshot, known) and known is not None and known.own_head == known.head
    until = quiet_since(snapshot, circumstances) + circumstances.ages.min_age
    if until > circumstances.now and not (circumstances.ours or left_by_us or is_known_dead(snapshot.head)):
        return Judgement(Verdict.RUNNING, "not yet quiet for min_age", until)
    return None


def _why_stopped(snapshot: ThreadSnapshot) -> Judgement:
    if snapshot.head.unapplied:
        return Judgement(Verdict.STOPPED, "the input of a registered run waits to be given")
    pending = work_left(snapshot.head) or "a channel of its own"
    errors = [row for row in snapshot.rows if row.channel == ERROR]
    if any(not row.cancelled for row in errors):
        return Judgement(Verdict.FAILED, f"a task of the head has an error; work waits in {pending}")
    open_questions = _open_questions(snapshot)
    if open_questions and _unseen(open_questions):
        return Judgement(Verdict.STOPPED, "asked, but nobody can see it: the question has not reached the root")
    return Judgement(Verdict.STOPPED, f"work waits in {pending} and no task has an error")
