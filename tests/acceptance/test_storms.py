"""Whatever dies and however often: every thread is finished, by one at a time, and none pays for what others broke."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from acceptance.test_crash import assert_one_at_a_time
from resumed.demo.postgres import PrivateServer
from resumed.store import schema
from resumed.store.connection import Target
from soak import checks
from soak.fleet import Fleet, every
from support.bench import Bench
from support.daemon import Daemon
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

ALL = bool(os.environ.get("RESUMED_TEST_ALL"))
KINDS = ("linear", "alinear", "fan", "sends", "nested")
THREADS = [f"{kind}_{number}" for kind in KINDS for number in range(20)]
KILLS = (3, 120) if ALL else (1.5, 18)
CUTS = (0.3, 60) if ALL else (0.2, 6)
PATIENT = {"RESUMED_POLL_INTERVAL": "1s", "RESUMED_RECONNECT_GRACE": "2s", "RESUMED_MIN_AGE": "3s"}
SETTINGS = {"RESUMED_CONCURRENCY": "8", "ZOO_DELAY": "2.5" if ALL else "0.5"}


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.timeout(600)
def test_a_storm_of_kills_harms_no_thread(bench: Bench, dice: random.Random) -> None:
    leave_a_hundred(bench)
    fleet = Fleet(bench, dice, list(KINDS), SETTINGS).start(3)
    every(*KILLS, fleet.kill_one)
    eventually(lambda: not checks.unfinished(bench), 60)
    print(fleet.done, checks.outcomes(bench))
    assert fleet.done["workers"]
    assert fleet.done["control processes"]
    assert checks.outcomes(bench)["crashed"] > 0
    assert_unharmed(bench)
    assert fleet.lines("workflow.failed") == []
    assert fleet.stop() == 0


@pytest.mark.timeout(600)
def test_restarts_of_postgres_and_lost_sessions_harm_no_thread(
    private_server: PrivateServer, tmp_path: Path, dice: random.Random
) -> None:
    bench = Bench(private_server.dsn(), tmp_path)
    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        saver.setup()
    asyncio.run(schema.migrate(Target(bench.dsn)))
    leave_a_hundred(bench)
    fleet = Fleet(bench, dice, list(KINDS), {**SETTINGS, **PATIENT}).start(3)
    try:
        for _ in range(5):
            restart(private_server, dice)
            fleet.until_ready()
        every(*CUTS, fleet.cut_session)
        eventually(lambda: not checks.unfinished(bench), 60)
        print(fleet.done, checks.outcomes(bench))
        assert fleet.done["sessions"]
        # Whoever closes first names it: the one that lost its session, or another replica that finds its lock free.
        assert {"lock_lost", "crashed"} & checks.outcomes(bench).keys()
        assert_unharmed(bench)
        assert bench.one("select count(*) from resumed.attempts where charged") == 0
        for replica in fleet.replicas:
            assert_told_of_the_database(replica)
        assert fleet.ended == []
        assert fleet.stop() == 0
    finally:
        bench.end()


def restart(server: PrivateServer, dice: random.Random) -> None:
    """Stop it as an administrator does or as a crash would, and let a moment pass."""
    time.sleep(dice.uniform(0.5, 1.5))
    server.stop(dice.choice([signal.SIGINT, signal.SIGQUIT]))
    time.sleep(dice.uniform(0.3, 1))
    server.start()


def assert_told_of_the_database(replica: Daemon) -> None:
    told = [line["ready"] for line in replica.lines("readiness.changed")]
    assert told[-1] is True
    assert False in told[told.index(True) :]
    assert any("database" in line["reason"] for line in replica.lines("readiness.changed") if not line["ready"])
    assert sum(value for _, value in replica.samples("resumed_database_errors_total")) > 0


def leave_a_hundred(bench: Bench) -> None:
    bench.crashed_application(20, *KINDS, ends=60, ZOO_DELAY="0.3")
    assert bench.one("select count(distinct thread_id) from checkpoints") == len(THREADS)


def assert_unharmed(bench: Bench) -> None:
    eventually(lambda: not checks.left_open(bench))
    assert not checks.wrongly_charged(bench)
    assert not checks.forked(bench)
    assert_one_at_a_time(bench)
    expected = {kind: undisturbed(kind) for kind in KINDS}
    wrong = [one for one in THREADS if final_state(bench.dsn, one) != expected[one.rpartition("_")[0]]]
    assert wrong == []
