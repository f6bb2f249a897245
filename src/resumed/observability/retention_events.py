"""What is logged and counted of retention; a part of `events`, which owns the words."""

from collections.abc import Mapping, Sequence

from resumed.model import PruneStrategy
from resumed.observability import redaction
from resumed.observability.logs import write_event
from resumed.observability.worker_events import WorkerEvents


class RetentionEvents(WorkerEvents):
    """The part of the events that speaks of what is deleted."""

    def history_forgotten(self, rows: Mapping[str, int]) -> None:
        """Log how many rows of our own tables were deleted."""
        write_event("history.forgotten", rows=dict(rows))

    def threads_pruned(
        self, workflow: str, strategy: PruneStrategy, outcomes: Mapping[str, int], rows: int, size: int
    ) -> None:
        """Log and count a batch of threads; `size` is bytes. What is marked counts as `keep_latest` where rows went."""
        if deleted := outcomes.get("deleted", 0):
            self.metrics.pruned_threads.labels(workflow, PruneStrategy.DELETE).inc(deleted)
        if kept := outcomes.get("pruned", 0) + outcomes.get("marked", 0):
            self.metrics.pruned_threads.labels(workflow, PruneStrategy.KEEP_LATEST).inc(kept)
        counted: dict[str, object] = {name: outcomes.get(name, 0) for name in ("pruned", "marked", "deleted")}
        facts: dict[str, object] = {"workflow": workflow, "strategy": strategy, **counted, "rows": rows, "bytes": size}
        write_event("threads.pruned", "info", **facts)

    def prune_refused(self, workflow: str, reason: str, threads: Sequence[str], errors: Sequence[str]) -> None:
        """Log and count threads that were passed over for one reason, the first by its id; `errors` are classes."""
        self.metrics.prune_refused.labels(reason).inc(len(threads))
        facts = {"workflow": workflow, "reason": reason, "threads": len(threads), "thread_id": threads[0]}
        write_event("prune.refused", "warning" if errors else "info", **facts, error_types=list(errors))

    def prune_raced(self, thread_id: str, workflow: str) -> None:
        """Log a thread that a run without its lock saved while, or after, it was deleted: it lacks what it had."""
        reason = "a run without the thread's lock saved it again; run this workflow through the executor"
        write_event("prune.raced", "error", thread_id=thread_id, workflow=workflow, reason=reason)

    def retention_denied(self, tables: Sequence[str]) -> None:
        """Log that nothing is pruned because the role may not delete."""
        reason = f"the role lacks DELETE on {', '.join(tables)}: apply deploy/sql/roles.sql with -v prune=yes"
        write_event("retention.denied", "warning", reason=reason)

    def retention_failed(self, error: BaseException) -> None:
        """Log a round of retention that the database ended; the next one goes on from the last batch."""
        seen = redaction.describe_error(error)
        write_event("retention.failed", "warning", error_type=seen.error_type, error=self._message(seen.error))
