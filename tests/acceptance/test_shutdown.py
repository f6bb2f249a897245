"""A shutdown in the middle of much work: in its time, and at nobody's charge."""

import signal
import time

from support.bench import Bench
from support.waiting import eventually

COUNT = 25
ATTEMPTS = "select outcome, charged, finished_at is null as open from resumed.attempts"


def test_fifty_attempts_in_flight_are_drained_within_the_grace_and_none_is_charged(bench: Bench) -> None:
    bench.crashed_application(COUNT, "alinear", "linear", ends=2 * COUNT, ZOO_DELAY="0.5")
    settings = {"RESUMED_CONCURRENCY": str(2 * COUNT), "RESUMED_SHUTDOWN_GRACE": "5s", "ZOO_DELAY": "60"}
    before = len(bench.effects("start"))
    daemon = bench.daemon(["alinear", "linear"], **settings).until_ready()
    eventually(lambda: len(bench.effects("start")) == before + 2 * COUNT)
    assert bench.open_attempts() == 2 * COUNT
    asked = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    took = time.monotonic() - asked
    print(f"50 attempts drained in {took:.1f} s of a grace of 5 s")
    assert took <= 15  # a node takes sixty; a busy machine takes its time
    found = bench.rows(ATTEMPTS)
    assert len(found) == 2 * COUNT
    assert {(one["outcome"], one["charged"], one["open"]) for one in found} == {("drained", False, False)}
    assert bench.one("select count(*) from pg_locks where locktype = 'advisory'") == 0
    after = bench.daemon(["alinear", "linear"], RESUMED_CONCURRENCY=str(2 * COUNT), ZOO_DELAY="0")
    eventually(lambda: bench.all_closed(2 * COUNT))
    assert after.terminate() == 0
