"""Cancels, quarantines and releases threads because a person says so, each in one transaction with its audit entry.

It takes no thread's lock: an operator's command must not wait for an application that hangs. An attempt that runs at
that moment is stopped by its replica (`daemon/stop_requests.py`), and its conclusion does not overrule the command.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from resumed.judge.case import CaseUpdate, decide_case, vanished_case
from resumed.judge.verdict import Circumstances, ThreadSnapshot, is_unchanged
from resumed.model import Act, Attempt, Case, State, Verdict, Via
from resumed.operations.assess import (
    JudgingContext,
    SweepRules,
    assess,
    build_sweep_context,
    build_unconfigured_context,
)
from resumed.store import attempts, audit, case_commands, cases, runs
from resumed.store.audit import Entry
from resumed.store.connection import Session

PAGE = 500
_UNKNOWN = "there is no thread of this name in the database: check the id"
_FINISHED = "it is finished: nothing is left to run"
_NOT_QUARANTINED = "it is not in quarantine"


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """Who asks, why, in the person's own words, and through what."""

    actor: str
    reason: str | None = None
    via: Via = field(kw_only=True)

    def entry(self, action: Act, thread_id: str) -> Entry:
        """Return the audit entry of this command on a thread."""
        return Entry(self.actor, action, thread_id, reason=self.reason, via=self.via)


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What a command is carried out with; threads are judged by `rules` (None: no settings are known)."""

    session: Session
    rules: SweepRules | None
    command: OperatorCommand

    async def build_judging_context(self) -> JudgingContext:
        """Read what threads are judged by."""
        if self.rules is None:
            return await build_unconfigured_context(self.session)
        return await build_sweep_context(self.session, self.rules)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of a command on one thread: a sentence, and whether it was done."""

    thread_id: str
    said: str
    done: bool = True


@dataclass(frozen=True, slots=True)
class LockedCase:
    """A thread whose case is locked: its case, its rows, and the attempt that is open on it."""

    sweep_context: JudgingContext
    known: Case
    snapshot: ThreadSnapshot
    circumstances: Circumstances
    attempt: Attempt | None

    def judge_as(self, known: Case) -> CaseUpdate:
        """Judge the thread as if its case were this one."""
        return decide_case(self.snapshot, replace(self.circumstances, known=known))


async def cancel_thread(context: OperatorContext, thread_id: str) -> CommandResult:
    """Never resume the thread's present head; if an attempt is running, never resume the head where it stops."""
    session = context.session
    async with session.transaction():
        locked = await _lock_case(context, thread_id)
        if isinstance(locked, str):
            return CommandResult(thread_id, locked, done=False)
        if locked.attempt is not None:
            await case_commands.cancel_running(session, thread_id)
            said = f"cancelled: its attempt {locked.attempt.attempt} is asked to stop; then the thread is not resumed"
        else:
            known = replace(_reopen(locked.known), cancelled_head=locked.snapshot.head.checkpoint_id)
            await cases.record(session, [(locked.judge_as(known), locked.known)], locked.sweep_context.now)
            await case_commands.cancel(session, thread_id)
            if not locked.circumstances.lock_held:
                await runs.cancel(session, thread_id)
            said = _describe_cancel(locked)
        await audit.write(session, [context.command.entry(Act.CANCEL, thread_id)])
    return CommandResult(thread_id, said)


async def cancel_run(session: Session, command: OperatorCommand, thread_id: str) -> bool:
    """Cancel a thread for its application: its present head, and its run, which the process that runs it notices.

    Needs no settings. Returns False where nothing was left to cancel.
    """
    async with session.transaction():
        result = await cancel_thread(OperatorContext(session, None, command), thread_id)
        ended = await runs.cancel(session, thread_id)
    return result.done or ended


def _describe_cancel(locked: LockedCase) -> str:
    if locked.circumstances.lock_held:
        return (
            "its present head is cancelled, but another process holds its lock: an application that runs it "
            "is not stopped, and if it moves the head, the thread is judged again"
        )
    return "cancelled: it is not resumed until its head moves"


async def quarantine_thread(context: OperatorContext, thread_id: str) -> CommandResult:
    """Block attempts on the thread until a person releases it."""
    session = context.session
    async with session.transaction():
        locked = await _lock_case(context, thread_id)
        if isinstance(locked, str):
            return CommandResult(thread_id, locked, done=False)
        known = replace(_reopen(locked.known), pinned=True, quarantine_reason=context.command.reason)
        await cases.record(session, [(locked.judge_as(known), locked.known)], locked.sweep_context.now)
        await case_commands.pin(session, thread_id)
        await audit.write(session, [context.command.entry(Act.QUARANTINE, thread_id)])
    if locked.attempt is not None:
        return CommandResult(thread_id, f"in quarantine; its attempt {locked.attempt.attempt} is asked to stop")
    return CommandResult(thread_id, "in quarantine until it is released")


