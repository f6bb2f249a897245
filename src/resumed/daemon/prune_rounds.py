"""Prunes threads in rounds: finds those that a policy lets go, has workers prune them, remembers how far it has come.

The daemon and the command `prune` use it, each under the lock of retention. What is refused is counted and passed over:
the next cycle, a day later, looks at it again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from resumed.daemon.worker_replies import WorkerReplies
from resumed.judge.retention import PolicyGroup, PrunePolicy
from resumed.model import Act, PruneStrategy, Refusal, Registration, Via
from resumed.operations.assess import SweepContext
from resumed.operations.retention import Candidate, next_candidates
from resumed.operations.step_durations import longest_steps
from resumed.store import audit, retention
from resumed.store.audit import Entry
from resumed.store.connection import Session
from resumed.store.retention import PruneMark, PrunePosition
from resumed.workers.pool import WorkerPool
from resumed.workers.prune_messages import (
    MarkedState,
    PruneOutcome,
    PruneThread,
    ThreadPruned,
    refused,
)

ROUND_THREADS = 100
ROUND_BYTES = 64 * 1024**2
MARK_WAIT = timedelta(hours=1)
_ROUND_PAGES = 25
AT_ONCE = 4
_PATIENCE = timedelta(seconds=90)
_CYCLE = timedelta(days=1)
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What became of a batch of threads of one workflow under one strategy."""

    workflow: str
    strategy: PruneStrategy
    results: tuple[ThreadPruned, ...]

    @property
    def done(self) -> tuple[ThreadPruned, ...]:
        """The threads of which rows were deleted, or marked to be."""
        return tuple(one for one in self.results if one.outcome not in (PruneOutcome.REFUSED, PruneOutcome.NOTHING))

    def counts(self) -> Counter[str]:
        """Count the threads by what became of them."""
        return Counter(one.outcome.value for one in self.results)

    def refusals(self) -> dict[Refusal, list[str]]:
        """Map each reason to the threads that were refused for it."""
        found: dict[Refusal, list[str]] = {}
        for one in self.results:
            if one.refusal is not None:
                found.setdefault(one.refusal, []).append(one.thread_id)
        return found

    @property
    def rows(self) -> int:
        """How many rows went."""
        return sum(one.rows for one in self.results)

    @property
    def bytes(self) -> int:
        """How many bytes their values had."""
        return sum(one.bytes for one in self.results)

    def sentence(self) -> str:
        """Say for the audit what was done."""
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.counts().items()))
        return f"{self.strategy}: {words}; {self.rows} rows, {self.bytes} bytes"


