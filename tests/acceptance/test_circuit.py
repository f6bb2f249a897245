"""A workflow that keeps failing is probed, not hammered, and is finished once it heals."""

import os
import time

import pytest

from support.bench import Bench
from support.tiers import small, whole
from support.waiting import eventually

ALL = bool(os.environ.get("RESUMED_TEST_ALL"))
THREADS, SECONDS = (10_000, 300) if ALL else (300, 5)
FEW = 100
PROBES = {} if ALL else {"RESUMED_TEST_TIMINGS": "between_probes=3s"}
TABLES = {
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path",
}


def copy(bench: Bench, threads: int) -> None:
    """Have so many threads in all, each with the rows of the first."""
    for table, columns in TABLES.items():
        bench.execute(
            f"insert into {table} (thread_id, {columns}) select 'fragile_' || n, {columns}"
            f" from {table}, generate_series(1, {threads - 1}) n where thread_id = 'fragile_0'"
        )


@pytest.mark.parametrize("threads", [small(FEW, id="few"), whole(THREADS, id="all")])
def test_a_workflow_that_keeps_failing_is_probed_by_all_replicas_together_until_it_heals(
    bench: Bench, threads: int
) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.application(1, "fragile", ZOO_BREAK=str(broken), ZOO_DELAY="0").wait(30)
    copy(bench, threads)
    settings = {"ZOO_BREAK": str(broken), "ZOO_DELAY": "0", "RESUMED_RETRY_BASE": "1s", **PROBES}
    daemons = [bench.daemon(**settings).until_ready() for _ in range(2)]
    eventually(lambda: all(daemon.lines("circuit.opened") for daemon in daemons))
    time.sleep(SECONDS)
    attempts = "select count(*) from resumed.attempts"
    made = bench.one(attempts)
    print(f"{made} attempts on {threads} threads in {SECONDS} s")
    assert 10 <= made <= max(threads // 50, 60)
    assert [
        value for labels, value in daemons[0].samples("resumed_circuit_open") if labels["workflow"] == "fragile"
    ] == [1]
    assert not bench.rows("select from resumed.cases where state = 'quarantined'")
    broken.unlink()
    eventually(lambda: bench.all_closed(threads), max(threads / 5, 60))
    assert all(daemon.lines("circuit.closed") for daemon in daemons)
    assert bench.one("select count(distinct thread_id) from resumed.attempts where outcome = 'finished'") == threads
    assert [daemon.terminate() for daemon in daemons] == [0, 0]
