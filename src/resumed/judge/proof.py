"""Says which threads are known to be dead without any silence: a registered run is open, and nobody holds the lock."""

from resumed.rows import Head


def is_known_dead(head: Head) -> bool:
    """Say whether the thread is the work of a run whose lock nobody holds: it has died, no silence is waited for.

    Not where somebody else has moved the head since, nor after an attempt of ours has gone on with it.
    """
    run = head.run
    if run is None or head.unapplied:
        return run is not None
    return run.state == "open" and (head.metadata_run == run.run_id or head.checkpoint_id == run.head_before)