@dataclass(slots=True)
class Pruner:
    """Has the workers of this process prune threads, on behalf of an actor.

    `wanted` is asked before each thread whether to go on; `report` gets each batch; `at_once` threads are pruned
    side by side, each with up to two sessions; `limited` rounds end before the load can be felt. A dry run writes
    nothing of its own, and the workers take back what they do.
    """

    pool: WorkerPool
    replies: WorkerReplies
    actor: str
    report: Callable[[PruneReport], None]
    wanted: Callable[[], bool] = lambda: True
    asked: bool = False
    dry_run: bool = False
    at_once: int = 1
    limited: bool = True
    threads_left: int = ROUND_THREADS
    bytes_left: int = ROUND_BYTES
    _mark_wait: timedelta | None = field(default=None)

    def renew(self) -> None:
        """Begin a round: at most 100 threads and about 64 MiB, where rounds are limited."""
        self._mark_wait = None
        self.threads_left, self.bytes_left = (ROUND_THREADS, ROUND_BYTES) if self.limited else (_NO_LIMIT, _NO_LIMIT)

    async def prune_group(
        self,
        session: Session,
        context: SweepContext,
        group: PolicyGroup,
        own: Mapping[str, Registration],
        position: PrunePosition,
    ) -> tuple[PrunePosition, bool]:
        """Prune what a group's policies let go, from a position on, within this round's limits.

        Returns how far it has come, and whether nothing later is old enough now.
        """
        for _ in range(_ROUND_PAGES):
            page = await next_candidates(session, context, group, own, position)
            pruned = await self._prune_candidates(session, page.candidates)
            if pruned < len(page.candidates):
                if pruned:
                    thread = page.candidates[pruned - 1].thread
                    position = PrunePosition(thread.checkpoint_id, thread.thread_id)
                return position, False
            position = page.position
            if page.ended:
                return position, True
        return position, False

    async def _prune_candidates(self, session: Session, candidates: Sequence[Candidate]) -> int:
        """Prune candidates in their order; returns how many were dealt with before the round's end."""
        results: list[tuple[PrunePolicy, ThreadPruned]] = []
        dealt = 0
        while dealt < len(candidates) and self._goes_on():
            chunk = candidates[dealt : dealt + min(self.at_once, max(self.threads_left, 1))]
            answers = await asyncio.gather(*(self._prune_candidate(one) for one in chunk))
            results += [(one.policy, answer) for one, answer in zip(chunk, answers, strict=True) if answer is not None]
            if None in answers:  # no worker has the workflow at this moment
                break
            dealt += len(chunk)
        await self._conclude(session, results)
        return dealt

    def _goes_on(self) -> bool:
        return self.threads_left > 0 and self.bytes_left > 0 and self.wanted()

    async def _prune_candidate(self, candidate: Candidate) -> ThreadPruned | None:
        if candidate.refusal is not None:
            return refused(candidate.thread.thread_id, candidate.refusal)
        policy = candidate.policy
        order = PruneThread(
            thread_id=candidate.thread.thread_id,
            workflow=policy.workflow,
            strategy=policy.strategy,
            retain=policy.retain,
            asked=self.asked,
            dry_run=self.dry_run,
        )
        return await self._ordered(order)

    async def _ordered(self, order: PruneThread) -> ThreadPruned | None:
        """Have a worker prune a thread; None where no worker can be asked now."""
        worker = self.pool.request(order)
        if worker is None:
            return None
        self.threads_left -= 1
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                result = await self.replies.prune(order.thread_id, worker)
        except TimeoutError:
            return refused(order.thread_id, Refusal.FAILED, "TimeoutError")
        self.bytes_left -= result.bytes
        return result

    async def _conclude(self, session: Session, results: Sequence[tuple[PrunePolicy, ThreadPruned]]) -> None:
        """Report what became of threads, by workflow and strategy, and write it to the audit."""
        for policy in dict.fromkeys(policy for policy, _ in results):
            found = tuple(result for one, result in results if one == policy)
            report = PruneReport(policy.workflow, policy.strategy, found)
            if report.done and not self.dry_run:
                via = Via.CLI if self.asked else Via.DAEMON
                entry = Entry(self.actor, Act.PRUNE, workflow=policy.workflow, reason=report.sentence(), via=via)
                await audit.write(session, [entry])
            self.report(report)

    # Deletions, second half

    async def delete_marked(
        self, session: Session, context: SweepContext, own: Mapping[str, PrunePolicy | None]
    ) -> None:
        """Delete threads that were marked long enough ago and stand where they stood.

        `own` maps this process's workflows to their policies. A mark that a policy made holds for as long as that
        policy; one that fails is taken back, and the next cycle may make it again.
        """
        while self._goes_on():
            marks = await retention.ripe_marks(session, context.now - MARK_WAIT, list(own), self.at_once)
            if not marks:
                return
            wait = await self._wait_of_marks(session, context)
            ripe = await retention.ripe_marks(session, context.now - wait, list(own), self.at_once)
            if not ripe or not await self._delete(session, ripe, own):
                return

    async def _wait_of_marks(self, session: Session, context: SweepContext) -> timedelta:
        """Return how long a mark must be old: an hour, and twice the longest step that any run has taken lately."""
        if self._mark_wait is None:
            steps = await longest_steps(session, context)
            self._mark_wait = max([MARK_WAIT, *(2 * one.took for one in steps)])
        return self._mark_wait

    async def _delete(
        self, session: Session, marks: Sequence[PruneMark], own: Mapping[str, PrunePolicy | None]
    ) -> bool:
        """Delete the threads of these marks; False where no worker could be asked."""
        valid = [one for one in marks if one.asked or _still_meant(one, own[one.workflow])]
        answers = await asyncio.gather(*(self._ordered(_second_order(one)) for one in valid))
        results = [
            (PrunePolicy(one.workflow, PruneStrategy.DELETE, one.retain), answer)
            for one, answer in zip(valid, answers, strict=True)
            if answer is not None
        ]
        gone = {answer.thread_id for _, answer in results if answer.outcome is PruneOutcome.REFUSED}
        void = gone | ({one.thread_id for one in marks} - {one.thread_id for one in valid})
        if void:
            await retention.forget_marks(session, sorted(void))
        await self._conclude(session, results)
        return None not in answers


def _still_meant(mark: PruneMark, policy: PrunePolicy | None) -> bool:
    return policy is not None and policy.strategy is PruneStrategy.DELETE and policy.retain <= mark.retain


def _second_order(mark: PruneMark) -> PruneThread:
    return PruneThread(
        thread_id=mark.thread_id,
        workflow=mark.workflow,
        strategy=PruneStrategy.DELETE,
        retain=mark.retain,
        asked=mark.asked,
        marked=MarkedState(mark.head, mark.newest_id, mark.fingerprint),
    )


def is_cycle_over(position: PrunePosition, context: SweepContext) -> bool:
    """Return whether a look that has come to its end is to begin at the oldest thread again."""
    return position.cycle_at is not None and context.now - position.cycle_at >= _CYCLE
