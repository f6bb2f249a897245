"""What a person says of threads, done: cancel, quarantine, release, each in one transaction with its audit entry.

No lock of a thread is taken: a person's word must not wait for an application that hangs. What runs at that moment
is stopped by the replica that runs it (`heeding`), and its closing does not overrule what was said here.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from resumed.judge.case import CaseUpdate, case_update, decide_verdict, place_case, vanished_case
from resumed.judge.verdict import Circumstances, ThreadSnapshot, is_unchanged
from resumed.model import Attempt, Case, State, Verdict
from resumed.operations.assess import (
    JudgingContext,
    SweepRules,
    assess,
    build_sweep_context,
    build_unconfigured_context,
)
from resumed.store import attempts, audit, case_commands, cases, runs
from resumed.store.audit import Act, Entry
from resumed.store.connection import Session

PAGE = 500
_UNKNOWN = "there is no thread of this name in the database"
_FINISHED = "it is finished: nothing is left to run"
_NOT_QUARANTINED = "it is not in quarantine"


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """Who says so, and why, in the person's own words."""

    actor: str
    reason: str | None = None

    def entry(self, action: Act, thread_id: str) -> Entry:
        """Write it down as an act on a thread."""
        return Entry(self.actor, action, thread_id, reason=self.reason)


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """Where a person's word is done: a session, what a look needs (None: no settings are known), and the word."""

    session: Session
    rules: SweepRules | None
    word: OperatorCommand

    async def build_context(self) -> JudgingContext:
        """Read what threads are judged by."""
        if self.rules is None:
            return await build_unconfigured_context(self.session)
        return await build_sweep_context(self.session, self.rules)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of what was asked for one thread: the sentence that says so, and whether it was done."""

    thread_id: str
    said: str
    done: bool = True


@dataclass(frozen=True, slots=True)
class LockedCase:
    """A thread whose case we hold: what its rows say, its case, and the attempt that is open on it."""

    sweep_context: JudgingContext
    known: Case
    snapshot: ThreadSnapshot
    circumstances: Circumstances
    attempt: Attempt | None

    def stands(self, known: Case) -> CaseUpdate:
        """Judge the thread as if its case were this one."""
        return _stands(self.snapshot, replace(self.circumstances, known=known))


async def cancel_thread(office: OperatorContext, thread_id: str) -> CommandResult:
    """Never resume the thread's present head; where an attempt runs, the head where that stops."""
    session = office.session
    async with session.transaction():
        subject = await _subject(office, thread_id)
        if isinstance(subject, str):
            return CommandResult(thread_id, subject, done=False)
        if subject.attempt is not None:
            await case_commands.cancel_running(session, thread_id)
            said = f"cancelled: its attempt {subject.attempt.attempt} is asked to stop, and is not taken up again"
        else:
            known = replace(_opened(subject.known), cancelled_head=subject.snapshot.head.checkpoint_id)
            await cases.record(session, [(subject.stands(known), subject.known)], subject.sweep_context.now)
            await case_commands.cancel(session, thread_id)
            if not subject.circumstances.lock_held:
                await runs.cancel(session, thread_id)
            said = _cancelled(subject)
        await audit.write(session, [office.word.entry(Act.CANCEL, thread_id)])
    return CommandResult(thread_id, said)


async def cancel_run(session: Session, command: OperatorCommand, thread_id: str) -> bool:
    """Cancel a thread for its application: its present head, and its run, which the process that runs it notices.

    Needs no settings. Returns False where nothing was left to cancel.
    """
    async with session.transaction():
        result = await cancel_thread(OperatorContext(session, None, command), thread_id)
        ended = await runs.cancel(session, thread_id)
    return result.done or ended


def _cancelled(subject: LockedCase) -> str:
    if subject.circumstances.lock_held:
        return (
            "its present head is cancelled, but somebody holds its lock: an application that runs it is not stopped, "
            "and where it moves the head the thread is judged anew"
        )
    return "cancelled: it is not resumed before its head moves"


async def quarantine_thread(office: OperatorContext, thread_id: str) -> CommandResult:
    """Let no attempt touch the thread before a person releases it."""
    session = office.session
    async with session.transaction():
        subject = await _subject(office, thread_id)
        if isinstance(subject, str):
            return CommandResult(thread_id, subject, done=False)
        known = replace(_opened(subject.known), pinned=True, quarantine_reason=office.word.reason)
        await cases.record(session, [(subject.stands(known), subject.known)], subject.sweep_context.now)
        await case_commands.pin(session, thread_id)
        await audit.write(session, [office.word.entry(Act.QUARANTINE, thread_id)])
    if subject.attempt is not None:
        return CommandResult(thread_id, f"in quarantine; its attempt {subject.attempt.attempt} is asked to stop")
    return CommandResult(thread_id, "in quarantine until somebody releases it")


