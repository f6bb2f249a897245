"""Twenty minutes of work and random faults, in waves; not part of the suite: `make soak`, `SOAK_MINUTES` says how long.

Each wave an application begins threads and is killed in the middle of them, while replicas of the daemon are killed,
lose sessions, are drained and started again, and Postgres is restarted. What must hold is asked of the rows at the end.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from resumed.demo.postgres import PrivateServer
from soak import checks
from soak.fleet import Fleet
from support.bench import Bench, prepared_bench
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
KINDS = ("linear", "alinear", "fan", "sends", "nested")
EACH = 4
REPLICAS = 3
PAUSE = (1.0, 4.0)
SETTINGS = {
    "RESUMED_POLL_INTERVAL": "1s",
    "RESUMED_RECONNECT_GRACE": "2s",
    "RESUMED_MIN_AGE": "3s",
    "RESUMED_CONCURRENCY": "8",
    "ZOO_DELAY": "1.5",
}


class Soak:
    """One server, three replicas, and threads in waves; each wave has names of its own."""

    def __init__(self, server: PrivateServer, bench: Bench, dice: random.Random) -> None:
        self.server, self.bench, self.dice = server, bench, dice
        self.fleet = Fleet(bench, dice, list(KINDS), SETTINGS)
        self.waves = 0
        self.faults: Counter[str] = Counter()

    def deeds(self) -> list[Callable[[], None]]:
        return [
            *[self.fleet.kill_one] * 6,
            *[self.fleet.cut_session] * 6,
            *[self.wave] * 6,
            self.stop_one,
            self.restart_postgres,
        ]

    def wave(self) -> None:
        """Begin threads that nobody has, and kill the application in the middle of them."""
        self.waves += 1
        before = len(self.bench.effects("end"))
        settings = {"ZOO_DELAY": "0.2", "ZOO_FIRST": str(self.waves * EACH)}
        self.bench.crashed_application(EACH, *KINDS, ends=before + self.dice.randrange(5, 3 * EACH), **settings)
        self.faults["applications killed"] += 1

    def stop_one(self) -> None:
        """A deploy: one replica is drained, and started again."""
        self.fleet.stop_one()
        self.faults["replicas drained"] += 1

    def restart_postgres(self) -> None:
        self.server.stop(self.dice.choice([signal.SIGINT, signal.SIGQUIT]))
        time.sleep(self.dice.uniform(0.3, 1))
        self.server.start()
        self.faults["Postgres restarted"] += 1

    def threads(self) -> list[str]:
        return [row["thread_id"] for row in self.bench.rows("select distinct thread_id from checkpoints")]


@pytest.mark.timeout(int(MINUTES * 60) + 900)
def test_a_soak_of_random_faults_doubles_nothing_and_loses_nothing(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    with PrivateServer() as server, prepared_bench(server.dsn(), tmp_path) as bench:
        soaked(Soak(server, bench, random.Random(seed)), seed)


def soaked(soak: Soak, seed: int) -> None:
    watched = soak.bench.daemon(list(KINDS), **SETTINGS).until_ready()  # never killed: its memory is what is measured
    soak.fleet.start(REPLICAS - 1)
    soak.wave()
    eventually(lambda: not checks.unfinished(soak.bench), 120)
    at_start = soak.fleet.memory_of(watched)
    end = time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        soak.dice.choice(soak.deeds())()
        time.sleep(soak.dice.uniform(*PAUSE))
    eventually(lambda: not checks.unfinished(soak.bench), 300)
    eventually(lambda: not checks.left_open(soak.bench))
    at_end = soak.fleet.memory_of(watched)
    threads, doubled = soak.threads(), checks.doubles(soak.bench)
    expected = {kind: undisturbed(kind) for kind in KINDS}
    lost = [one for one in threads if final_state(soak.bench.dsn, one) != expected[kind_of(one)]]
    print(f"\nseed {seed}, {MINUTES:g} minutes, {REPLICAS} replicas: {len(threads)} threads in {soak.waves} waves")
    print(f"faults: {dict(soak.fleet.done + soak.faults)}")
    print(f"attempts: {checks.outcomes(soak.bench)}")
    charged = checks.wrongly_charged(soak.bench)
    print(f"doubles: {len(doubled)}, lost or wrong: {len(lost)}, wrongly charged: {len(charged)}")
    print(f"memory of a control process: {at_start / 2**20:.0f} MiB at the start, {at_end / 2**20:.0f} MiB at the end")
    assert (doubled, lost, charged, checks.forked(soak.bench)) == ([], [], [], [])
    assert at_end < 1.5 * at_start
    assert watched.terminate() == 0
    assert soak.fleet.stop() == 0


def kind_of(thread: str) -> str:
    return thread.rpartition("_")[0]
