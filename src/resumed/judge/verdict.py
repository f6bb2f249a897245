"""The verdict on a thread from its rows alone (contract section 5); what needs values or the graph is preflight's.

The sweep asks here without ever deserialising, and an attempt asks again under the thread's lock.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.checkpoint_id import made_at
from resumed.judge.proof import dead
from resumed.judge.resolve import Claim, accepts
from resumed.model import Case, Judgement, State, Verdict
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
    claim: Claim
    ages: Ages
    lock_held: bool = False
    known: Case | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """A head with its control rows, as one look found them."""

    head: Head
    rows: tuple[ControlRow, ...]

    @property
    def ran_since(self) -> bool:
        """Whether anything has run since the head was written."""
        return self.head.ran_since or any(row.task_id != NULL_TASK for row in self.rows)

    @property
    def fingerprint(self) -> str:
        """A digest that changes when a control row appears, vanishes or is written again."""
        lines = sorted(
            f"{row.checkpoint_ns}|{row.checkpoint_id}|{row.task_id}|{row.channel}|{row.writer}" for row in self.rows
        )
        if self.head.source in _EDITING_SOURCES and self.ran_since:
            lines.append("somebody has run it since")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


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
    return judgement.unsure or judgement.verdict in (Verdict.FAILED, Verdict.STOPPED)


def last_activity(head: Head, known: Case | None, now: datetime) -> datetime:
    """When the thread last saved a checkpoint; for an id that tells no time, when it was first seen."""
    made = made_at(head.newest_id)
    if made is not None:
        return made
    if known is None or known.head != head.checkpoint_id:
        return now
    return known.head_seen_at or known.first_seen_at


def changed_at(sighting: Sighting, known: Case | None, now: datetime) -> datetime | None:
    """When we saw the control rows of a known head change; None for a head that is new to us."""
    if known is None or known.head != sighting.head.checkpoint_id:
        return None
    return known.changed_at if known.fingerprint == sighting.fingerprint else now


def quiet_since(sighting: Sighting, around: Circumstances) -> datetime:
    """When the thread last gave a sign of life: a checkpoint, or a change of its control rows that we saw happen."""
    active = last_activity(sighting.head, around.known, around.now)
    changed = changed_at(sighting, around.known, around.now)
    return max(active, changed or active)


def unchanged(sighting: Sighting, known: Case | None) -> bool:
    """Say whether the thread stands exactly where the recorded case saw it."""
    return known is not None and known.head == sighting.head.checkpoint_id and known.fingerprint == sighting.fingerprint


def judge(sighting: Sighting, around: Circumstances) -> Judgement:
    """Give the first verdict of the contract's table that applies, as far as rows can tell."""
    if around.lock_held:
        return Judgement(Verdict.RUNNING, "somebody holds the thread's lock")
    return (
        _cancelled(sighting.head, around)
        or _person_asked(sighting)
        or _nothing_left(sighting, around)
        or _edited(sighting, around)
        or _nobodys(sighting.head, around)
        or _too_old(sighting, around)
        or _not_quiet(sighting, around)
        or _why_stopped(sighting)
    )


def _cancelled(head: Head, around: Circumstances) -> Judgement | None:
    if around.known is None or around.known.cancelled_head != head.checkpoint_id:
        return None
    return Judgement(Verdict.CANCELLED, "a person cancelled this head")


def _person_asked(sighting: Sighting) -> Judgement | None:
    """A question without any sign of an answer; where there is a sign, only values tell, and those preflight reads.

    A question is open until its task has finished: has saved what it made, and no error beside it.
    """
    failed = {_task(row) for row in sighting.rows if row.channel == ERROR}
    questions = [row for row in sighting.rows if row.channel == INTERRUPT]
    open_questions = [row for row in questions if not row.has_output or _task(row) in failed]
    answers = [row for row in sighting.rows if row.channel == RESUME]
    if not open_questions or answers or len(open_questions) < len(questions):
        return None
    where = open_questions[0].checkpoint_ns or "the root graph"
    return Judgement(Verdict.WAITING, f"{len(open_questions)} task(s) wait for a person's answer, the first in {where}")


