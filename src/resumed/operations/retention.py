"""Deletes what is over of our own tables, and finds the threads that a policy lets go. Prunes no thread itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from resumed.judge.checkpoint_id import first_at
from resumed.judge.retention import PolicyGroup, PrunePolicy, prune_refusal
from resumed.judge.workflow_match import accepts
from resumed.model import PruneStrategy, Refusal, Registration
from resumed.operations.assess import SweepContext, assess
from resumed.store import cases, retention, watermark
from resumed.store.connection import Session
from resumed.store.retention import PrunePosition, QuietThread

FORGET_ROWS = 1000
PAGE_ROWS = 2000
_LEAST_KNOWN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class History:
    """How long closed cases, attempts, ended runs and unseen versions are kept, and how long the audit."""

    rows: timedelta
    audit: timedelta


@dataclass(frozen=True, slots=True)
class Candidate:
    """A thread that is old enough for a policy; `refusal` says what already forbids to prune it."""

    thread: QuietThread
    policy: PrunePolicy
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class CandidatePage:
    """The candidates of one page and where the page ends; `ended` says that there is no later one now."""

    candidates: tuple[Candidate, ...]
    position: PrunePosition
    ended: bool


async def forget_history(session: Session, history: History, rows: int = FORGET_ROWS) -> dict[str, int]:
    """Delete at most so many rows of each of our tables that are older than is kept; returns how many by table.

    Attempts go with or after their case, which goes with its thread's history; no row of an open case goes.
    """
    now = await watermark.database_clock(session)
    before = now - history.rows
    gone = {
        "cases": await retention.forget_cases(session, before, rows),
        "attempts": await retention.forget_attempts(session, before, rows),
        "runs": await retention.forget_runs(session, before, rows),
        "workflows": await retention.forget_versions(session, min(before, now - _LEAST_KNOWN)),
        "audit": await retention.forget_audit(session, now - history.audit, rows),
        "notices": await retention.forget_unwanted(session, rows),
    }
    await retention.forget_marks(session, [])
    return {table: count for table, count in gone.items() if count}


async def next_candidates(
    session: Session, context: SweepContext, group: PolicyGroup, own: Mapping[str, Registration], after: PrunePosition
) -> CandidatePage:
    """Read the next page of threads that have been quiet for as long as the group's policies ask for.

    A page at the empty position also has those whose ids tell no time.
    """
    cut = context.now - group.retain
    page = await retention.quiet_page(session, after, first_at(cut), PAGE_ROWS)
    threads, position = list(page.threads), after
    if after.checkpoint_id == "":
        known = {one.thread_id for one in threads}
        odd = await retention.timeless_threads(session, cut, after.thread_id, PAGE_ROWS)
        threads = [QuietThread("", thread_id) for thread_id in odd if thread_id not in known] + threads
        position = PrunePosition("", odd[-1]) if odd else after
    found = await _candidates(session, context, group, own, threads)
    if page.last is not None:
        position = PrunePosition(page.last.checkpoint_id, page.last.thread_id)
    return CandidatePage(tuple(found), position, ended=page.rows < PAGE_ROWS)


async def _candidates(
    session: Session,
    context: SweepContext,
    group: PolicyGroup,
    own: Mapping[str, Registration],
    threads: Sequence[QuietThread],
) -> list[Candidate]:
    """Judge threads by their rows as a sweep would; those of other workflows are left out."""
    names = [one.thread_id for one in threads]
    looks = await assess(session, context, names, await cases.of_threads(session, names))
    found = []
    for thread in threads:
        if (judged := looks.judged.get(thread.thread_id)) is None:
            continue
        update, circumstances = judged
        policy = group.policies.get(circumstances.match.name or "")
        if policy is None:
            continue
        snapshot = looks.seen[thread.thread_id]
        refusal = prune_refusal(snapshot, circumstances, update.judgement, policy.retain)
        if not accepts(own[policy.workflow], snapshot.head.metadata_version):
            refusal = Refusal.VERSION
        found.append(Candidate(thread, policy, refusal))
    return await _with_rows_to_delete(session, found)


async def _with_rows_to_delete(session: Session, found: Sequence[Candidate]) -> list[Candidate]:
    """Leave out threads that are pruned already, or marked to be deleted."""
    kept = [one.thread.thread_id for one in found if one.policy.strategy is PruneStrategy.KEEP_LATEST]
    deleted = [one.thread.thread_id for one in found if one.policy.strategy is PruneStrategy.DELETE]
    prunable = await retention.prunable_threads(session, kept) if kept else set()
    marked = await retention.marked_threads(session, deleted) if deleted else set()
    wanted = prunable | (set(deleted) - marked)
    return [one for one in found if one.thread.thread_id in wanted]
