"""A worker that is cut off from Postgres in the middle of a node: its packets are dropped, nobody is told."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from resumed.demo.postgres import PrivateServer
from support.bench import Bench, prepared_bench
from support.servers import fresh_server
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

IPTABLES = shutil.which("iptables") or shutil.which("iptables", path="/usr/sbin")
OURS, THEIRS = "127.0.0.1", "127.0.0.2"
SETTINGS = {"RESUMED_RECONNECT_GRACE": "2s"}
LOCKS = "select count(*) from pg_locks where locktype = 'advisory' and granted"


@dataclass
class Cable:
    """All that goes between one address of the server and whoever talks to it, in both directions."""

    port: int
    cut_now: ExitStack = field(default_factory=ExitStack)

    def cut(self) -> None:
        for rule in (["-d", THEIRS, "--dport"], ["-s", THEIRS, "--sport"]):
            whole = ["INPUT", "-i", "lo", "-p", "tcp", *rule, str(self.port), "-j", "DROP"]
            subprocess.run([str(IPTABLES), "-I", *whole], check=True, capture_output=True)
            self.cut_now.callback(subprocess.run, [str(IPTABLES), "-D", *whole], check=True, capture_output=True)

    def mend(self) -> None:
        self.cut_now.close()


def may_cut() -> bool:
    if os.getuid() or IPTABLES is None:
        return False
    return not subprocess.run([IPTABLES, "-L", "INPUT"], capture_output=True, check=False).returncode


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    with fresh_server(f"listen_addresses={OURS},{THEIRS}") as server:
        yield server


@pytest.fixture
def cable(server: PrivateServer) -> Iterator[Cable]:
    cable = Cable(server.port)
    yield cable
    cable.mend()


@pytest.mark.skipif(not may_cut(), reason="dropping packets needs root and iptables")
def test_a_worker_that_is_cut_off_loses_its_lock_and_another_finishes_its_thread(
    server: PrivateServer, cable: Cable, tmp_path: Path
) -> None:
    with prepared_bench(server.dsn(), tmp_path) as bench:
        bench.crashed_application(1, "alinear", "linear", ends=2, ZOO_DELAY="1")
        cut_off(bench, cable)


def cut_off(bench: Bench, cable: Cable) -> None:
    away = bench.dsn.replace(OURS, THEIRS)
    first = bench.daemon(RESUMED_DATABASE_URL=away, ZOO_DELAY="32", **SETTINGS).until_ready()
    eventually(lambda: bench.open_attempts() == 2)
    cable.cut()
    at = time.monotonic()
    eventually(lambda: bench.one(LOCKS) == 0, 25)
    print(f"the locks were free {time.monotonic() - at:.1f} s after the cut")
    second = bench.daemon(ZOO_DELAY="0.1", **SETTINGS)
    eventually(lambda: bench.all_closed(2))
    cable.mend()
    before = bench.rows("select thread_id, checkpoint_id from checkpoints order by 1, 2")
    eventually(lambda: first.lines("readiness.changed")[-1]["ready"])
    time.sleep(max(0.0, at + 36 - time.monotonic()))  # by then every node that was cut off has come to its end
    assert bench.rows("select thread_id, checkpoint_id from checkpoints order by 1, 2") == before
    for kind in ("alinear", "linear"):
        assert final_state(bench.dsn, f"{kind}_0") == undisturbed(kind)
        outcomes = bench.rows(
            "select outcome, charged from resumed.attempts where thread_id = %(thread)s order by attempt",
            thread=f"{kind}_0",
        )
        assert outcomes[0]["outcome"] in ("lock_lost", "crashed")
        assert outcomes[-1]["outcome"] == "finished"
        assert not any(one["charged"] for one in outcomes)
    assert [one.terminate() for one in (first, second)] == [0, 0]
