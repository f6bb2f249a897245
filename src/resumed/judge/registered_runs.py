"""What a registered run that has not ended changes about where its thread stands: its input may wait to be given."""

from dataclasses import replace

from resumed.judge.verdict import ThreadSnapshot, control_part
from resumed.rows import Head, Run


def with_registered_run(found: ThreadSnapshot | None, run: Run | None) -> ThreadSnapshot | None:
    """Give the thread as it stands for whoever goes on with the run; None where there is nothing to go on with."""
    if run is None:
        return found
    if found is None:
        never = run.has_input and not run.head_before
        return ThreadSnapshot(_blank(run), ()) if never else None
    if not has_unapplied_input(found, run):
        return replace(found, head=replace(found.head, run=run))
    newest = found.head.newest_id
    return ThreadSnapshot(replace(_blank(run), checkpoint_id=found.head.checkpoint_id, newest_id=newest), ())


def has_unapplied_input(found: ThreadSnapshot, run: Run) -> bool:
    """Say whether the run's input is still to be given: LangGraph saves a checkpoint first when it takes an input.

    A command's rows come before its first checkpoint, so where any has been written since, some of it was given.
    """
    if not run.has_input or run.state == "submitted":
        return run.has_input
    same = found.head.checkpoint_id == run.head_before
    return same and run.rows_before in (None, found.fingerprint, control_part(found.fingerprint))


def _blank(run: Run) -> Head:
    """Stand for a head of which nothing counts but the input that waits."""
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
