"""Every point at which a process can die between two calls of its checkpointer: judged right, and finished right.

By default a fixed sample, with RESUMED_TEST_ALL=1 every point. `-s` prints what was counted.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from support.bench import GRAPHS, Bench
from support.command import Done, run_here
from support.databases import outliving_sessions
from support.tiers import small, whole

SHARE = 1 if os.environ.get("RESUMED_TEST_ALL") else 8
UNFINISHED = ("failed", "stopped")
# Where no resume can be right the verdict has to say so, at exactly these points.
ASKED = "a person was asked, and the answer was never stored"
BEHIND = "the second run's input never reached the subgraph that keeps its state: LangGraph merges its old output"
AHEAD = "the subgraph that keeps its state has saved more than its parent: LangGraph runs it again on top of that"
EXCEPTIONS = {ASKED: "waiting", BEHIND: "incompatible", AHEAD: "incompatible"}

STUB = (-2, None)  # what `durability="exit"` leaves before there is any state: a resume would raise EmptyInputError
# What each thread left, by what its rows say without any rule of ours.
LEFT = """
select c.thread_id, c.checkpoint_id as head, (c.metadata ->> 'step')::int as step, c.metadata ->> 'source' as source,
    exists (
        select from checkpoint_writes w where w.thread_id = c.thread_id and w.checkpoint_ns = ''
        and w.checkpoint_id = c.checkpoint_id and w.task_id = '00000000-0000-0000-0000-000000000000'
    ) as commanded
from checkpoints c
where c.checkpoint_ns = '' and not exists (
    select from checkpoints n where n.thread_id = c.thread_id and n.checkpoint_ns = ''
    and n.checkpoint_id > c.checkpoint_id
)
"""
# Where the subgraph that keeps its own state, and what calls it, stand: the newest checkpoint of each since the head.
STATEFUL = """
select root.thread_id, parent.checkpoint_id as parent, parent.step, root.head < child.checkpoint_id as since,
    child.checkpoint_id as child
from (select thread_id, max(checkpoint_id) as head from checkpoints where checkpoint_ns = '' group by thread_id) root
left join lateral (
    select c.checkpoint_id, (c.metadata ->> 'step')::int as step from checkpoints c
    where c.thread_id = root.thread_id and c.checkpoint_ns like %(parent)s and c.checkpoint_id >= root.head
    and (c.checkpoint_ns = '' or c.metadata -> 'parents' ->> '' = root.head)
    order by c.checkpoint_id desc limit 1
) parent on true
cross join lateral (
    select max(c.checkpoint_id) as checkpoint_id from checkpoints c
    where c.thread_id = root.thread_id and c.checkpoint_ns = %(child)s
) child
where root.thread_id like any (%(flows)s) and child.checkpoint_id is not null
"""
STATEFUL_AT = (
    {"flows": ["nested_stateful:%", "stateful_twice:%"], "parent": "", "child": "inner"},
    {"flows": ["deep_stateful:%", "deep_stateful_twice:%"], "parent": "inner:%", "child": "inner|inner"},
)
CALLS_IT = (1, 6)  # the steps, of a first and of a second run, after which it is due
# Everything that is stored of each thread, down to the transaction that wrote it.
STORED = """
select thread_id, md5(string_agg(line, ',' order by line)) as digest
from (
    select thread_id, concat_ws(' ', 'c', checkpoint_ns, checkpoint_id, xmin, ctid) as line from checkpoints
    union all
    select thread_id, concat_ws(' ', 'w', checkpoint_ns, checkpoint_id, task_id, idx, xmin, ctid) from checkpoint_writes
    union all
    select thread_id, concat_ws(' ', 'b', checkpoint_ns, channel, version, xmin, ctid) from checkpoint_blobs
) stored group by thread_id
"""


@dataclass(frozen=True)
class Left:
    """A thread at its point: whether work is left by the record of an undisturbed run, and what it has to come to."""

    finished: bool
    state: Any
    exception: str | None


def kill_everywhere(bench: Bench, every: int) -> dict[str, tuple[int, int]]:
    """Kill the application at its points; gives for each series how often, and how many points it has."""
    command = [sys.executable, "-m", "points.killer", bench.dsn, "3", str(SHARE), str(every)]
    with outliving_sessions(bench.dsn) as named:
        environment = bench.environment([], **named)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return {name: tuple(told) for line in done.stdout.splitlines() for name, told in json.loads(line).items()}


def resumed(bench: Bench, *arguments: str, **settings: str) -> Done:
    """Run the command to its end, however many threads it has to do with."""
    return run_here(arguments, bench.environment([], **settings), bench.folder)


def scan(bench: Bench, **settings: str) -> list[dict[str, Any]]:
    done = resumed(bench, "scan", "--json", **settings)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["threads"])


def recorded(bench: Bench) -> dict[str, Left]:
    strays = {row["thread_id"]: stray(row) for place in STATEFUL_AT for row in bench.rows(STATEFUL, **place)}
    rows = [row for row in bench.rows(LEFT) if (row["step"], row["source"]) != STUB]
    return {row["thread_id"]: left(row, strays.get(row["thread_id"])) for row in rows}


def stray(row: dict[str, Any]) -> str | None:
    """Say what is wrong between a subgraph that keeps its own state and its parent."""
    if row["step"] in CALLS_IT:
        return BEHIND if row["child"] < row["parent"] else None
    return AHEAD if row["since"] and (row["parent"] is None or row["parent"] < row["child"]) else None


def left(row: dict[str, Any], stray: str | None) -> Left:
    """Compare where a thread stands with where an undisturbed run of its flow stood before and after its last input."""
    from points.oracle import story  # noqa: PLC0415 - found only once the graphs are on the path

    name = row["thread_id"].partition(":")[0]
    told = story(name)
    before, without = told.before, told.without
    if before is not None and without is not None and row["step"] == before.step and not row["commanded"]:
        asked = ASKED if name == "answered" else None
        return Left(before.step == without.step and not asked, without.state, asked or stray)
    return Left(row["step"] == told.whole.step, told.whole.state, stray)


def states(bench: Bench, threads: list[str]) -> dict[str, Any]:
    """Read the threads' states as the application would."""
    from points.flows import FLOWS  # noqa: PLC0415

    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        graphs = {name: flow.compiled(saver) for name, flow in FLOWS.items()}
        return {
            thread: graphs[thread.partition(":")[0]].get_state({"configurable": {"thread_id": thread}}).values
            for thread in threads
        }


