"""What a resume gives back of the original call, what the registration adds to it, and that no log tells a value."""

import json
import sys
from typing import Any

import httpx

from support.bench import GRAPHS, Bench
from support.waiting import eventually

THREADS = 2
SCALARS = {"tenant": "acme", "retries": 3, "share": 0.5, "dry": True, "api_key": "sk-live-hunter2", "delta_days": 7}
OWNER = {"owner": "ann"}
SETTLED = "select from resumed.cases where state in ('closed', 'held', 'quarantined')"
ATTEMPTS = """
    select thread_id, outcome, error_type, error, error_at from resumed.attempts where workflow = any (%(names)s)
"""
SAVED = """
    select checkpoint_ns = '' as root, metadata -> 'workflow' as workflow, metadata -> 'version' as version,
        metadata -> 'tenant' as tenant, metadata -> 'owner' as owner, metadata -> 'api_key' as api_key,
        metadata ? 'checkpoint_mine' as mine, metadata -> 'traceparent' as traceparent,
        metadata ?| '{baggage,langsmith-trace,langsmith-project}' as traced_elsewhere
    from checkpoints where thread_id like %(workflow)s || '\\_%%' and metadata ->> 'attempt' = '1'
"""


def workflows() -> list[str]:
    sys.path.insert(0, str(GRAPHS))
    from calls.graphs import ALL  # noqa: PLC0415 - the graphs are found only now

    return list(ALL)


def application_killed(bench: Bench, names: list[str]) -> None:
    """Start every workflow, and kill the application when each thread is in its second node."""
    application = bench.module("calls.app", bench.dsn, str(THREADS), *names, CALLS_WAIT="600")
    eventually(lambda: len(noted(bench)) == THREADS * len(names) or application.poll() is not None)
    assert application.poll() is None
    application.kill()
    application.wait()


def noted(bench: Bench) -> list[dict[str, Any]]:
    lines = bench.effects_file.read_text().splitlines() if bench.effects_file.exists() else []
    return [json.loads(line) for line in lines]


def test_a_resume_gives_the_call_back_with_what_the_registration_says_of_it(bench: Bench) -> None:
    names = workflows()
    application_killed(bench, names)
    begun = len(noted(bench))
    daemon = bench.daemon([f"{name}=calls.registered:{name}" for name in names], RESUMED_RECURSION_LIMIT="7")
    eventually(lambda: len(bench.rows(SETTLED)) == THREADS * len(names))
    after = noted(bench)[begun:]

    def calls(workflow: str, node: str = "second") -> list[dict[str, Any]]:
        return [one for one in after if one["thread"].rpartition("_")[0] == workflow and one["node"] == node]

    def attempts(workflow: str) -> list[dict[str, Any]]:
        found = bench.rows(ATTEMPTS, names=[workflow])
        assert len(found) == THREADS
        return found

    def outcomes(workflow: str) -> set[tuple[Any, Any]]:
        return {(one["outcome"], one["error_type"]) for one in attempts(workflow)}

    def states(workflow: str) -> set[tuple[Any, Any]]:
        found = bench.rows("select state, verdict from resumed.cases where workflow = %(workflow)s", workflow=workflow)
        return {(one["state"], one["verdict"]) for one in found}

    # All scalars, whether the call had them in `configurable` or in `metadata`; LangGraph's, our own and tracing keys
    # apart, even where the registration's list names them.
    assert [one["configurable"] for one in calls("plain")] == [
        {**SCALARS, **OWNER, "thread_id": one["thread"]} | inner(one) for one in calls("plain")
    ]
    for one in calls("narrowed"):
        assert one["configurable"] == {"tenant": "acme", "thread_id": one["thread"]} | inner(one)
    # What is not given back is still there to look the thread up by, and every checkpoint of ours says whose it is.
    for workflow, version in (("plain", "2"), ("narrowed", "1"), ("nested", "1")):
        saved = bench.rows(SAVED, workflow=workflow)
        assert {one["root"] for one in saved} == ({True, False} if workflow == "nested" else {True})
        for one in saved:
            assert (one["workflow"], one["version"]) == (workflow, version)
            assert (one["tenant"], one["owner"], one["api_key"]) == ("acme", "ann", "sk-live-hunter2")
            assert not one["mine"]
            # The next attempt links to the application's trace as well; nothing else hangs under it.
            assert one["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            assert not one["traced_elsewhere"]
    # A superstep is saved before the next one starts.
    assert {one["saved"] for name in ("plain", "nested") for one in calls(name, "third")} == {2, 1}
    assert {one["context"] for one in calls("plain")} == {"None"}
    for workflow in ("contextual", "contextual_later"):
        assert {one["context"] for one in calls(workflow)} == {f"tenant of {workflow}_{n}" for n in range(THREADS)}
    assert outcomes("contextless") == {("failed", "LookupError")}
    assert {one["error_at"].rpartition("/")[2].partition(":")[0] for one in attempts("contextless")} == {"graphs.py"}
    assert outcomes("slow_context") == {("timed_out", None)}
    assert states("contextless") == states("slow_context") == {("quarantined", "stopped")}
    assert calls("contextless") == calls("slow_context") == []
    assert {one["store"] for one in calls("stored")} == {"from the registration's store"}
    assert {one["store"] for one in calls("plain")} == {None}
    assert len(calls("cached")) == 1
    assert outcomes("stopping") == {("waiting", None)}
    assert states("stopping") == {("held", "breakpoint")}
    assert (len(calls("stopping")), len(calls("stopping", "third"))) == (THREADS, 0)
    for workflow, limit in (("limited", 3), ("endless", 7)):
        assert outcomes(workflow) == {("failed", "GraphRecursionError")}
        assert states(workflow) == {("quarantined", "stopped")}
        # LangGraph counts two supersteps more when it goes on than when it begins.
        assert len(calls(workflow)) == (limit + 2) * THREADS
    whole = ["plain", "narrowed", "contextual", "contextual_later", "stored", "cached", "nested"]
    assert {one["outcome"] for one in bench.rows(ATTEMPTS, names=whole)} == {"finished"}
    assert {name: states(name) for name in whole} == {name: {("closed", "finished")} for name in whole}
    told = daemon.log.read_text() + httpx.get(f"http://127.0.0.1:{daemon.port}/metrics").text
    assert "LookupError" in told
    assert not [one for one in ("hunter2", "acme", "delta_days", "the application's") if one in told]
    assert len(daemon.workers()) == 1
    assert daemon.terminate() == 0


def inner(call: dict[str, Any]) -> dict[str, Any]:
    """Pick what LangGraph itself puts beside the call's scalars while a node runs."""
    return {name: value for name, value in call["configurable"].items() if name.startswith("checkpoint_")}
