"""Prunes ONE finished thread under its lock: judge, ask the graph where rows cannot tell, judge again, delete, look.

Lock, judgement and deletion are of one session. What is deleted is what one snapshot of the thread shows, so rows that
a run without the lock saves meanwhile stay. A dry run does the same and rolls it back.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from resumed.errors import GraphNotMadeError
from resumed.judge.retention import needs_graph_to_prune, prune_refusal
from resumed.model import PruneStrategy, Refusal, Verdict
from resumed.runtime.assessment import Approved, Assessment, assess_thread, run_preflight
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store import checkpoints, locks, retention
from resumed.store.connection import Session, Target, is_usable, open_session
from resumed.store.database_errors import is_conflict
from resumed.store.retention import PruneMark
from resumed.store.thread_rows import read_thread
from resumed.workers.prune_messages import MarkedState, PruneOutcome, PruneThread, ThreadPruned, refused

_NEVER_TOO_OLD = timedelta(days=36_500)


class _MovedError(Exception):
    """A run without the lock has saved the thread since the snapshot; nothing was deleted."""


@dataclass(frozen=True, slots=True)
class _Pruning:
    """One thread that is being pruned on the session that holds its lock."""

    session: Session
    target: Target
    request: AttemptRequest
    order: PruneThread


async def prune_thread(request: AttemptRequest, context: WorkerContext, order: PruneThread) -> ThreadPruned:
    """Prune a thread if it may be; never waits for its lock. Raises DatabaseError and psycopg's errors."""
    # An old thread is none of a sweep's any more; here only whether it is finished counts.
    numbers = replace(request.registration.numbers, max_age=_NEVER_TOO_OLD)
    request.registration = replace(request.registration, numbers=numbers)
    async with open_session(context.target, "resumed prune") as session:
        locked, _ = await locks.try_lock(session, order.thread_id)
        if not locked:
            return refused(order.thread_id, Refusal.LOCKED)
        try:
            try:
                result = await _prune_locked(_Pruning(session, context.target, request, order))
            finally:  # the end of the session would free the lock a moment later
                if await is_usable(session):
                    await locks.unlock(session, order.thread_id)
        except psycopg.Error as error:
            if not is_conflict(error):
                raise
            return refused(order.thread_id, Refusal.CONFLICT)
        except _MovedError:
            return refused(order.thread_id, Refusal.MOVED)
        if result.outcome is PruneOutcome.DELETED and not order.dry_run:
            return replace(result, raced=await retention.is_there(session, order.thread_id))
        return result


async def _prune_locked(pruning: _Pruning) -> ThreadPruned:
    session, order = pruning.session, pruning.order
    first = assess_thread(await read_thread(session, order.thread_id), pruning.request)
    refusal = _refusal(first, order)
    if first is not None and refusal is None and needs_graph_to_prune(first.snapshot, first.circumstances):
        refusal = await _ask_graph(session, first, pruning.request)
    if first is None or refusal is not None:
        return refused(order.thread_id, refusal or Refusal.MOVED)
    async with session.transaction(force_rollback=order.dry_run):
        await retention.begin_snapshot(session)
        again = assess_thread(await read_thread(session, order.thread_id), pruning.request)
        if again is None or _state(again) != _state(first) or (refusal := _refusal(again, order)):
            return refused(order.thread_id, refusal or Refusal.MOVED)
        return await _delete(pruning, again)


def _refusal(seen: Assessment | None, order: PruneThread) -> Refusal | None:
    if seen is None:
        return Refusal.MOVED
    if order.marked not in (None, _state(seen)):
        return Refusal.MOVED
    return prune_refusal(seen.snapshot, seen.circumstances, seen.judgement, order.retain)


def _state(seen: Assessment) -> MarkedState:
    head = seen.snapshot.head
    return MarkedState(head.checkpoint_id, head.newest_id, seen.snapshot.fingerprint)


async def _ask_graph(session: Session, seen: Assessment, request: AttemptRequest) -> Refusal | None:
    """Ask the graph whether anything is left to run; what it cannot tell is not finished."""
    saver = FencedSaver(session, seen.snapshot.head.checkpoint_id, request.workflow.policy.serde)
    try:
        said = await run_preflight(saver, seen, request)
    except GraphNotMadeError:
        return Refusal.FAILED
    finished = not isinstance(said, Approved) and said.verdict is Verdict.FINISHED
    return None if finished else Refusal.UNFINISHED


async def _delete(pruning: _Pruning, seen: Assessment) -> ThreadPruned:
    """Delete by the order's strategy, within the transaction of the snapshot."""
    session, order = pruning.session, pruning.order
    before = await retention.thread_size(session, order.thread_id)
    if order.strategy is PruneStrategy.DELETE and (order.marked is not None or order.dry_run):
        await retention.delete_rows(session, order.thread_id)
        if not order.dry_run:
            await retention.note_deleted(session, order.thread_id)
            await _require_unmoved(pruning, seen)
        return ThreadPruned(order.thread_id, PruneOutcome.DELETED, rows=before.rows, bytes=before.bytes)
    try:
        await AsyncPostgresSaver(session).aprune([order.thread_id], strategy="keep_latest")
    except NotImplementedError:  # it needs the checkpoints before the latest
        if order.strategy is PruneStrategy.KEEP_LATEST:
            return refused(order.thread_id, Refusal.DELTA_CHANNEL)
    freed = before.since(await retention.thread_size(session, order.thread_id))
    if order.strategy is PruneStrategy.DELETE:
        await _mark(pruning)
        return ThreadPruned(order.thread_id, PruneOutcome.MARKED, rows=freed.rows, bytes=freed.bytes)
    outcome = PruneOutcome.PRUNED if freed.rows else PruneOutcome.NOTHING
    return ThreadPruned(order.thread_id, outcome, rows=freed.rows, bytes=freed.bytes)


async def _mark(pruning: _Pruning) -> None:
    """Mark the thread as it stands now, in the transaction that brought it there."""
    order = pruning.order
    snapshot = (await checkpoints.snapshots(pruning.session, [order.thread_id]))[order.thread_id]
    mark = PruneMark(
        thread_id=order.thread_id,
        workflow=order.workflow,
        head=snapshot.head.checkpoint_id,
        newest_id=snapshot.head.newest_id,
        fingerprint=snapshot.fingerprint,
        asked=order.asked,
        retain=order.retain,
    )
    await retention.mark_thread(pruning.session, mark)


async def _require_unmoved(pruning: _Pruning, seen: Assessment) -> None:
    """Look at what all others see before the deletion is committed. Raises _MovedError, which takes it back."""
    thread_id = pruning.order.thread_id
    async with open_session(pruning.target, "resumed prune") as other:
        found = (await checkpoints.snapshots(other, [thread_id])).get(thread_id)
    now = found and MarkedState(found.head.checkpoint_id, found.head.newest_id, found.fingerprint)
    if now != _state(seen):
        raise _MovedError