def stored(bench: Bench) -> dict[str, str]:
    return {row["thread_id"]: row["digest"] for row in bench.rows(STORED)}


def tell(points: dict[str, tuple[int, int]], threads: dict[str, Left], finished: int) -> None:
    """Print the figures of docs/reliability.md."""
    killed, calls = (sum(told[place] for told in points.values()) for place in (0, 1))
    flows = {name.partition(":")[0] for name in points}
    print(f"\n{len(flows)} flows in {len(points)} series with {calls} points, killed at {killed} of them;")
    print(f"{len(threads)} threads with rows, {len(points)} of them not killed; judged right: {len(threads)};")
    print(f"unfinished and finished right by one attempt each: {finished};")
    print(f"finished and left alone: {sum(one.finished for one in threads.values())};")
    for reason, count in Counter(
        one.exception for one in threads.values() if one.exception and not one.finished
    ).items():
        print(f"{EXCEPTIONS[reason]}: {count} ({reason});")


# By a number that has no factor in common with those of savers and durabilities, so that each is there.
@pytest.mark.parametrize(
    "every",
    [small(5, id="a fifth of the series"), whole(1, id="all series")],
)
@pytest.mark.timeout(170 if SHARE > 1 else 1800)
def test_a_process_killed_before_any_call_of_its_checkpointer_is_judged_and_finished_right(
    bench: Bench, every: int
) -> None:
    sys.path.insert(0, str(GRAPHS))
    from points.flows import FLOWS  # noqa: PLC0415

    points = kill_everywhere(bench, every)
    assert sum(killed for killed, _ in points.values()) >= 150 // every
    threads = recorded(bench)
    settings: Any = {"workflows": [f"{name}=points.registered:FLOWS.{name}" for name in FLOWS]}
    settings["PYTHONPATH"] = f"{GRAPHS}:{bench.registry(settings.pop('workflows'))}"

    scanned = {one["thread_id"]: one["verdict"] for one in scan(bench, **settings)}
    expected = {name: EXCEPTIONS.get(one.exception or "") for name, one in threads.items() if not one.finished}
    assert {name for name in expected if name not in scanned} == set(), "unfinished, and not named"
    assert {name for name in scanned if name not in expected} == set(), "finished, or nothing to resume, and named"
    wrong = {
        name: (said, expected[name])
        for name, said in scanned.items()
        if said != expected[name] and (expected[name] is not None or said not in UNFINISHED)
    }
    assert wrong == {}

    before = stored(bench)
    resumed(bench, "once", "--wait", **settings, RESUMED_PROCESSES="2" if every == 1 else "1")
    alone = [name for name in before if name not in expected or expected[name] is not None]
    after = stored(bench)
    assert {name for name in alone if before[name] != after[name]} == set(), "finished or held, and touched"
    due = sorted(name for name, said in expected.items() if said is None)
    outcomes = bench.rows("select thread_id, outcome from resumed.attempts")
    assert Counter(row["thread_id"] for row in outcomes if row["outcome"] == "finished") == Counter(due)
    assert [row for row in outcomes if row["outcome"] != "finished"] == []
    came_to = states(bench, due)
    assert {name: (state, threads[name].state) for name, state in came_to.items() if state != threads[name].state} == {}
    again = {one["thread_id"]: one["verdict"] for one in scan(bench, **settings)}
    assert again == {name: said for name, said in expected.items() if said is not None}
    tell(points, threads, len(due))
