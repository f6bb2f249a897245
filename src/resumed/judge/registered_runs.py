"""Owns how a registered run that has not ended changes what its thread looks like: its input may not be applied yet."""

from dataclasses import replace

from resumed.judge.verdict import ThreadSnapshot, control_part
from resumed.rows import Head, Run


def with_registered_run(found: ThreadSnapshot | None, run: Run | None) -> ThreadSnapshot | None:
    """Return the thread as an attempt that continues the run has to see it; None where there is nothing to continue."""
    if run is None:
        return found
    if found is None:
        waits = run.has_input and not run.head_before
        return ThreadSnapshot(_build_waiting_head(run), ()) if waits else None
    if not has_unapplied_input(found, run):
        return replace(found, head=replace(found.head, run=run))
    newest = found.head.newest_id
    return ThreadSnapshot(
        replace(_build_waiting_head(run), checkpoint_id=found.head.checkpoint_id, newest_id=newest), ()
    )


def has_unapplied_input(found: ThreadSnapshot, run: Run) -> bool:
    """Return whether the run's input was not applied yet: LangGraph saves a checkpoint as soon as it applies an input.

    A command's rows come before its first checkpoint, so where any was written since, a part of it was applied.
    """
    if not run.has_input or run.state == "submitted":
        return run.has_input
    same = found.head.checkpoint_id == run.head_before
    return same and run.rows_before in (None, found.fingerprint, control_part(found.fingerprint))


def _build_waiting_head(run: Run) -> Head:
    """Build the head of a thread of which nothing counts but the input that waits."""
    return Head(
        thread_id=run.thread_id,
        checkpoint_id="",
        newest_id="",
        stub=False,
        source=None,
        updated_channels=("__start__",),
        null_channels=(),
        metadata_workflow=run.workflow,
        metadata_graph=None,
        metadata_version=run.version,
        metadata_attempt=None,
        run=run,
        unapplied=True,
    )
