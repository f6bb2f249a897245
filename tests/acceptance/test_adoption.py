"""Threads that were dead before the daemon came are adopted by a command and finished by the daemon."""

import json
import subprocess
import sys

import pytest

from support.bench import Bench
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

OLD = {"RESUMED_MAX_AGE": "1s"}
QUIET = "select max((checkpoint ->> 'ts')::timestamptz) < clock_timestamp() - interval '1 second' from checkpoints"


def leave_too_old(bench: Bench) -> None:
    """Leave three dead threads that have been quiet for longer than `OLD` says, before anything looks at them."""
    bench.crashed_application(3, "linear", ends=4, ZOO_DELAY="0.1")
    eventually(lambda: bench.one(QUIET))


def test_what_was_dead_for_too_long_is_adopted_and_finished(bench: Bench) -> None:
    leave_too_old(bench)
    counted = ("adopt", "--since", "1h", "--workflow", "linear", "--dry-run")
    eventually(lambda: "3" in bench.resumed(*counted, **OLD).stdout or bench.resumed("once", **OLD).returncode)
    daemon = bench.daemon(**OLD).until_ready()
    before = daemon.sweeps()
    eventually(lambda: daemon.sweeps() > before + 1)
    seen = json.loads(bench.resumed(*counted, "--json", **OLD).stdout)
    assert (seen["dry_run"], seen["adopted"], seen["workflows"][0]["found"]) == (True, 0, 3)
    assert bench.open_attempts() == bench.one("select count(*) from resumed.attempts") == 0
    unasked = bench.resumed("adopt", "--since", "1h", **OLD)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    done = bench.resumed("--actor", "ada", "adopt", "--since", "1h", "--yes", "--json", **OLD)
    assert (done.returncode, json.loads(done.stdout)["adopted"]) == (0, 3)
    eventually(lambda: bench.one("select count(*) from resumed.attempts where outcome = 'finished'") == 3)
    assert all(final_state(bench.dsn, f"linear_{one}") == undisturbed("linear") for one in range(3))
    acts = bench.rows("select actor, action, via from resumed.audit")
    assert acts == [{"actor": "ada", "action": "adopt", "via": "cli"}] * 3
    nothing = bench.resumed("adopt", "--since", "1h", "--yes", **OLD)
    assert (nothing.returncode, nothing.stdout) == (1, "nothing to adopt\n")


def test_adopt_says_what_is_wrong_with_its_options(bench: Bench) -> None:
    for options in ((), ("--since", "soon"), ("--since", "0s"), ("--since", "1h", "--limit", "0")):
        done = bench.resumed("adopt", *options)
        assert done.returncode == 2, options
        assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_a_death_at_any_statement_adopts_a_batch_whole_or_not_at_all(bench: Bench) -> None:
    leave_too_old(bench)

    def all_too_old() -> bool:
        assert bench.resumed("once", **OLD).returncode in (0, 1)
        found = json.loads(bench.resumed("adopt", "--since", "1h", "--dry-run", "--json", **OLD).stdout)
        return [one["found"] for one in found["workflows"]] == [3]

    eventually(all_too_old)
    command = [sys.executable, "-m", "kept.adopting", bench.dsn]
    done = subprocess.run(
        command, env=bench.environment(**OLD), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["deaths"] > 20
    assert (told["adopted"], told["torn"], told["code"]) == ([0, 3], [], 0)