async def release_threads(office: OperatorContext, threads: Sequence[str]) -> list[CommandResult]:
    """Take threads out of quarantine with all their tries given back, in one transaction; the caller pages."""
    session = office.session
    async with session.transaction():
        sweep_context = await office.build_context()
        await case_commands.lock(session, threads)
        known = await cases.of_threads(session, threads)
        quarantined = {thread: case for thread, case in known.items() if case.state is State.QUARANTINED}
        after = await _after_release(session, sweep_context, quarantined)
        await cases.record(
            session, [(after[thread], quarantined[thread]) for thread in sorted(after)], sweep_context.now
        )
        await case_commands.release(session, list(after))
        await audit.write(session, [office.word.entry(Act.RELEASE, thread) for thread in sorted(after)])
    return [_released(thread, after.get(thread)) for thread in threads]


async def release_all(office: OperatorContext, workflow: str | None) -> AsyncIterator[list[CommandResult]]:
    """Release every thread in quarantine, or every one of a workflow, page by page."""
    after = ""
    while page := await case_commands.quarantine_page(office.session, workflow, after, PAGE):
        yield await release_threads(office, page)
        after = page[-1]


async def _after_release(
    session: Session, sweep_context: JudgingContext, quarantined: dict[str, Case]
) -> dict[str, CaseUpdate]:
    """Judge each with its tries given back; a thread that is gone has its case closed."""
    looks = await assess(session, sweep_context, list(quarantined), quarantined)
    after: dict[str, CaseUpdate] = {}
    for thread, case in quarantined.items():
        if thread in looks.judged:
            circumstances = replace(looks.judged[thread][1], known=_given_back(case))
            after[thread] = _stands(looks.seen[thread], circumstances)
        elif thread not in looks.seen:
            after[thread] = vanished_case(thread, case.workflow, sweep_context.now)
    return after


def _released(thread_id: str, after: CaseUpdate | None) -> CommandResult:
    if after is None:
        return CommandResult(thread_id, _NOT_QUARANTINED, done=False)
    state, judgement = after.placement.state, after.judgement
    if state is State.QUARANTINED:
        return CommandResult(thread_id, f"it goes straight back into quarantine: {judgement.reason}", done=False)
    return CommandResult(thread_id, f"released; it is {judgement.verdict.value}, its case {state.value}")


def _given_back(case: Case) -> Case:
    """The case as if nobody had ever tried it."""
    untried = replace(case, attempts=0, consecutive=0, refused_by=(), refusal=None, spent_by=(), due_at=None)
    return replace(untried, state=State.HELD, pinned=False, quarantine_reason=None)


async def _subject(office: OperatorContext, thread_id: str) -> LockedCase | str:
    """Hold the thread's case, made here where there is none, and look at its rows; or say why not."""
    session = office.session
    sweep_context = await office.build_context()
    if not await case_commands.lock(session, [thread_id]):
        looks = await assess(session, sweep_context, [thread_id], {})
        found = looks.judged.get(thread_id)
        if found is None:
            return _UNKNOWN
        if found[0].judgement.verdict is Verdict.FINISHED:
            return _FINISHED
        await cases.record(session, [(found[0], None)], sweep_context.now)
        await case_commands.lock(session, [thread_id])
    known = (await cases.of_threads(session, [thread_id]))[thread_id]
    looks = await assess(session, sweep_context, [thread_id], {thread_id: known})
    found = looks.judged.get(thread_id)
    if found is None:
        return _UNKNOWN
    subject = LockedCase(
        sweep_context, known, looks.seen[thread_id], found[1], await attempts.get_open(session, thread_id)
    )
    return _FINISHED if _finished(subject, found[0]) else subject


def _finished(subject: LockedCase, found: CaseUpdate) -> bool:
    """Rows say so, or a graph said so of the very head, where rows cannot tell."""
    over = subject.known.state is State.CLOSED and is_unchanged(subject.snapshot, subject.known)
    return found.judgement.verdict is Verdict.FINISHED or (over and not subject.circumstances.lock_held)


def _opened(case: Case) -> Case:
    """A person's word counts from now on, also for a case that was closed when its thread went on."""
    return replace(case, state=State.HELD, due_at=None) if case.state is State.CLOSED else case


def _stands(snapshot: ThreadSnapshot, circumstances: Circumstances) -> CaseUpdate:
    judgement = decide_verdict(snapshot, circumstances)
    return case_update(snapshot, circumstances, judgement, place_case(judgement, circumstances))