def _task(row: ControlRow) -> tuple[str, str, str]:
    return row.checkpoint_ns, row.checkpoint_id, row.task_id


def _nothing_left(sighting: Sighting, around: Circumstances) -> Judgement | None:
    live = around.claim.live(around.now)
    known = [one for registration in around.claim.registrations for one in registration.triggers if one != ANY_CHANNEL]
    unknown = [ANY_CHANNEL for registration in live if ANY_CHANNEL in registration.triggers]
    if work_left(sighting.head, [*known, *unknown]) is None:
        return Judgement(Verdict.FINISHED, "no channel of the head has work waiting")
    return None


def _edited(sighting: Sighting, around: Circumstances) -> Judgement | None:
    """An edit says nothing of what is left to run; the graph is asked once the thread is quiet."""
    head = sighting.head
    if head.source not in _EDITING_SOURCES or sighting.ran_since:
        return None
    quiet = quiet_since(sighting, around) + around.ages.min_age <= around.now
    said = f"the head was written by {head.source} and nothing has run since"
    return Judgement(Verdict.EDITED, said, unsure=quiet and head.updated_channels is None and _askable(head, around))


def _askable(head: Head, around: Circumstances) -> bool:
    """Say whether a live version takes the thread and has not yet said what it makes of this head."""
    known = around.known if around.known is not None and around.known.head == head.checkpoint_id else None
    fitting = [one for one in around.claim.live(around.now) if accepts(one, head.metadata_version)]
    return any(known is None or one.version not in known.refused_by for one in fitting)


def _nobodys(head: Head, around: Circumstances) -> Judgement | None:
    claim = around.claim
    if not claim.registrations:
        said = f"no workflow named {claim.name!r} is registered" if claim.name else "the thread names no workflow"
        return Judgement(Verdict.UNCLAIMED, said)
    live = claim.live(around.now)
    fitting = [one for one in live if accepts(one, head.metadata_version)]
    known = around.known if around.known is not None and around.known.head == head.checkpoint_id else None
    if live and not fitting:
        said = f"no live version of {claim.name} accepts version {head.metadata_version!r}"
        return Judgement(Verdict.INCOMPATIBLE, said)
    if known is None or any(one.version not in known.refused_by for one in fitting):
        return None
    if known.refusal is Verdict.INCOMPATIBLE:
        return Judgement(Verdict.INCOMPATIBLE, known.refusal_reason or known.reason)
    # With nobody there to ask, what was said last stands.
    return Judgement(known.verdict, known.reason) if known.verdict is Verdict.INCOMPATIBLE and not live else None


def _too_old(sighting: Sighting, around: Circumstances) -> Judgement | None:
    """Judge by how quiet it was when it was first seen; a case that was ever due never expires."""
    known = around.known
    first_seen_at = around.now
    if dead(sighting.head):
        return None
    if known is not None and known.state is not State.CLOSED:
        if known.attempts or known.due_at is not None:
            return None
        first_seen_at = known.first_seen_at
    if first_seen_at - quiet_since(sighting, around) <= around.ages.max_age:
        return None
    return Judgement(Verdict.EXPIRED, "it had been quiet for longer than max_age when it was first seen")


def _not_quiet(sighting: Sighting, around: Circumstances) -> Judgement | None:
    known = around.known
    left_by_us = unchanged(sighting, known) and known is not None and known.own_head == known.head
    until = quiet_since(sighting, around) + around.ages.min_age
    if until > around.now and not (around.ours or left_by_us or dead(sighting.head)):
        return Judgement(Verdict.RUNNING, "not yet quiet for min_age", until)
    return None


def _why_stopped(sighting: Sighting) -> Judgement:
    if sighting.head.unapplied:
        return Judgement(Verdict.STOPPED, "the input of a registered run waits to be given")
    pending = work_left(sighting.head) or "a channel of its own"
    errors = [row for row in sighting.rows if row.channel == ERROR]
    if any(not row.cancelled for row in errors):
        return Judgement(Verdict.FAILED, f"a task of the head has an error; work waits in {pending}")
    return Judgement(Verdict.STOPPED, f"work waits in {pending} and no task has an error")
