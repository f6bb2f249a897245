"""State that a registration's serializer saved: sealed rows stay sealed, and what does not load whole is never run."""

import signal
import subprocess
import sys
from typing import Any

from support.bench import GRAPHS, Bench

NAMES = ("plain", "smuggler", "sealed", "listed", "unlisted")
REGISTERED: Any = [f"{name}=sealed.graphs:{name}" for name in NAMES]
MARK = b"what nobody may read"
CASES = "select thread_id, state, verdict, reason from resumed.cases"
ATTEMPTS = "select thread_id, outcome from resumed.attempts"
VALUES = """
    select type, blob from checkpoint_blobs where thread_id = 'sealed_0' and blob is not null
    union all select type, blob from checkpoint_writes where thread_id = 'sealed_0' and blob is not null
"""
ROWS = "select * from checkpoints order by 1, 2, 3"


def application_killed(bench: Bench) -> None:
    """Have each thread written by a process that is killed in the second node."""
    for name in NAMES:
        application = bench.module("sealed.app", bench.dsn, name, workflows=REGISTERED, SEALED_KEY="right")
        assert application.wait(60) == -signal.SIGKILL


def once(bench: Bench, version: str, key: str, strict: str) -> dict[str, str]:
    """Have everything tried that is due; gives the verdicts."""
    settings = {"SEALED_VERSION": version, "SEALED_KEY": key, "RESUMED_STRICT_MSGPACK": strict}
    done = bench.resumed("once", "--wait", workflows=REGISTERED, **settings)
    assert done.returncode == 0, done.stderr
    return {row["thread_id"].removesuffix("_0"): row["verdict"] for row in bench.rows(CASES)}


def attempts(bench: Bench) -> dict[str, str]:
    return {row["thread_id"].removesuffix("_0"): row["outcome"] for row in bench.rows(ATTEMPTS)}


def test_state_is_read_and_saved_as_the_registration_says_or_not_at_all(bench: Bench) -> None:
    sys.path.insert(0, str(GRAPHS))
    application_killed(bench)
    begun = [one for one in bench.effects() if one["node"] == "second"]
    assert len(begun) == len(NAMES)
    rows = bench.rows(ROWS)
    # A wrong key, classes that strict loading blocks, classes that the list of the registration leaves out.
    verdicts = once(bench, "2", "wrong", "true")
    refused = dict.fromkeys(("sealed", "smuggler", "unlisted"), "incompatible")
    assert verdicts == {**refused, "plain": "finished", "listed": "finished"}
    assert attempts(bench) == {"plain": "finished", "listed": "finished"}
    kept_out = [row for row in rows if row["thread_id"].removesuffix("_0") in refused]
    assert [row for row in bench.rows(ROWS) if row["thread_id"].removesuffix("_0") in refused] == kept_out
    imported = [one for one in bench.effects() if one["node"] == "imported"][-1]
    assert (imported["at_exec"], imported["strict"]) == (True, True)
    # The right key, and no strictness beyond the list of the registration.
    verdicts = once(bench, "3", "right", "false")
    assert verdicts == {**dict.fromkeys(NAMES, "finished"), "unlisted": "incompatible"}
    assert attempts(bench) == {name: "finished" for name in NAMES if name != "unlisted"}
    ran = [one for one in bench.effects() if one["node"] == "second"][len(begun) :]
    assert [one["kept"] for one in ran] == ["Kept"] * 4
    assert sorted(one["any"] for one in ran) == ["Smuggled", "Smuggled", "list", "list"]
    values = bench.rows(VALUES)
    assert {row["type"].partition("+")[2] for row in values if row["type"] != "empty"} == {"sealed"}
    assert not [row for row in values if MARK in bytes(row["blob"])]
    assert MARK.decode() not in str(bench.rows("select * from checkpoints where thread_id = 'sealed_0'"))
    assert finally_kept(bench) == "what nobody may read, twice"


def finally_kept(bench: Bench) -> str:
    """Read the sealed thread as its application would, with the key."""
    code = (
        "import sys; from sealed.graphs import sealed; from langgraph.checkpoint.postgres import PostgresSaver\n"
        "with PostgresSaver.from_conn_string(sys.argv[1]) as saver:\n"
        "    saver.serde = sealed.serde\n"
        "    graph = sealed.graph.compile(checkpointer=saver)\n"
        "    print(graph.get_state({'configurable': {'thread_id': 'sealed_0'}}).values['kept'].value)"
    )
    command = [sys.executable, "-c", code, bench.dsn]
    environment = bench.environment(REGISTERED, SEALED_KEY="right")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()