async def release_threads(context: OperatorContext, threads: Sequence[str]) -> list[CommandResult]:
    """Take threads out of quarantine with all their attempts back, in one transaction; the caller pages."""
    session = context.session
    async with session.transaction():
        sweep_context = await context.build_judging_context()
        await case_commands.lock(session, threads)
        known = await cases.of_threads(session, threads)
        quarantined = {thread: case for thread, case in known.items() if case.state is State.QUARANTINED}
        after = await _after_release(session, sweep_context, quarantined)
        await cases.record(
            session, [(after[thread], quarantined[thread]) for thread in sorted(after)], sweep_context.now
        )
        await case_commands.release(session, list(after))
        await audit.write(session, [context.command.entry(Act.RELEASE, thread) for thread in sorted(after)])
    return [_release_result(thread, after.get(thread)) for thread in threads]


async def release_all(context: OperatorContext, workflow: str | None) -> AsyncIterator[list[CommandResult]]:
    """Release every thread in quarantine, or every one of a workflow, page by page."""
    after = ""
    while page := await case_commands.quarantine_page(context.session, workflow, after, PAGE):
        yield await release_threads(context, page)
        after = page[-1]


async def _after_release(
    session: Session, sweep_context: JudgingContext, quarantined: dict[str, Case]
) -> dict[str, CaseUpdate]:
    """Judge each thread with its attempts back; the case of a thread that is gone is closed."""
    found = await assess(session, sweep_context, list(quarantined), quarantined)
    after: dict[str, CaseUpdate] = {}
    for thread, case in quarantined.items():
        if thread in found.judged:
            circumstances = replace(found.judged[thread][1], known=_without_attempts(case))
            after[thread] = decide_case(found.seen[thread], circumstances)
        elif thread not in found.seen:
            after[thread] = vanished_case(thread, case.workflow, sweep_context.now)
    return after


def _release_result(thread_id: str, after: CaseUpdate | None) -> CommandResult:
    if after is None:
        return CommandResult(thread_id, _NOT_QUARANTINED, done=False)
    state, judgement = after.placement.state, after.judgement
    if state is State.QUARANTINED:
        return CommandResult(thread_id, f"it goes straight back into quarantine: {judgement.reason}", done=False)
    return CommandResult(thread_id, f"released; it is {judgement.verdict.value}, its case {state.value}")


def _without_attempts(case: Case) -> Case:
    """Return the case as if no attempt had ever been made."""
    untried = replace(case, attempts=0, consecutive=0, refused_by=(), refusal=None, spent_by=(), due_at=None)
    return replace(untried, state=State.HELD, pinned=False, quarantine_reason=None)


async def _lock_case(context: OperatorContext, thread_id: str) -> LockedCase | str:
    """Lock the thread's case, created if there is none, and read its rows; or return why that cannot be done."""
    session = context.session
    sweep_context = await context.build_judging_context()
    if not await case_commands.lock(session, [thread_id]):
        assessed = await assess(session, sweep_context, [thread_id], {})
        found = assessed.judged.get(thread_id)
        if found is None:
            return _UNKNOWN
        if found[0].judgement.verdict is Verdict.FINISHED:
            return _FINISHED
        await cases.record(session, [(found[0], None)], sweep_context.now)
        await case_commands.lock(session, [thread_id])
    known = (await cases.of_threads(session, [thread_id]))[thread_id]
    assessed = await assess(session, sweep_context, [thread_id], {thread_id: known})
    found = assessed.judged.get(thread_id)
    if found is None:
        return _UNKNOWN
    left_open = await attempts.fetch_open(await attempts.select_open(session, thread_id))
    locked = LockedCase(sweep_context, known, assessed.seen[thread_id], found[1], left_open)
    # A graph has said of this very head that it is finished, which rows alone may not show.
    closed = known.state is State.CLOSED and is_unchanged(locked.snapshot, known) and not found[1].lock_held
    return _FINISHED if closed or found[0].judgement.verdict is Verdict.FINISHED else locked


def _reopen(case: Case) -> Case:
    """Return the case as open: a command counts from now on, also if the case was closed when its thread went on."""
    return replace(case, state=State.HELD, due_at=None) if case.state is State.CLOSED else case
