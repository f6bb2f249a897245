"""Every point at which a process can die between two calls of its checkpointer: judged right, and finished right."""

import asyncio
import json
import subprocess
import sys
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver

from acceptance.conftest import GRAPHS, Bench

UNFINISHED = ("failed", "stopped")


def kill_everywhere(bench: Bench) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "points.killer", bench.dsn],
        env=bench.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def undisturbed(name: str) -> Any:
    from points.flows import compiled, given  # noqa: PLC0415 - found only once the zoo is on the path

    config: Any = {"configurable": {"thread_id": "undisturbed"}}
    graph = compiled(name, InMemorySaver())
    asyncio.run(graph.ainvoke(given(name), config))
    return graph.get_state(config).values


def final_states(bench: Bench, threads: list[str]) -> dict[str, Any]:
    from points.flows import FLOWS, compiled  # noqa: PLC0415

    with PostgresSaver.from_conn_string(bench.dsn) as saver:
        graphs = {name: compiled(name, saver) for name in FLOWS}
        return {
            thread: graphs[thread.partition(":")[0]].get_state({"configurable": {"thread_id": thread}}).values
            for thread in threads
        }


def test_a_process_killed_before_any_call_of_its_checkpointer_is_judged_and_finished_right(bench: Bench) -> None:
    sys.path.insert(0, str(GRAPHS))
    from points.flows import FLOWS  # noqa: PLC0415

    points = kill_everywhere(bench)
    threads = {row["thread_id"] for row in bench.rows("select distinct thread_id from checkpoints")}
    whole = {f"{flow}:{last}" for flow, last in points.items()}
    assert whole <= threads
    assert len(threads) >= 150
    entries = [f"{name}=points.flows:FLOWS.{name}" for name in FLOWS]
    (bench.folder / "points_registry.py").write_text(
        "from points.flows import FLOWS\n" + "".join(f"{name} = FLOWS[{name!r}]\n" for name in FLOWS)
    )
    entries = [f"{name}=points_registry:{name}" for name in FLOWS]
    settings: Any = {"workflows": entries, "PYTHONPATH": f"{GRAPHS}:{bench.folder}:{bench.registry(entries)}"}
    scanned = {one["thread_id"]: one for one in bench.ask("scan", **settings)["threads"]}
    assert {name: one["verdict"] for name, one in scanned.items() if one["verdict"] not in UNFINISHED} == {}
    expected = {name: undisturbed(name) for name in FLOWS}
    before = final_states(bench, sorted(threads))
    assert whole & set(scanned) == set()
    done = bench.resumed("once", "--wait", **settings)
    assert done.returncode == 0, done.stderr
    after = final_states(bench, sorted(threads))
    wrong = {one: state for one, state in after.items() if state != expected[one.partition(":")[0]]}
    assert wrong == {}
    untouched = threads - set(scanned)
    assert {one: before[one] for one in untouched} == {one: after[one] for one in untouched}
    assert bench.one("select count(*) from resumed.attempts where outcome <> 'finished'") == 0
