"""Whatever dies and however often: every thread is finished, by one at a time, and none pays for what others broke."""

import os
import random
import signal
import time
from dataclasses import dataclass, replace

import pytest

from acceptance.test_crash import assert_one_at_a_time
from resumed.demo.postgres import PrivateServer
from soak import checks
from soak.fleet import Fleet, every
from support.bench import Bench
from support.daemon import Daemon
from support.tiers import small, whole
from support.undisturbed import final_states, undisturbed
from support.waiting import eventually

ALL = bool(os.environ.get("RESUMED_TEST_ALL"))
PATIENT = {"RESUMED_POLL_INTERVAL": "1s", "RESUMED_RECONNECT_GRACE": "2s", "RESUMED_MIN_AGE": "3s"}
SETTINGS = {"RESUMED_CONCURRENCY": "8", "ZOO_DELAY": "2.5" if ALL else "0.5"}


@dataclass(frozen=True)
class Storm:
    """How much of everything: threads of each kind, replicas, restarts; seconds between kills and cuts, and in all.

    `sessions`: how many lock sessions the attempts of a worker share.
    """

    kinds: tuple[str, ...]
    each: int
    replicas: int
    restarts: int
    kills: tuple[float, float]
    cuts: tuple[float, float]
    sessions: int | None = None

    @property
    def threads(self) -> list[str]:
        return [f"{kind}_{number}" for kind in self.kinds for number in range(self.each)]

    @property
    def settings(self) -> dict[str, str]:
        return {**SETTINGS, **({"RESUMED_SESSIONS": str(self.sessions)} if self.sessions else {})}

    def leave_threads(self, bench: Bench) -> None:
        bench.crashed_application(self.each, *self.kinds, ends=3 * self.each, ZOO_DELAY="0.3")
        assert bench.one("select count(distinct thread_id) from checkpoints") == len(self.threads)

    def assert_unharmed(self, bench: Bench) -> None:
        eventually(lambda: not checks.left_open(bench))
        assert not checks.wrongly_charged(bench)
        assert not checks.forked(bench)
        assert_one_at_a_time(bench)
        expected = {kind: undisturbed(kind) for kind in self.kinds}
        states = final_states(bench.dsn, self.threads)
        assert [one for one in self.threads if states[one] != expected[one.rpartition("_")[0]]] == []


# Each kind has isolation workers of its own, whenever threads were in hand as a worker died.
SHORT = Storm(("alinear", "nested"), 15, 2, 2, (1.5, 5), (0.2, 3))
WHOLE = Storm(
    ("linear", "alinear", "fan", "sends", "nested"),
    20,
    3,
    5,
    *(((3, 120), (0.3, 60)) if ALL else ((1.5, 18), (0.2, 6))),
)
SHARED = replace(SHORT, sessions=2)
storms = pytest.mark.parametrize(
    "storm", [small(SHORT, id="short"), whole(SHARED, id="sessions shared"), whole(WHOLE, id="whole")]
)


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@storms
@pytest.mark.timeout(600)
def test_a_storm_of_kills_harms_no_thread(bench: Bench, dice: random.Random, storm: Storm) -> None:
    storm.leave_threads(bench)
    fleet = Fleet(bench, dice, list(storm.kinds), storm.settings).start(storm.replicas)
    eventually(bench.open_attempts)
    fleet.kill_worker()
    fleet.kill_control()
    every(*storm.kills, fleet.kill_one)
    eventually(lambda: not checks.unfinished(bench), 60)
    print(fleet.done, checks.outcomes(bench))
    # In a short one each attempt may have ended before the kill.
    assert storm is not WHOLE or checks.outcomes(bench)["crashed"] > 0
    storm.assert_unharmed(bench)
    assert fleet.lines("workflow.failed") == []
    assert fleet.stop() == 0


@storms
@pytest.mark.timeout(600)
def test_restarts_of_postgres_and_lost_sessions_harm_no_thread(
    own: Bench, private_server: PrivateServer, dice: random.Random, storm: Storm
) -> None:
    storm.leave_threads(own)
    fleet = Fleet(own, dice, list(storm.kinds), {**storm.settings, **PATIENT}).start(storm.replicas)
    eventually(own.open_attempts)
    for _ in range(storm.restarts):
        restart(private_server, dice)
        fleet.until_ready()
        time.sleep(dice.uniform(0.5, 1.5))
    every(*storm.cuts, fleet.cut_session)
    eventually(lambda: not checks.unfinished(own), 60)
    print(fleet.done, checks.outcomes(own))
    assert fleet.done["sessions"]
    # Whoever closes first names it: the one that lost its session, or another replica that finds its lock free.
    assert {"lock_lost", "crashed"} & checks.outcomes(own).keys()
    storm.assert_unharmed(own)
    assert own.one("select count(*) from resumed.attempts where charged") == 0
    for replica in fleet.replicas:
        assert_told_of_the_database(replica)
    assert fleet.ended == []
    assert fleet.stop() == 0


def restart(server: PrivateServer, dice: random.Random) -> None:
    """Stop it as an administrator does or as a crash would, and let a moment pass."""
    server.stop(dice.choice([signal.SIGINT, signal.SIGQUIT]))
    time.sleep(dice.uniform(0.3, 1))
    server.start()


def assert_told_of_the_database(replica: Daemon) -> None:
    told = [line["ready"] for line in replica.lines("readiness.changed")]
    assert told[-1] is True
    assert False in told[told.index(True) :]
    assert any("database" in line["reason"] for line in replica.lines("readiness.changed") if not line["ready"])
    assert sum(value for _, value in replica.samples("resumed_database_errors_total")) > 0
